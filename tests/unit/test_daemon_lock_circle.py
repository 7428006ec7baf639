"""The circle of locks: found by a blocked loop and the stack of a write, and by nothing less."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from policyfs.daemon import lock_circle
from policyfs.daemon.lock_circle import LockCircle

WAITS = "1 (a) R (b) D 1 1 1"
WRITES = """\
[<0>] folio_wait_bit_common+0x1/0x2
[<0>] handle_mm_fault+0x1/0x2
[<0>] fuse_passthrough_write_iter+0x1/0x2
"""


class Machine:
    """A directory like /proc: this process, whose loop is the present thread, and process 77."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.loop = proc / f"self/task/{threading.get_native_id()}/stat"
        self.writer = proc / "77/task/78/stack"
        for file in (self.loop, self.writer, proc / "9/task/9/stack"):
            file.parent.mkdir(parents=True)
        (proc / "uptime").touch()
        self.loop.write_text(WAITS)
        self.writer.write_text(WRITES)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(lock_circle, "WAITS_S", 0.0)
    monkeypatch.setattr(lock_circle, "LOOK_S", 3600.0)
    return Machine(tmp_path)


def circle_of(machine: Machine, ended: list[int]) -> LockCircle:
    made = LockCircle(ended.append, machine.proc)
    made.beat()
    return made


def test_the_writer_is_found(machine: Machine) -> None:
    circle = circle_of(machine, [])
    assert circle.writer() == 77
    circle.close()


def test_nobody_looks_before_the_first_beat(machine: Machine) -> None:
    assert LockCircle(print, machine.proc).writer() is None


def test_a_loop_that_went_on_a_moment_ago_waits_for_nobody(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_circle, "WAITS_S", 30.0)
    circle = circle_of(machine, [])
    assert circle.writer() is None
    circle.close()


@pytest.mark.parametrize("stat", ["", "1 (D) S 1 1 1", "1 (a) R 1 1 1"])
def test_a_loop_that_is_not_blocked_is_no_circle(machine: Machine, stat: str) -> None:
    machine.loop.write_text(stat)
    circle = circle_of(machine, [])
    assert circle.writer() is None
    circle.close()


@pytest.mark.parametrize("lacks", ["handle_mm_fault", "fuse_passthrough_write_iter"])
def test_a_write_that_waits_for_its_disk_is_no_circle(machine: Machine, lacks: str) -> None:
    machine.writer.write_text(WRITES.replace(lacks, "ext4_file_write_iter"))
    circle = circle_of(machine, [])
    assert circle.writer() is None
    circle.close()


def test_what_cannot_be_read_shows_nothing(machine: Machine) -> None:
    machine.writer.unlink()
    circle = circle_of(machine, [])
    assert circle.writer() is None
    machine.loop.unlink()
    assert circle.writer() is None
    circle.close()


def test_the_connection_is_ended_once_and_after_two_looks(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int | None] = []
    over = threading.Event()
    ended: list[int] = []
    found = iter([77, None, 78, 77, 77, 77])

    def look(_: LockCircle) -> int | None:
        looks.append(next(found))
        return looks[-1]

    def end(pid: int) -> None:
        ended.append(pid)
        over.set()

    monkeypatch.setattr(lock_circle, "LOOK_S", 0.001)
    monkeypatch.setattr(LockCircle, "writer", look)
    circle = LockCircle(end, machine.proc)
    circle.beat()
    assert over.wait(20)
    assert (ended, looks) == ([77], [77, None, 78, 77, 77])
    circle.close()


def test_without_a_thread_the_loop_goes_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", without)
    circle = circle_of(machine, [])
    circle.beat()
    assert circle.writer() == 77

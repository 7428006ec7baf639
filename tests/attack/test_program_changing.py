"""A process that executes a program closes a file of a file system that does not answer. The kernel holds a
lock of the process meanwhile, and reads of some of its files in /proc wait. The watchdog of the event loop
reads these files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from policyfs.daemon import lock_circle
from policyfs.daemon.lock_circle import Disk, LockCircle
from policyfs.linux import bounded_reads
from tests.attack.test_pages_elsewhere import ANSWER_S, ENDS_S, HANGS_S, LOG, POLICY, Stuck
from tests.support.machine.processes import Child, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.tinyfs import TinyFs, note

MEDIATED = 3
"""The node of the file /m of TinyFs."""
PROGRAMS = 3


class SilentAtClose(TinyFs):
    """It answers no FLUSH of /m until let_go()."""

    waits = 0

    async def flush(self, fh):
        if note().nodeid == MEDIATED:
            self.waits += 1
            await self.gate.wait()

    def count_waits(self) -> int:
        return self.waits


@pytest.fixture
def stuck(arena: Path) -> Iterator[Stuck]:
    made = Stuck(arena, SilentAtClose)
    yield made
    made.let_go()
    for child in made.children:
        child.kill()
    made.tiny.stop()


def _execute(channel: Connection, path: Path) -> None:
    del channel
    os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.execv("/bin/true", ["true"])


def _changing(stuck: Stuck) -> list[Child]:
    """Processes in execve(2): each waits for the file system that does not answer."""
    before = stuck.tiny.call("count_waits")
    children = [stuck.start(CAMERA, _execute, stuck.directory / "m") for _ in range(PROGRAMS)]
    wait_for(lambda: stuck.tiny.call("count_waits") == before + PROGRAMS, "they execute a program")
    return children


def _touch(channel: Connection, path: Path) -> None:
    del channel
    os.utime(path)


def _furnished(store_on: Callable[[str], Path]) -> Path:
    store = store_on("ext4")
    faulty.furnish(store)
    (store / "DCIM").chmod(0o777)
    (store / "DCIM/a.jpg").chmod(0o666)
    return store


@pytest.mark.timeout(60)
def test_processes_that_change_their_program_do_not_stop_the_watchdog(
    mounts_on, store_on: Callable[[str], Path], stuck: Stuck
) -> None:
    """Attack E5.11: Execute a program, closing a file of one's own FUSE mount that does not answer, so that
    reads of the process in `/proc` wait and the daemon sees no process that keeps a lock
    Guard: policyfs/linux/bounded_reads.py::each
    Also: tests/unit/test_daemon_lock_circle.py::test_many_of_them_are_the_end_of_the_connection
    Without: ::test_all_wait_where_the_watchdog_reads_them_itself
    """
    mount = mounts_on.prepare(POLICY, _furnished(store_on))
    mount.program = ("tests.support.mount.short_waits",)
    mount.expected_log.extend(LOG)
    mount.start()
    changing = _changing(stuck)
    user = stuck.use(mount / "DCIM/a.jpg", os.O_RDWR)
    changing += _changing(stuck)
    changer = stuck.start(GALLERY, _touch, mount / "DCIM/a.jpg")
    try:
        assert user.channel.poll(ENDS_S), "nobody has killed it"
    finally:
        stuck.let_go()
    with pytest.raises(AssertionError, match="wait status 9"):
        user.result()
    changer.result(ANSWER_S)


@pytest.mark.timeout(60)
def test_all_wait_where_the_watchdog_reads_them_itself(
    without: Callable[..., Mount], store_on: Callable[[str], Path], stuck: Stuck
) -> None:
    mount = without("proc-unbounded", POLICY, _furnished(store_on))
    _changing(stuck)
    user = stuck.use(mount / "DCIM/a.jpg", os.O_RDWR)
    changer = stuck.start(GALLERY, _touch, mount / "DCIM/a.jpg")
    assert not user.channel.poll(HANGS_S), "it was killed"
    assert not changer.channel.poll(), "it does not wait"
    stuck.let_go()
    user.result()
    changer.result(ANSWER_S)


@pytest.mark.alone
@pytest.mark.timeout(60)
def test_each_costs_one_wait_in_all(stuck: Stuck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_reads, "WAIT_S", 0.3)
    monkeypatch.setattr(lock_circle, "_waits_for_page", bool)  # each thread whose stack was read
    circle = LockCircle(lambda pid, waited_s: True, print, lambda pid: False, Disk(Path("/absent")))
    changing = {child.pid for child in _changing(stuck)}
    seen, took_s = [], []
    for _ in range(2):
        began_s = time.monotonic()
        seen.append({pid for pid, _ in circle._writers()})
        took_s.append(time.monotonic() - began_s)
    assert took_s[0] >= PROGRAMS * 0.3
    assert took_s[1] <= took_s[0] - PROGRAMS * 0.2
    for pids in seen:
        assert stuck.tiny.child.pid in pids
        assert not changing & pids

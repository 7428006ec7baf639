"""Locks between daemons: latches, had once, and marks; both are given up at the end of a process."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from policyfs.linux.statx import fstatx
from policyfs.store.locking import latches as latches_module
from policyfs.store.locking.latches import HeldFiles, Latches
from tests.support.machine.processes import start_as, wait_for


@pytest.fixture
def lock(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture
def fd(tmp_path: Path):
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_one_daemon_has_it_at_a_time_of_each_file(lock: str, fd: int, tmp_path: Path) -> None:
    here, there = Latches(lock), Latches(lock)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    at = here.take(fd)
    assert at is not None
    assert there.take(fd) is None
    assert there.take(other) is not None
    here.give(at)
    assert there.take(fd) is not None
    assert os.stat(lock).st_mode & 0o777 == 0o600
    for latches in (here, there):
        latches.close()
        latches.close()
    os.close(other)


def test_a_dead_daemon_has_none(lock: str, fd: int) -> None:
    def hold(channel) -> None:
        channel.send(Latches(lock).take(fd) is not None)
        channel.recv()

    holder, latches = start_as(0, hold), Latches(lock)
    assert holder.receive()
    assert latches.take(fd) is None
    holder.kill()
    assert wait_for(lambda: latches.take(fd) is not None, "the latch is free")
    latches.close()


def test_locks_in_a_store_come_again_after_its_server(lock: str) -> None:
    """A server that was started anew answers EBADF for what was opened before."""
    Path(lock).touch()
    here, there = Latches(lock, in_store=True), Latches(lock, in_store=True)

    def forget() -> None:
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{fd}") == lock:
                    useless = os.open(lock, os.O_RDONLY)
                    os.dup2(useless, int(fd))
                    os.close(useless)

    forget()
    assert here.take_number(1)
    forget()
    assert here.take_number(2)
    assert not there.take_number(1), "it has been taken again"
    forget()
    here.give(1)  # the change is done: no error
    assert there.take_number(1)
    forget()
    os.unlink(lock)
    with pytest.raises(OSError, match="not there"):
        there.take_number(3)
    assert not os.path.exists(lock), "an empty directory is no store"
    for latches in (here, there):
        latches.close()


def test_who_finds_the_shared_file_removed_makes_a_new_one(lock: str, fd: int) -> None:
    here, there = Latches(lock), Latches(lock)
    at = here.take(fd)
    assert at is not None
    here.give(at)
    os.unlink(lock)
    assert there.take(fd) is not None
    assert here.take(fd) is None
    here.close()
    there.close()


def test_latches_go_on_in_a_file_whose_directory_was_removed(fd: int, tmp_path: Path) -> None:
    """Else no app could change a name any more. No other daemon can open another file there."""
    directory = tmp_path / "run"
    directory.mkdir()
    path = str(directory / "lock")
    here, there = Latches(path), Latches(path)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    at = here.take(fd)
    assert at is not None
    os.unlink(path)
    directory.rmdir()
    assert here.take(other) is not None
    assert there.take(other) is None
    assert there.take(fd) is None, "the latch is held"
    here.give(at)
    assert there.take(fd) is not None
    for latches in (here, there):
        latches.close()
    os.close(other)


def test_latches_are_held_in_the_new_file_too(lock: str, fd: int, tmp_path: Path) -> None:
    here = Latches(lock)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    at = here.take(fd)
    assert at is not None
    os.unlink(lock)
    assert here.take(other) is not None
    there = Latches(lock)
    assert there.take(fd) is None
    here.give(at)
    assert there.take(fd) is not None
    for latches in (here, there):
        latches.close()
    os.close(other)


def test_no_latch_is_taken_in_a_new_file_in_which_another_daemon_has_one_of_ours(
    lock: str, fd: int, tmp_path: Path
) -> None:
    here = Latches(lock)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    at = here.take(fd)
    assert at is not None
    os.unlink(lock)
    there = Latches(lock)
    theirs = there.take(fd)
    assert theirs is not None, "nothing in the new file tells of the latch"
    before = os.listdir("/proc/self/fd")
    assert here.take(other) is None
    assert os.listdir("/proc/self/fd") == before
    there.give(theirs)
    assert here.take(other) is not None
    assert there.take(fd) is None
    for latches in (here, there):
        latches.close()
    os.close(other)


def test_nothing_is_released_without_a_file(lock: str, fd: int) -> None:
    latches = Latches(lock)
    at = latches.take(fd)
    assert at is not None
    latches.close()
    latches.give(at)


def test_each_daemon_sees_the_marks_of_all_others(lock: str, fd: int, tmp_path: Path) -> None:
    here, there, third = (HeldFiles(lock) for _ in range(3))
    stat, beside = fstatx(fd), os.open(tmp_path / "beside", os.O_RDWR | os.O_CREAT)
    at = here.mark(fd)
    assert at == there.mark(fd)
    assert not third.is_held_elsewhere(fstatx(beside))
    there.unmark(at)
    assert not here.is_held_elsewhere(stat)
    assert there.is_held_elsewhere(stat)
    assert third.is_held_elsewhere(stat)
    assert os.stat(lock).st_mode & 0o777 == 0o600
    here.close()
    assert not third.is_held_elsewhere(stat)
    here.unmark(at)
    for held in (here, there, third):
        held.close()
    os.close(beside)


def test_a_file_is_marked_until_the_last_mark_is_taken_back(lock: str, fd: int) -> None:
    """Two views of one file may have held bytes."""
    here, there, stat = HeldFiles(lock), HeldFiles(lock), fstatx(fd)
    marks = [here.mark(fd), here.mark(fd)]
    here.unmark(marks[0])
    assert there.is_held_elsewhere(stat)
    here.unmark(marks[1])
    assert not there.is_held_elsewhere(stat)
    here.close()
    there.close()


def test_a_dead_daemon_has_marked_nothing(lock: str, fd: int) -> None:
    def hold(channel) -> None:
        channel.send(HeldFiles(lock).mark(fd))
        channel.recv()

    holder, held, stat = start_as(0, hold), HeldFiles(lock), fstatx(fd)
    holder.receive()
    assert held.is_held_elsewhere(stat)
    holder.kill()
    assert wait_for(lambda: not held.is_held_elsewhere(stat), "the mark is gone")
    held.close()


def test_marks_move_into_the_next_shared_file(lock: str, fd: int, tmp_path: Path) -> None:
    """Who marks a file finds the shared file removed."""
    here, stat = HeldFiles(lock), fstatx(fd)
    here.mark(fd)
    os.unlink(lock)
    beside = os.open(tmp_path / "beside", os.O_RDWR | os.O_CREAT)
    here.mark(beside)
    there = HeldFiles(lock)
    assert there.is_held_elsewhere(stat)
    assert there.is_held_elsewhere(fstatx(beside))
    here.close()
    there.close()
    os.close(beside)


def test_who_asks_sees_the_marks_in_the_next_shared_file_too(lock: str, fd: int, tmp_path: Path) -> None:
    """A daemon that holds no bytes asks, and marks nothing: it would look into the removed file for ever."""
    here, there = HeldFiles(lock), HeldFiles(lock)
    beside = os.open(tmp_path / "beside", os.O_RDWR | os.O_CREAT)
    here.mark(beside)
    os.unlink(lock)
    assert there.is_held_elsewhere(fstatx(beside)), "in the removed file"
    here.mark(fd)
    assert there.is_held_elsewhere(fstatx(fd))
    assert there.is_held_elsewhere(fstatx(beside))
    here.close()
    there.close()
    os.close(beside)


def test_files_are_free_if_the_directory_of_the_shared_file_is_gone(fd: int, tmp_path: Path) -> None:
    """No daemon can have marked anything since: no rename is refused."""
    run = tmp_path / "run"
    run.mkdir()
    here, there = (HeldFiles(str(run / "lock")) for _ in range(2))
    at = here.mark(fd)
    (run / "lock").unlink()
    run.rmdir()
    assert there.is_held_elsewhere(fstatx(fd))
    here.unmark(at)
    assert not there.is_held_elsewhere(fstatx(fd))
    here.close()
    there.close()


def test_without_the_shared_file_nothing_is_marked_and_nothing_called_free(fd: int, tmp_path: Path) -> None:
    held = HeldFiles(str(tmp_path / "absent/lock"))
    with pytest.raises(FileNotFoundError):
        held.mark(fd)
    with pytest.raises(FileNotFoundError):
        held.is_held_elsewhere(fstatx(fd))
    (tmp_path / "absent").mkdir()
    assert not held.is_held_elsewhere(fstatx(fd))
    held.close()


def test_what_cannot_be_marked_is_not_called_marked(
    lock: str, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = HeldFiles(lock), HeldFiles(lock)
    with monkeypatch.context() as patched:
        patched.setattr(latches_module, "set_byte_lock", lambda *asked: False)
        with pytest.raises(OSError) as full:
            here.mark(fd)
    assert full.value.errno == errno.ENOLCK
    at = here.mark(fd)
    assert there.is_held_elsewhere(fstatx(fd))
    here.unmark(at)
    here.close()
    there.close()

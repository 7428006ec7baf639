"""Large files without a name are freed on threads, all others at once."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
import trio

from policyfs.store import freeing
from policyfs.store.frozen import Frozen, Version
from tests.support.machine.processes import wait_for
from tests.support.mount.file_system import on_trio

LARGE = bytes(64 * 1024)


@pytest.fixture
def closes(monkeypatch) -> list[bool]:
    """For each descriptor of a file: True if the thread of the event loop closed it."""
    noted: list[bool] = []
    close = os.close

    def note(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith("/"):
            noted.append(threading.current_thread() is threading.main_thread())
        close(fd)

    monkeypatch.setattr(freeing, "LARGE_BYTES", 4096)
    monkeypatch.setattr(os, "close", note)
    return noted


def nameless(directory: Path, data: bytes) -> int:
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, data)
    return fd


def is_closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        return error.errno == errno.EBADF
    return False


@on_trio
async def test_a_large_file_without_a_name_is_freed_on_a_thread(tmp_path: Path, closes: list[bool]) -> None:
    fd = nameless(tmp_path, LARGE)
    freeing.close(fd)
    wait_for(lambda: is_closed(fd), "the file is closed")
    assert closes == [False]
    fd = nameless(tmp_path, LARGE)
    await freeing.closed(fd)
    assert is_closed(fd), "its room is free by now"
    assert closes == [False, False]


@on_trio
async def test_all_others_are_closed_at_once(tmp_path: Path, closes: list[bool]) -> None:
    (tmp_path / "named").write_bytes(LARGE)
    for fd in (nameless(tmp_path, b"small"), os.open(tmp_path / "named", os.O_PATH)):
        freeing.close(fd)
        assert is_closed(fd)
    fd = nameless(tmp_path, b"small")
    await freeing.closed(fd)
    assert closes == [True, True, True]


@on_trio
async def test_without_a_thread_it_is_freed_at_once(tmp_path: Path, closes: list[bool], monkeypatch) -> None:
    def without(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def without_either(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", without)
    for _ in range(20):  # a failed start takes no place from later ones
        freeing.close(nameless(tmp_path, LARGE))
    monkeypatch.undo()
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4096)
    fd = nameless(tmp_path, LARGE)
    monkeypatch.setattr(trio.to_thread, "run_sync", without_either)
    await freeing.closed(fd)
    assert is_closed(fd)
    assert closes == [True] * 20
    fd, started = nameless(tmp_path, LARGE), threading.Event()
    start = trio.lowlevel.start_thread_soon

    def noted(*arguments) -> None:
        started.set()
        start(*arguments)

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", noted)
    freeing.close(fd)
    assert started.is_set()
    wait_for(lambda: is_closed(fd), "the file is closed")


@on_trio
async def test_many_at_once_take_few_threads(tmp_path: Path, closes: list[bool], monkeypatch) -> None:
    """Nobody waits for these threads, so no limiter of trio counts them."""
    held: list[tuple] = []
    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", lambda *arguments: held.append(arguments))
    fds = [nameless(tmp_path, LARGE) for _ in range(20)]
    for fd in fds:
        freeing.close(fd)
    assert len(held) == 8
    while held:
        call, done = held.pop()
        done(call())
        assert len(held) <= 8
    assert all(map(is_closed, fds))
    assert not freeing._waiting


@on_trio
async def test_a_cancelled_caller_leaves_no_descriptor(tmp_path: Path, closes: list[bool]) -> None:
    fd = nameless(tmp_path, LARGE)
    with trio.CancelScope() as scope:
        scope.cancel()
        await freeing.closed(fd)
    assert is_closed(fd)
    assert closes == [False]


def test_a_cut_frees_what_is_cut_off(tmp_path: Path, monkeypatch) -> None:
    from policyfs.linux.libc import fallocate
    from policyfs.linux.statx import fstatx
    from policyfs.store.ranges import KEEP_SIZE

    monkeypatch.setattr(freeing, "LARGE_BYTES", 32 * 1024)
    with (tmp_path / "file").open("wb") as file:
        file.write(LARGE)
        file.flush()
        os.fsync(file.fileno())
        stat = fstatx(file.fileno())
        assert freeing.is_much(stat)
        assert freeing.is_much(stat, 4096)
        assert not freeing.is_much(stat, 1 << 30)
        os.truncate(file.fileno(), 0)
        os.truncate(file.fileno(), 1 << 30)  # a hole takes no room
        assert not freeing.is_much(fstatx(file.fileno()))
        os.truncate(file.fileno(), 0)
        fallocate(file.fileno(), KEEP_SIZE, 0, 64 * 1024)  # all of it lies beyond the end
        assert freeing.is_much(fstatx(file.fileno()))


@on_trio
async def test_a_file_that_its_server_has_lost_is_closed_all_the_same(
    tmp_path: Path, closes: list[bool], monkeypatch
) -> None:
    fds = [nameless(tmp_path, LARGE) for _ in range(2)]
    known = os.fstat

    def lost(fd: int) -> os.stat_result:
        if fd in fds:
            raise OSError(errno.ESTALE, "Stale file handle")
        return known(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lost)
        freeing.close(fds[0])
        await freeing.closed(fds[1])
    assert all(map(is_closed, fds))


@on_trio
async def test_a_large_copy_is_freed_on_a_thread(tmp_path: Path, closes: list[bool]) -> None:
    """btrfs needs 120 ms to free a clone with 20,000 extents, and an app can make a file of so many."""
    for data, on_loop in ((b"small", True), (LARGE, False)):
        fd = nameless(tmp_path, data)
        Frozen(fd, "reflink", len(data), Version(len(data), 0, 0)).close()
        wait_for(lambda fd=fd: is_closed(fd), "the copy to be closed")
        assert closes == [on_loop]
        closes.clear()

"""Locks for changes to one file: between daemons, and between the loop and threads of this one."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.checked import change_lock
from policyfs.fs.checked.change_lock import ChangeLock, patiently
from policyfs.store.locking.latches import Latches
from tests.support.mount.file_system import on_trio


@pytest.fixture
def latches(tmp_path: Path) -> Iterator[tuple[Latches, Latches]]:
    """Those of two daemons."""
    made = Latches(str(tmp_path / "lock")), Latches(str(tmp_path / "lock"))
    yield made
    for one in made:
        one.close()


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield made
    os.close(made)


async def entered(lock: ChangeLock, fd: int) -> str:
    try:
        async with lock.on(fd):
            return "in"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def test_nobody_waits_for_ever(latches: tuple[Latches, Latches], fd: int) -> None:
    here, there = latches
    alone = ChangeLock(there)

    async def in_thread() -> str:
        try:
            return await alone.in_thread(fd, lambda: None, lambda: "in")
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    async def main() -> None:
        at = here.take(fd)
        assert at is not None
        assert await entered(alone, fd) == "EBUSY"
        assert await in_thread() == "EBUSY"
        here.give(at)
        assert await entered(alone, fd) == "in"
        assert await in_thread() == "in"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_another_daemon_is_kept_out_until_the_last_change_on_the_loop_ends(
    latches: tuple[Latches, Latches], fd: int
) -> None:
    here, there = latches
    lock = ChangeLock(here)

    @on_trio
    async def run() -> None:
        async with lock.on(fd), lock.on(fd):
            assert there.take(fd) is None
        at = there.take(fd)
        assert at is not None
        there.give(at)
        with pytest.raises(KeyError):
            async with lock.on(fd):
                raise KeyError
        assert there.take(fd) is not None

    run()


def test_another_daemon_is_kept_out_between_changes_that_belong_together(
    latches: tuple[Latches, Latches], fd: int
) -> None:
    here, there = latches
    lock = ChangeLock(here)

    @on_trio
    async def run() -> None:
        async with lock.apart(fd):
            for _ in range(2):
                assert await lock.in_thread(fd, lambda: None, lambda: there.take(fd)) is None
                assert there.take(fd) is None
                assert await entered(lock, fd) == "in"
                assert there.take(fd) is None
        with pytest.raises(KeyError):
            async with lock.apart(fd):
                raise KeyError
        assert there.take(fd) is not None

    run()


def test_while_a_thread_changes_a_file_the_loop_waits_and_others_files_do_not(
    latches: tuple[Latches, Latches], fd: int, tmp_path: Path
) -> None:
    here, there = latches
    lock, go, order = ChangeLock(here), threading.Event(), list[str]()
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)

    started = trio.Event()

    def change() -> str:
        order.append("thread")
        trio.from_thread.run_sync(started.set)
        assert go.wait(10)
        order.append("end of the thread")
        return "changed"

    @on_trio
    async def run() -> None:
        async def threaded() -> None:
            assert await lock.in_thread(fd, lambda: order.append("fence"), change) == "changed"

        async def on_loop() -> None:
            async with lock.on(fd):
                order.append("loop")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(threaded)
            await started.wait()
            nursery.start_soon(on_loop)
            await trio.sleep(0.01)
            assert await entered(lock, other) == "in"
            assert there.take(fd) is None
            go.set()
        assert order == ["fence", "thread", "end of the thread", "loop"]
        assert there.take(fd) is not None

    run()
    os.close(other)


def test_a_fence_or_a_change_that_fails_gives_the_file_back(
    latches: tuple[Latches, Latches], fd: int
) -> None:
    here, there = latches
    lock = ChangeLock(here)

    def fail() -> None:
        raise PermissionError(errno.EPERM, "no")

    @on_trio
    async def run() -> None:
        for fence, change in ((fail, lambda: None), (lambda: None, fail)):
            with pytest.raises(PermissionError):
                await lock.in_thread(fd, fence, change)
            assert await entered(lock, fd) == "in"
        assert there.take(fd) is not None

    run()


@pytest.mark.parametrize("ends", [False, True])
def test_a_patient_change_waits_for_another_daemon_until_the_mount_ends(
    latches: tuple[Latches, Latches], fd: int, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr(change_lock, "_WAIT_S", 0.05)
    here, there = latches
    over = trio.Event()
    lock, found = ChangeLock(here, over.is_set), list[str]()

    async def on_loop() -> None:
        with patiently():
            async with lock.on(fd):
                found.append("in")

    async def in_thread() -> None:
        with patiently():
            found.append(await lock.in_thread(fd, lambda: None, lambda: "in"))

    async def in_pieces() -> None:
        with patiently():
            async with lock.apart(fd):
                found.append("in")

    async def waiting(change: Callable[[], Awaitable[None]]) -> None:
        try:
            await change()
        except OSError as error:
            found.append(errno.errorcode[error.errno or 0])

    @on_trio
    async def run() -> None:
        at = there.take(fd)
        assert at is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting, on_loop)
            nursery.start_soon(waiting, in_thread)
            nursery.start_soon(waiting, in_pieces)
            await trio.sleep(0.2)
            assert found == []
            if ends:
                over.set()
            else:
                there.give(at)

    run()
    assert found == (["EBUSY"] * 3 if ends else ["in"] * 3)


@pytest.mark.parametrize("patient", [True, False])
def test_a_long_wait_for_a_change_that_nobody_can_try_again_is_warned_of_once(
    latches: tuple[Latches, Latches], fd: int, patient: bool
) -> None:
    warned: list[bytes] = []
    here, there = latches
    lock = ChangeLock(there, warn=lambda _what, path: warned.append(path))

    async def enter() -> str:
        try:
            with patiently() if patient else contextlib.nullcontext():
                async with lock.on(fd):
                    return "in"
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    async def main() -> None:
        at = here.take(fd)
        assert at is not None
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def wait() -> None:
                assert await enter() == ("in" if patient else "EBUSY")

            await trio.sleep(5 * change_lock._WAIT_S)
            here.give(at)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert warned == ([os.readlink(f"/proc/self/fd/{fd}".encode())] if patient else [])

"""Locks for names, between two daemons of one machine."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.sharing.kernel_locks import KernelLocks, LateError
from policyfs.fs.sharing.name_lock import NameLock
from policyfs.store.locking.latches import Latches
from policyfs.store.store_record import marker_file
from tests.support.mount.untrue import untrue


class Daemons:
    """The locks of two daemons with one file of latches, and a directory of the store."""

    def __init__(self, place: Path) -> None:
        (place / "other").mkdir()
        self.dirfd, self.other = (os.open(path, os.O_PATH) for path in (place, place / "other"))
        self.latches = [Latches(str(place / "names")) for _ in range(2)]
        self.limits = KernelLocks()
        self.here, self.there = (NameLock(one, self.limits) for one in self.latches)

    def close(self) -> None:
        for latches in self.latches:
            latches.close()
        for fd in (self.dirfd, self.other):
            os.close(fd)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Daemons]:
    made = Daemons(tmp_path)
    yield made
    made.close()


async def _waits(lock: NameLock, *names: tuple[int, bytes]) -> bool:
    with trio.move_on_after(0.01):
        async with lock.on("app", *names) as has_waited:
            return has_waited
    return True


def test_a_name_is_locked_in_its_directory_and_all_names_are_free_afterwards(two: Daemons) -> None:
    a, b = (two.dirfd, b"a"), (two.dirfd, b"b")

    async def main() -> None:
        async with two.here.on("app", a, b) as has_waited:
            assert not has_waited
            assert await _waits(two.there, a)
            assert await _waits(two.there, (two.dirfd, b"c"), b)
            assert not await _waits(two.there, (two.dirfd, b"c"))
            assert not await _waits(two.there, (two.other, b"a"))
        assert not await _waits(two.there, b, a)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_name_can_be_both_names_of_a_rename(two: Daemons) -> None:
    async def main() -> None:
        assert not await _waits(two.here, (two.dirfd, b"a"), (two.dirfd, b"a"))
        assert not await _waits(two.there, (two.dirfd, b"a"))

    trio.run(main)


@pytest.mark.parametrize("freed", [True, False])
def test_a_daemon_that_has_waited_says_so_and_none_waits_for_ever(two: Daemons, *, freed: bool) -> None:
    a = (two.dirfd, b"a")

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def holds() -> None:
                async with two.here.on("app", a):
                    await trio.sleep(1 if freed else 100)

            nursery.start_soon(holds)
            await trio.testing.wait_all_tasks_blocked()
            if freed:
                async with two.there.on("app", a) as has_waited:
                    assert has_waited
            else:
                with pytest.raises(OSError, match="another mount") as caught:
                    await two.there.on("app", a).__aenter__()
                assert caught.value.errno == errno.EBUSY
                assert trio.current_time() < 10

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_request_under_a_lock_of_the_kernel_waits_a_moment_only(two: Daemons) -> None:
    a = (two.dirfd, b"a")

    async def main() -> None:
        async with two.here.on("app", a):
            with two.limits.under_lock(errno.EIO), pytest.raises(LateError) as caught:
                await two.there.on("app", a).__aenter__()
            assert caught.value.errno == errno.EBUSY

    trio.run(main)


@pytest.mark.mount
def test_a_name_is_locked_between_machines_by_a_file_in_the_store(tmp_path: Path) -> None:
    """Each machine has a file of its own for its daemons, and a device number of its own for the store."""
    with untrue(tmp_path, machines=2) as stores, contextlib.ExitStack() as stack:
        (stores[0] / "policyfs-aside-store-1").touch()
        locks, limits = [], KernelLocks()
        for number, store in enumerate(stores):
            own, shared = Latches(str(tmp_path / f"names-{number}")), marker_file(str(store))
            assert shared is not None
            in_store = Latches(shared)
            stack.callback(own.close)
            stack.callback(in_store.close)
            locks.append((NameLock(own, limits, in_store), os.open(store, os.O_PATH)))
            stack.callback(os.close, locks[-1][1])
        (here, one), (there, two) = locks

        async def main() -> None:
            async with here.on("app", (one, b"a")):
                assert await _waits(there, (two, b"a"))
                assert not await _waits(there, (two, b"b"))
            assert not await _waits(there, (two, b"a"))

        trio.run(main)

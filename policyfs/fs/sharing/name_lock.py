"""Locks for names, between daemons: no other daemon removes or renames what has the name.

unlink(2) and rename(2) take names, but a decision may count for one certain file. So a daemon looks at a name
and changes it under the name's lock (docs/decisions/0061-names-are-locked.md). Within one daemon nothing
changes a name in between, because there is no await.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Hashable
from typing import Final

import trio

from policyfs.fs.sharing.kernel_locks import KernelLocks
from policyfs.kernel import vectors
from policyfs.store.locking.latches import Latches

_Wanted = tuple[Latches, int]
"""A lock: its file, and its number."""
_WAIT_S: Final = 5.0
"""The longest wait for another daemon. A change takes some system calls, and seldom a moment for a record."""
_PAUSE_S: Final = 0.0005


class NameLock:
    """The locks of names that one daemon takes. latches: of a file of this machine for names alone. locks:
    limits waits. in_store: of a file in the store, by which daemons of other machines are excluded, too."""

    def __init__(self, latches: Latches, locks: KernelLocks, in_store: Latches | None = None) -> None:
        self._latches = latches
        self._locks = locks
        self._in_store = in_store
        latches.tell(vectors.lock_names_in)

    def on(self, holder: Hashable, *names: tuple[int, bytes]) -> _Locked:
        """Keep all other daemons from changes of these names. names: a directory's descriptor and a name.
        The value is True if this daemon had to wait: then facts of the decision may be outdated.

        INVARIANT: the caller does not await inside the context. Inside, the caller asks again for the
        directory's descriptor, and checks which objects have the names, since entering the context may wait.
        Raise OSError(EBUSY) if another daemon does not finish its change in time.
        """
        return _Locked(self, holder, names)

    def wanted(self, names: tuple[tuple[int, bytes], ...]) -> list[_Wanted]:
        """Return the locks of names, in the order in which all daemons take them."""
        numbers = {_number(*name) for name in names}
        wanted = [(self._latches, at) for at in sorted(numbers)]
        if self._in_store is not None:  # where each machine has a device number of its own for the store
            shared = {vectors.name_number(0, os.fstat(dirfd).st_ino, name) for dirfd, name in names}
            wanted += [(self._in_store, at) for at in sorted(shared)]
        return wanted

    async def wait(self, holder: Hashable, wanted: list[_Wanted]) -> bool:
        """Take these locks when another daemon gives them. Return True. Raises as on()."""
        async with self._locks.limit(holder, errno.EBUSY):
            await self._wait(wanted)
        return True

    def give(self, wanted: list[_Wanted]) -> None:
        """Release these locks."""
        for latches, at in wanted:
            latches.give(at)

    async def _wait(self, wanted: list[_Wanted]) -> None:
        until = trio.current_time() + _WAIT_S
        while trio.current_time() < until:
            await trio.sleep(_PAUSE_S)
            if self.take(wanted):
                return
        raise OSError(errno.EBUSY, "the daemon of another mount is still changing this name")

    def take(self, wanted: list[_Wanted]) -> bool:
        """Take all latches or none, so that two daemons never wait for each other."""
        for count, (latches, at) in enumerate(wanted):
            if not latches.take_number(at):
                self.give(wanted[:count])
                return False
        return True


class _Locked:
    __slots__ = ("_holder", "_lock", "_names", "_wanted")

    def __init__(self, lock: NameLock, holder: Hashable, names: tuple[tuple[int, bytes], ...]) -> None:
        self._lock = lock
        self._holder = holder
        self._names = names
        self._wanted: list[_Wanted] = []

    async def __aenter__(self) -> bool:
        self._wanted = wanted = self._lock.wanted(self._names)
        return False if self._lock.take(wanted) else await self._lock.wait(self._holder, wanted)

    async def __aexit__(self, *_error: object) -> None:
        self._lock.give(self._wanted)


def _number(dirfd: int, name: bytes) -> int:
    status = os.fstat(dirfd)
    return vectors.name_number(status.st_dev, status.st_ino, name)

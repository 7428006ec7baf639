"""Locks for names, between the daemons of one machine: no other daemon removes or renames what has the name.

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

_WAIT_S: Final = 5.0
"""The longest wait for another daemon. A change takes some system calls, and seldom a moment for a record."""
_PAUSE_S: Final = 0.0005


class NameLock:
    """The locks of names that one daemon takes. latches: of a file for names alone. locks: limits waits."""

    def __init__(self, latches: Latches, locks: KernelLocks) -> None:
        self._latches = latches
        self._locks = locks
        latches.tell(vectors.lock_names_in)

    def on(self, holder: Hashable, *names: tuple[int, bytes]) -> _Locked:
        """Keep all other daemons from changes of these names. names: a directory's descriptor and a name.
        The value is True if this daemon had to wait: then facts of the decision may be outdated.

        INVARIANT: the caller does not await inside the context. Inside, the caller asks again for the
        directory's descriptor, and checks which objects have the names, since entering the context may wait.
        Raise OSError(EBUSY) if another daemon does not finish its change in time.
        """
        return _Locked(self, holder, names)

    async def wait(self, holder: Hashable, wanted: list[int]) -> bool:
        """Take the locks with these numbers when another daemon gives them. Return True. Raises as on()."""
        async with self._locks.limit(holder, errno.EBUSY):
            await self._wait(wanted)
        return True

    def give(self, wanted: list[int]) -> None:
        """Release the locks with these numbers."""
        for at in wanted:
            self._latches.give(at)

    async def _wait(self, wanted: list[int]) -> None:
        until = trio.current_time() + _WAIT_S
        while trio.current_time() < until:
            await trio.sleep(_PAUSE_S)
            if self.take(wanted):
                return
        raise OSError(errno.EBUSY, "the daemon of another mount is still changing this name")

    def take(self, wanted: list[int]) -> bool:
        """Take all latches or none, so that two daemons never wait for each other."""
        for count, at in enumerate(wanted):
            if not self._latches.take_number(at):
                self.give(wanted[:count])
                return False
        return True


class _Locked:
    __slots__ = ("_holder", "_lock", "_names", "_wanted")

    def __init__(self, lock: NameLock, holder: Hashable, names: tuple[tuple[int, bytes], ...]) -> None:
        self._lock = lock
        self._holder = holder
        self._names = names
        self._wanted: list[int] = []

    async def __aenter__(self) -> bool:
        names = self._names
        wanted = [_number(*names[0])] if len(names) == 1 else sorted({_number(*name) for name in names})
        self._wanted = wanted
        return False if self._lock.take(wanted) else await self._lock.wait(self._holder, wanted)

    async def __aexit__(self, *_error: object) -> None:
        self._lock.give(self._wanted)


def _number(dirfd: int, name: bytes) -> int:
    status = os.fstat(dirfd)
    return vectors.name_number(status.st_dev, status.st_ino, name)

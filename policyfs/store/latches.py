"""Inter-daemon locks: serialise changes to one file between the daemons of this machine.

A checked write is safe only if the file still has the bytes that were checked. Within one daemon nothing
changes between the last check and the write, because there is no await between them. This lock ensures the
same for two daemons of one store (or of a directory in it).

It is not a lock of the checked file: such locks belong to apps, and to programs that work in the store.
It is an OFD lock of one byte of a file in the directory of control sockets. A daemon's death
releases it, and only root can take it. It does not exclude daemons with another directory of control
sockets, such as those of other machines that use the same network store.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from policyfs.store.ofd import UNLCK, WRLCK, Asked, Owner, set_lock

_OURS: Final = Owner(0, flock=False)
_BYTES: Final = (1 << 62) - 1
_SPREAD: Final = 0x9E3779B97F4A7C15


class Latches:
    """The locks of one daemon, in the file *path*, which is created if missing.

    INVARIANT: a latch does not exclude other tasks of the same daemon (fs/checked/change_lock.py does that).
    If a daemon takes a latch twice, its first give() releases it.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        with contextlib.suppress(OSError):  # the first take() reports it
            self._open()

    def _open(self) -> None:
        self.close()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    @staticmethod
    def number(fd: int) -> int:
        """Return the number of the latch for the file behind *fd*."""
        status = os.fstat(fd)
        return (status.st_dev * _SPREAD + status.st_ino) & _BYTES

    def take(self, fd: int) -> int | None:
        """Take the latch of the file behind *fd*. Return its number, or None if another daemon has it.

        Raises OSError if the shared file cannot be opened.
        """
        if self._fd < 0 or not os.fstat(self._fd).st_nlink:
            self._open()
        at = self.number(fd)
        return at if set_lock(self._fd, _OURS, Asked(at, at, WRLCK, 0)) else None

    def give(self, at: int) -> None:
        """Release a latch. *at*: its number."""
        set_lock(self._fd, _OURS, Asked(at, at, UNLCK, 0))

    def close(self) -> None:
        """Close the shared file, which releases all its locks; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

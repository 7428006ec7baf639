"""One change at a time of a file that several daemons serve: locks in a file that they share.

A write that was judged is right only on the bytes that it was judged on. In one daemon nothing
comes between a last look and the write where nothing is awaited in between; between two daemons
of one store (or of a directory in it) this lock sees to it.

It is not a lock of the file itself: those belong to apps, and to programs that work in the store.
It is one byte of a file in the directory of control sockets, an OFD lock: a daemon's death gives it
up, and nobody but root can have it. Daemons that do not share that directory (other machines on
one network store) are not kept apart.
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
    """The locks of one daemon, in the file *path*, which is made where it is missing.

    INVARIANT: the tasks of a daemon are not kept apart by a latch (fs/checked/change_lock.py does that): what
    has it twice gives it up with the first give().
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        with contextlib.suppress(OSError):  # said by the first who needs it
            self._open()

    def _open(self) -> None:
        self.close()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    @staticmethod
    def number(fd: int) -> int:
        """The number of the latch for the file behind *fd*."""
        status = os.fstat(fd)
        return (status.st_dev * _SPREAD + status.st_ino) & _BYTES

    def take(self, fd: int) -> int | None:
        """The latch of the file behind *fd*, for give(); None while another daemon has it.

        Raises OSError where the shared file cannot be opened.
        """
        if self._fd < 0 or not os.fstat(self._fd).st_nlink:
            self._open()
        at = self.number(fd)
        return at if set_lock(self._fd, _OURS, Asked(at, at, WRLCK, 0)) else None

    def give(self, at: int) -> None:
        """Give a latch back."""
        set_lock(self._fd, _OURS, Asked(at, at, UNLCK, 0))

    def close(self) -> None:
        """Give up the shared file, and all that is held in it; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

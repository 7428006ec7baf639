"""Non-blocking locks of an open file description: fcntl(2) F_OFD_*, flock(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from policyfs.store.spans import LAST_BYTE

RDLCK: Final = int(fcntl.F_RDLCK)
WRLCK: Final = int(fcntl.F_WRLCK)
UNLCK: Final = int(fcntl.F_UNLCK)

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of a 64-bit system
_FLOCK_HOW: Final = {RDLCK: fcntl.LOCK_SH, WRLCK: fcntl.LOCK_EX, UNLCK: fcntl.LOCK_UN}


class Owner(NamedTuple):
    """A lock's owner. number: the kernel's number. flock: True for locks by flock(2), on the whole file."""

    number: int
    flock: bool


class Asked(NamedTuple):
    """A lock request of the process *pid* for the bytes from start to end, both included. end: LAST_BYTE for
    all bytes from start on. kind: RDLCK, WRLCK or UNLCK."""

    start: int
    end: int
    kind: int
    pid: int


class Blocker(NamedTuple):
    """A conflicting lock. pid: the process that has the lock; 0 if the kernel does not tell."""

    start: int
    end: int
    kind: int
    pid: int


def set_lock(fd: int, owner: Owner, asked: Asked) -> bool:
    """Set or release a lock of the open file description *fd*, without waiting.

    Return False if another lock conflicts. Raises OSError: EBADF (WRLCK by a descriptor that cannot write),
    ENOLCK, and other errors of a network store.
    """
    if owner.flock:
        return _is_set(fcntl.flock, fd, _FLOCK_HOW[asked.kind] | fcntl.LOCK_NB)
    return _is_set(fcntl.fcntl, fd, fcntl.F_OFD_SETLK, _pack(asked))


def set_byte_lock(fd: int, at: int, kind: int) -> bool:
    """Set or release the lock of one byte, as set_lock() does."""
    return _is_set(fcntl.fcntl, fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, at, 1, 0))


def _is_set(call: Callable[..., object], *arguments: object) -> bool:
    """Make a call that sets a lock. Return False if another lock conflicts."""
    try:
        call(*arguments)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def find_blocker(fd: int, asked: Asked) -> Blocker | None:
    """Return a lock that conflicts with a request of the open file description *fd*, or None. The system call
    is F_OFD_GETLK of fcntl(2)."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _pack(asked))
    kind, _, start, length, pid = _FLOCK.unpack(answer)
    if kind == UNLCK:
        return None
    return Blocker(start, start + length - 1 if length else LAST_BYTE, kind, max(pid, 0))


def _pack(asked: Asked) -> bytes:
    length = 0 if asked.end >= LAST_BYTE else asked.end - asked.start + 1
    return _FLOCK.pack(asked.kind, os.SEEK_SET, asked.start, length, 0)

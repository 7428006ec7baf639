"""Locks of an open file description, asked for without waiting: fcntl(2) F_OFD_*, flock(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Final, NamedTuple

from policyfs.store.spans import LAST_BYTE

RDLCK: Final = int(fcntl.F_RDLCK)
WRLCK: Final = int(fcntl.F_WRLCK)
UNLCK: Final = int(fcntl.F_UNLCK)

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of a 64-bit system
_FLOCK_HOW: Final = {RDLCK: fcntl.LOCK_SH, WRLCK: fcntl.LOCK_EX, UNLCK: fcntl.LOCK_UN}


class Owner(NamedTuple):
    """A lock owner of the kernel's. flock: its flock(2), which knows nothing of byte ranges."""

    number: int
    flock: bool


class Asked(NamedTuple):
    """What is asked for: bytes start..end inclusive (LAST_BYTE: to the end of any file), as RDLCK,
    WRLCK or UNLCK, for the process *pid*.
    """

    start: int
    end: int
    kind: int
    pid: int


class Blocker(NamedTuple):
    """A lock that stands in the way. pid: 0 where the kernel does not say whose it is."""

    start: int
    end: int
    kind: int
    pid: int


def set_lock(fd: int, owner: Owner, asked: Asked) -> bool:
    """Set or drop a lock of the open file description *fd*, without waiting.

    False: somebody else's is in the way. Raises OSError: EBADF (WRLCK on a descriptor that cannot
    write), ENOLCK, and what a network store adds.
    """
    try:
        if owner.flock:
            fcntl.flock(fd, _FLOCK_HOW[asked.kind] | fcntl.LOCK_NB)
        else:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _pack(asked))
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            return False
        raise
    return True


def find_blocker(fd: int, asked: Asked) -> Blocker | None:
    """F_OFD_GETLK: a lock that keeps the open file description *fd* from this one."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _pack(asked))
    kind, _, start, length, pid = _FLOCK.unpack(answer)
    if kind == UNLCK:
        return None
    return Blocker(start, start + length - 1 if length else LAST_BYTE, kind, max(pid, 0))


def _pack(asked: Asked) -> bytes:
    length = 0 if asked.end >= LAST_BYTE else asked.end - asked.start + 1
    return _FLOCK.pack(asked.kind, os.SEEK_SET, asked.start, length, 0)

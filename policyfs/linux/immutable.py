"""Directories in which not even root of a container makes names (FS_IMMUTABLE_FL, ioctl_iflags(2))."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

_GET_FLAGS: Final = 0x80086601  # FS_IOC_GETFLAGS, where a long has 8 bytes
_SET_FLAGS: Final = 0x40086602
_IMMUTABLE: Final = 0x10
_FLAGS: Final = struct.Struct("=Q")


def set_immutable(path: str, *, immutable: bool) -> bool:
    """Permit or forbid changes of names in a directory; mounts below it stay possible. Return False if it is
    missing, its file system has no such flag (tmpfs before Linux 6.0), or CAP_LINUX_IMMUTABLE is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        flags = bytearray(_FLAGS.pack(0))
        fcntl.ioctl(fd, _GET_FLAGS, flags)
        before = _FLAGS.unpack(flags)[0]
        after = before | _IMMUTABLE if immutable else before & ~_IMMUTABLE
        if after != before:
            fcntl.ioctl(fd, _SET_FLAGS, _FLAGS.pack(after))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True

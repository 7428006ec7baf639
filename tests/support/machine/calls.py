"""System calls that Python has no function for, as tests make them: a result, or an errno's name."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

_libc = ctypes.CDLL(None, use_errno=True)
_offset = ctypes.c_int64

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
FS_IOC_GETFLAGS: Final = 0x80086601
FS_IOC_SETFLAGS: Final = 0x40086602
_AT_SYMLINK_FOLLOW, _AT_EMPTY_PATH = 0x400, 0x1000
_STATX_BTIME: Final = 0x800


def code(result: int) -> str:
    """ "None" for success, else the name of the errno that the call has just left."""
    return "None" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def fallocate(fd: int, mode: int, offset: int, length: int) -> str:
    """fallocate(2)."""
    return code(_libc.fallocate(fd, mode, _offset(offset), _offset(length)))


def name_it(fd: int, path: str | Path, *, empty_path: bool = False) -> str:
    """linkat(2) of an open file, by its magic link or (for root) by AT_EMPTY_PATH."""
    new = os.fsencode(path)
    if empty_path:
        return code(_libc.linkat(fd, b"", -100, new, _AT_EMPTY_PATH))
    return code(_libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, new, _AT_SYMLINK_FOLLOW))


def inode_flags(fd: int) -> str:
    """FS_IOC_GETFLAGS."""
    flags = array.array("i", [0, 0])
    try:
        fcntl.ioctl(fd, FS_IOC_GETFLAGS, flags)
    except OSError as error:
        return errno.errorcode[error.errno]
    return hex(flags[0] & 0xFFFFFFFF)


def birth(path: str | Path) -> tuple[int, int] | None:
    """Birth time by statx(2) in seconds and nanoseconds, None where the answer has none."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.statx(-100, os.fsencode(path), 0, _STATX_BTIME | 0x7FF, buffer):
        raise OSError(ctypes.get_errno(), "statx")
    if not int.from_bytes(buffer.raw[:4], "little") & _STATX_BTIME:
        return None
    at = 80  # stx_btime: s64 seconds, u32 nanoseconds
    return (
        int.from_bytes(buffer.raw[at : at + 8], "little", signed=True),
        int.from_bytes(buffer.raw[at + 8 : at + 12], "little"),
    )

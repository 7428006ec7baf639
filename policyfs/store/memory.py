"""A private place in memory for copies: a tmpfs with huge pages that is mounted nowhere.

A memfd is made of 4 KiB pages wherever the machine's shmem_enabled says `never`, as it does by
default. A tmpfs mount of our own chooses for itself: with huge pages a copy of 8 MB is made
several times faster and read at twice the speed (docs/performance.md). The mount is attached to
no path; its one descriptor is the only way in, and closing it is its end (fsopen(2), fsmount(2)).
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

# The numbers are the same on every architecture (Linux 5.2).
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_CLOEXEC: Final = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_SET_STRING: Final = 1  # FSCONFIG_SET_STRING
_CREATE: Final = 6  # FSCONFIG_CMD_CREATE
_ATTRIBUTES: Final = 0x2 | 0x4 | 0x8  # MOUNT_ATTR_NOSUID, NODEV, NOEXEC

_libc: Final = ctypes.CDLL(None, use_errno=True)


def open_memory_directory() -> int | None:
    """A directory descriptor for O_TMPFILE, the caller's to close. None where the kernel has no
    such mounts or no huge pages for them; memfds do the same, slower.
    """
    try:
        context = _call(_FSOPEN, b"tmpfs", _CLOEXEC)
    except OSError:
        return None
    try:
        _call(_FSCONFIG, context, _SET_STRING, b"huge", b"within_size", 0)
        _call(_FSCONFIG, context, _SET_STRING, b"mode", b"0700", 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, _ATTRIBUTES)
    except OSError:
        return None
    finally:
        os.close(context)


def _call(number: int, *arguments: int | bytes | None) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result

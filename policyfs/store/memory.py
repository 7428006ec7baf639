"""Unnamed tmpfs mounts with huge pages, for copies in memory.

A memfd has 4 KiB pages on machines whose shmem_enabled is `never`, which is the default. A private tmpfs
mount has a setting of its own: with huge pages a copy of 8 MB is made several times faster, and is read at
twice the speed (docs/performance/redaction.md). The mounts are attached to no path. Each mount can be reached
only by its one descriptor. When this descriptor is closed, the mount ends (fsopen(2), fsmount(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Final, Self

from policyfs.linux.libc import LIBC

# The numbers are the same on every architecture (Linux 5.2).
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_CLOEXEC: Final = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_SET_STRING: Final = 1  # FSCONFIG_SET_STRING
_CREATE: Final = 6  # FSCONFIG_CMD_CREATE
_ATTRIBUTES: Final = 0x2 | 0x4 | 0x8  # MOUNT_ATTR_NOSUID, NODEV, NOEXEC

HUGE_PAGE: Final = 2 << 20
"""Bytes of a huge page on most machines. On other machines no mount with only huge pages is made."""
_HUGE_PAGE_FILE: Final = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"


class MemoryPlaces:
    """Directories in memory (tmpfs) in which unnamed files for copies are created. The object owns the
    descriptors of the directories until close().

    A copy that fills at least half of its last huge page goes to a mount that has only huge pages. Other
    copies go to a mount that uses a huge page only where the whole page lies within the file.
    """

    __slots__ = ("_always", "_within")

    def __init__(self) -> None:
        self._within = _open_tmpfs(b"within_size")
        self._always = _open_tmpfs(b"always") if _huge_page() == HUGE_PAGE else -1

    def place(self, size: int) -> tuple[int, int] | None:
        """Return a directory descriptor for a copy of *size* bytes, and the memory of the copy in bytes.

        The directory is in a tmpfs mount with huge pages. Return None if the kernel cannot make such a mount,
        or has no huge pages for it. Then the caller uses memfds, which are slower.
        """
        rounded = -(-size // HUGE_PAGE) * HUGE_PAGE
        if self._always >= 0 and rounded - size <= HUGE_PAGE // 2:
            return self._always, rounded
        return (self._within, size) if self._within >= 0 else None

    def close(self) -> None:
        """Close the mounts. A copy in a mount exists as long as a descriptor of the copy is open."""
        for name in self.__slots__:
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _huge_page() -> int:
    with contextlib.suppress(OSError, ValueError), open(_HUGE_PAGE_FILE, "rb") as file:
        return int(file.read())
    return 0


def _open_tmpfs(huge: bytes) -> int:
    """Return a directory descriptor of a new tmpfs, or -1 if the kernel refuses. The caller closes it."""
    try:
        context = _call(_FSOPEN, b"tmpfs", _CLOEXEC)
    except OSError:
        return -1
    try:
        _call(_FSCONFIG, context, _SET_STRING, b"huge", huge, 0)
        _call(_FSCONFIG, context, _SET_STRING, b"mode", b"0700", 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, _ATTRIBUTES)
    except OSError:
        return -1
    finally:
        os.close(context)


def _call(number: int, *arguments: int | bytes | None) -> int:
    result: int = LIBC.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result

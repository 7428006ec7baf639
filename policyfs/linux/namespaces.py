"""Mount namespaces: mounts that only this process and its descendants see (mount_namespaces(7))."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from policyfs.linux.libc import LIBC, fail

CLONE_NEWNS: Final = 0x00020000
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_SLAVE: Final = 1 << 19


def enter_own_mounts() -> None:
    """Enter a new mount namespace. Mounts made in it stay private. New mounts of the machine appear in it.

    Call it before any thread starts. Raises OSError: EPERM without CAP_SYS_ADMIN.
    """
    if LIBC.unshare(CLONE_NEWNS):
        raise fail()
    _mount(None, b"/", _MS_REC | _MS_SLAVE)


def bind(source: str, target: str) -> None:
    """Mount the directory *source* at *target*, too (a bind mount). Raises OSError."""
    _mount(os.fsencode(source), os.fsencode(target), _MS_BIND)


def _mount(source: bytes | None, target: bytes, flags: int) -> None:
    if LIBC.mount(source, target, None, ctypes.c_ulong(flags), None):
        raise fail(target)

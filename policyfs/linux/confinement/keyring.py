"""A change to a new session keyring (session-keyring(7)), without the keys that the parent has passed on."""

from __future__ import annotations

import ctypes
import errno
import platform
from typing import Final

from policyfs.linux.libc import LIBC, fail

_KEYCTL: Final = {"x86_64": 250, "aarch64": 219}  # asm/unistd.h
_JOIN_SESSION_KEYRING: Final = 1  # linux/keyctl.h


def leave_session_keyring() -> None:
    """Enter an empty session keyring if kernel and machine have and permit one. Raises OSError."""
    number = _KEYCTL.get(platform.machine())
    if number is None or LIBC.syscall(number, _JOIN_SESSION_KEYRING, None) >= 0:
        return
    if ctypes.get_errno() not in {errno.ENOSYS, errno.EPERM, errno.EACCES}:
        raise fail(b"session keyring")

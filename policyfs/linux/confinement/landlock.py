"""A limit for a process (landlock(7)): it can only read files, and only below some directories."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from typing import Final

from policyfs.linux.libc import LIBC, fail

_SYS_CREATE_RULESET: Final = 444  # the same on every architecture
_SYS_ADD_RULE: Final = 445
_SYS_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15}  # the number of file access rights that each ABI version knows
_BITS_SINCE_5: Final = 16


def read_only_below(directories: Sequence[str]) -> bool:
    """Limit this thread, and all that it starts, to reading files below these directories. Needs
    no_new_privs. Return False without Landlock. Raises OSError if a directory is missing, or if the kernel
    refuses."""
    abi = int(LIBC.syscall(_SYS_CREATE_RULESET, None, 0, _VERSION))
    if abi < 1:
        return False
    handled = struct.pack("<Q", (1 << _BITS.get(abi, _BITS_SINCE_5)) - 1)
    ruleset = _checked(LIBC.syscall(_SYS_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0))
    try:
        for path in directories:
            place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                rule = struct.pack("<Qi", _READ_FILE | _READ_DIR, place)
                _checked(LIBC.syscall(_SYS_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
            finally:
                os.close(place)
        _checked(LIBC.syscall(_SYS_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _checked(result: int) -> int:
    if result < 0:
        raise fail(b"landlock")
    return int(result)

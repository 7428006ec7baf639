"""Limits for a process (landlock(7)): it can open no file, or only read files below some directories."""

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
    abi = _abi()
    if abi:
        _restrict(struct.pack("<Q", _rights(abi)), directories)
    return bool(abi)


def forbid_files() -> int:
    """Forbid that this thread, and all that it starts, opens, creates or removes files. Since ABI 4, Landlock
    also forbids TCP. Since ABI 6, it also forbids signals and abstract Unix connections to other processes.

    Needs no_new_privs. Return the version of the kernel's ABI, 0 without Landlock. Raises OSError if the
    kernel refuses."""
    abi = _abi()
    if abi:
        network = 0b11 if abi >= 4 else 0
        scoped = 0b11 if abi >= 6 else 0
        size = 24 if abi >= 6 else 16 if abi >= 4 else 8
        _restrict(struct.pack("<QQQ", _rights(abi), network, scoped)[:size], ())
    return abi


def _abi() -> int:
    return max(0, int(LIBC.syscall(_SYS_CREATE_RULESET, None, 0, _VERSION)))


def _rights(abi: int) -> int:
    return (1 << _BITS.get(abi, _BITS_SINCE_5)) - 1


def _restrict(attributes: bytes, directories: Sequence[str]) -> None:
    ruleset = _checked(LIBC.syscall(_SYS_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
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


def _checked(result: int) -> int:
    if result < 0:
        raise fail(b"landlock")
    return int(result)

"""The protocol's numbers against the kernel's own header, as far as the installed one goes."""

from __future__ import annotations

import re
from pathlib import Path

from policyfs.kernel.protocol import WANTED, InitFlag, Opcode

HEADER = Path("/usr/include/linux/fuse.h").read_text(encoding="utf-8")


def test_opcodes_are_the_kernels():
    found = {
        name: int(number)
        for name, number in re.findall(r"^\tFUSE_([A-Z0-9_]+)\s*=\s*(\d+),", HEADER, re.MULTILINE)
    }
    known = {opcode.name: opcode.value for opcode in Opcode}
    common = found.keys() & known.keys()
    assert {name: known[name] for name in common} == {name: found[name] for name in common}
    assert {"LOOKUP", "READDIRPLUS", "COPY_FILE_RANGE", "SYNCFS"} <= common


def test_init_flags_are_the_kernels():
    found = {
        name: 1 << int(bit)
        for name, bit in re.findall(
            r"^#define FUSE_([A-Z0-9_]+)\s+\(1(?:ULL)? << (\d+)\)", HEADER, re.MULTILINE
        )
    }
    for flag in InitFlag:
        if flag.name in found:
            assert flag.value == found[flag.name], flag.name
    assert {"DONT_MASK", "HANDLE_KILLPRIV_V2", "INIT_EXT"} <= found.keys()


def test_flags_that_do_harm_are_never_asked_for():
    harmful = (
        InitFlag.SETXATTR_EXT
        | InitFlag.WRITEBACK_CACHE
        | InitFlag.EXPORT_SUPPORT
        | InitFlag.READDIRPLUS_AUTO
        | InitFlag.FLOCK_LOCKS
        | InitFlag.POSIX_LOCKS
    )
    assert not WANTED & harmful

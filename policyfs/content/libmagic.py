"""libmagic(3) by python-magic, whose import starts no program here: to find the library, ctypes would run
ldconfig or gcc.

INVARIANT: no other module imports magic (tests/unit/test_content_libmagic.py).
"""

from __future__ import annotations

import ctypes
import os

from policyfs.linux.interpreter import load_libraries_by_name

load_libraries_by_name()
import magic  # noqa: E402

__all__ = ["default_database", "magic"]


def default_database() -> str:
    """Return the paths of the default database, separated by colons."""
    find = magic.libmagic.magic_getpath
    find.restype, find.argtypes = ctypes.c_char_p, (ctypes.c_char_p, ctypes.c_int)
    return os.fsdecode(find(None, 0) or b"")

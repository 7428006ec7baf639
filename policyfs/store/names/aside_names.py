"""Temporary names, which no app gets, for objects that are not finished yet (new_names.py)."""

from __future__ import annotations

import errno
import os
from typing import Final

_ASIDE: Final = b"policyfs-aside-"  # also in kernel/_listing.c
_NO_FLAGS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""Errors of renameat2(2) on a file system that knows no flags, such as NFS."""


def aside() -> bytes:
    """Return a new temporary name."""
    return _ASIDE + os.urandom(8).hex().encode()


def is_aside(name: bytes) -> bool:
    """Return True for a temporary name of the form that aside() makes.

    INVARIANT: no app gets a file by such a name. Otherwise an app could read a file that the policy hides
    only under the file's own name, or only in another directory.
    """
    return name.startswith(_ASIDE)


def knows_no_flags(error: OSError) -> bool:
    """Return True if renameat2(2) failed because the file system does not know the flag."""
    return error.errno in _NO_FLAGS

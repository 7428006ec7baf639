"""Names that no app gets: temporary names of objects that are not finished yet (new_names.py), and the
directory of what is kept for undo (store/kept)."""

from __future__ import annotations

import os
from typing import Final

ASIDE: Final = b"policyfs-aside-"  # also in kernel/door/_listing.c and kernel/_avc_directories.c
"""The beginning of all temporary names."""

KEPT: Final = b".policyfs-kept"  # likewise
"""The name of the directory with what apps have removed or overwritten."""


def aside() -> bytes:
    """Return a new temporary name."""
    return ASIDE + os.urandom(8).hex().encode()


def is_aside(name: bytes) -> bool:
    """Return True for a temporary name of the form that aside() makes."""
    return name.startswith(ASIDE)


def is_reserved(name: bytes) -> bool:
    """Return True for a temporary name, and for KEPT, in any directory.

    INVARIANT: no app gets a file by such a name. Otherwise an app could read a file that the policy hides
    only under the file's own name, or only in another directory.
    """
    return name == KEPT or is_aside(name)

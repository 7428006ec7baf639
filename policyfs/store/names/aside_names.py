"""Temporary names, which no app gets, for objects that are not finished yet (new_names.py)."""

from __future__ import annotations

import os
from typing import Final

ASIDE: Final = b"policyfs-aside-"  # also in kernel/door/_listing.c
"""The beginning of all temporary names."""


def aside() -> bytes:
    """Return a new temporary name."""
    return ASIDE + os.urandom(8).hex().encode()


def is_aside(name: bytes) -> bool:
    """Return True for a temporary name of the form that aside() makes.

    INVARIANT: no app gets a file by such a name. Otherwise an app could read a file that the policy hides
    only under the file's own name, or only in another directory.
    """
    return name.startswith(ASIDE)

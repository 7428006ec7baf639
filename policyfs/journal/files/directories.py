"""Directories of the trail's keys and indexes: in /var for root, below the home for other users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

KEYS: Final = "/var/lib/policyfs/audit-keys"
CACHE: Final = "/var/cache/policyfs"


def seal_directory() -> Path:
    """Return the directory of the keys that protect the trail and its indexes.

    The directory is $POLICYFS_KEY_DIR if this variable is set. Otherwise it is KEYS for root, and
    $XDG_STATE_HOME/policyfs for other users (~/.local/state/policyfs if this variable is not set).
    """
    return _own("POLICYFS_KEY_DIR", KEYS, "XDG_STATE_HOME", "~/.local/state")


def cache_directory() -> Path:
    """Return the directory of the indexes by which commands search the trail.

    The directory is $POLICYFS_CACHE_DIR if this variable is set. Otherwise it is CACHE for root, and
    $XDG_CACHE_HOME/policyfs for other users (~/.cache/policyfs if this variable is not set).
    """
    return _own("POLICYFS_CACHE_DIR", CACHE, "XDG_CACHE_HOME", "~/.cache")


def _own(variable: str, of_root: str, home_variable: str, home: str) -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path(of_root)
    return Path(os.environ.get(home_variable) or os.path.expanduser(home)) / "policyfs"

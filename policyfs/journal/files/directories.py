"""Directories of the trail's keys and indexes: in /var for root, below the home for other users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

KEYS: Final = "/var/lib/policyfs/audit-keys"
CACHE: Final = "/var/cache/policyfs"


def seal_directory() -> Path:
    """Return the directory of the keys that protect the trail and its indexes: $POLICYFS_KEY_DIR, or KEYS for
    root, or $XDG_STATE_HOME/policyfs (~/.local/state/policyfs)."""
    return _own("POLICYFS_KEY_DIR", KEYS, "XDG_STATE_HOME", "~/.local/state")


def cache_directory() -> Path:
    """Return the directory of the indexes by which commands search the trail: $POLICYFS_CACHE_DIR, or CACHE
    for root, or $XDG_CACHE_HOME/policyfs (~/.cache/policyfs)."""
    return _own("POLICYFS_CACHE_DIR", CACHE, "XDG_CACHE_HOME", "~/.cache")


def _own(variable: str, of_root: str, home_variable: str, home: str) -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path(of_root)
    return Path(os.environ.get(home_variable) or os.path.expanduser(home)) / "policyfs"

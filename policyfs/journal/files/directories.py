"""Directories of the trail, its keys and its indexes: in /var for root, below the home for other users."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

KEYS: Final = "/var/lib/policyfs/audit-keys"
CACHE: Final = "/var/cache/policyfs"
TRAIL: Final = "/var/log/policyfs"
LAYERS: Final = "/var/lib/policyfs/layers"


def key_directory() -> Path:
    """Return the directory of the keys that protect the trail and its indexes: $POLICYFS_KEY_DIR, or KEYS for
    root, or $XDG_STATE_HOME/policyfs (~/.local/state/policyfs)."""
    return _own("POLICYFS_KEY_DIR", KEYS, "XDG_STATE_HOME", "~/.local/state")


def cache_directory() -> Path:
    """Return the directory of the indexes by which commands search the trail: $POLICYFS_CACHE_DIR, or CACHE
    for root, or $XDG_CACHE_HOME/policyfs (~/.cache/policyfs)."""
    return _own("POLICYFS_CACHE_DIR", CACHE, "XDG_CACHE_HOME", "~/.cache")


def trail_directory() -> Path:
    """Return the trail root (the directory of all trails): $POLICYFS_TRAIL_DIR; TRAIL for root, and for users
    without a trail of their own; or $XDG_STATE_HOME/policyfs/trail (~/.local/state/policyfs/trail)."""
    own = _own("POLICYFS_TRAIL_DIR", TRAIL, "XDG_STATE_HOME", "~/.local/state", "policyfs/trail")
    return own if os.path.isdir(own) or "POLICYFS_TRAIL_DIR" in os.environ else Path(TRAIL)


def layers_directory() -> Path:
    """Return the directory of the layers of `policyfs run --try`: $POLICYFS_LAYERS_DIR, or LAYERS for root,
    or $XDG_STATE_HOME/policyfs/layers (~/.local/state/policyfs/layers)."""
    return _own("POLICYFS_LAYERS_DIR", LAYERS, "XDG_STATE_HOME", "~/.local/state", "policyfs/layers")


def directories_of_user() -> dict[str, str]:
    """Return the variables that name the directories of this user, not root, for a process that will be root
    of a user namespace."""
    state = str(_own("", "", "XDG_STATE_HOME", "~/.local/state"))
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = {
        "POLICYFS_TRAIL_DIR": f"{state}/trail", "POLICYFS_KEY_DIR": state,
        "POLICYFS_STATE_DIR": f"{state}/stores", "POLICYFS_LAYERS_DIR": str(layers_directory()),
        "POLICYFS_CACHE_DIR": str(cache_directory()),
        "POLICYFS_RUNTIME_DIR": f"{runtime}/policyfs" if runtime else f"{state}/run",
    }  # fmt: skip
    return {name: os.environ.get(name) or place for name, place in own.items()}


def _own(variable: str, of_root: str, home_variable: str, home: str, name: str = "policyfs") -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path(of_root)
    return Path(os.environ.get(home_variable) or os.path.expanduser(home)) / name

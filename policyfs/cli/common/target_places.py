"""The places at which the binds of a mount's targets are (kernel/targets.py)."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import quote

from policyfs.daemon.control import control

TARGETS: Final = "targets"
"""The directory, beside a mountpoint, with the places of the mount's targets."""
WHOLE: Final = "mount"
"""The name of a mountpoint with targets beside it."""


def place_name(target: str) -> str:
    """Return the name of a target's place. target: the absolute path at which programs find it."""
    return quote(target.strip("/"), safe="")


def place_in(above: str, target: str) -> str:
    """Return the path of a target's place. above: the directory of the mountpoint."""
    return os.path.join(above, TARGETS, place_name(target))


def private_places() -> str:
    """Return the directory of the mounts of services and containers. Nobody but root may enter it."""
    return str(control.runtime_dir() / "mounts")


def is_private(path: str) -> bool:
    """Return True if a path without symlinks is below the directory of these mounts."""
    return path.startswith(f"{os.path.realpath(private_places())}/")


def is_place(path: str) -> bool:
    """Return True if a path is the place of a target: its mount is no mount with a daemon of its own."""
    return is_private(path) and os.path.basename(os.path.dirname(path)) == TARGETS


def places_beside(at: str) -> list[str]:
    """Return the places of the targets of the mount at *at*; none if it has no targets."""
    above, name = os.path.split(at)
    directory = os.path.join(above, TARGETS)
    if name != WHOLE or os.path.islink(directory):
        return []
    try:
        return sorted(os.path.join(directory, place) for place in os.listdir(directory))
    except OSError:
        return []

"""The places of a mount's targets, and what is to be bound there (kernel/targets.py)."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from policyfs.daemon.control import control
from policyfs.linux.mountinfo import FSTYPE, MOUNTINFO, mounts_at

TARGETS: Final = "targets"
"""The directory, beside a mountpoint, with the places of the mount's targets."""
WHOLE: Final = "mount"
"""The name of a mountpoint with targets beside it."""

VARIABLE: Final = "POLICYFS_TARGETS"
"""The variable by which a unit tells a mount its targets (variable_of())."""
_NO_DIRECTORY: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}


class Bind(NamedTuple):
    """A directory of a mount (path) that is to be bound on a place. name: the place's."""

    name: str
    path: str
    read_only: bool

    def place(self, at: str) -> str:
        """Return the place of this bind of the mount at *at*."""
        return os.path.join(os.path.dirname(at), TARGETS, self.name)


def variable_of(binds: Iterable[Bind]) -> str:
    """Return the text of VARIABLE. It has no character that a unit file gives a meaning, but %."""
    return ",".join(
        f"{bind.name}={quote(bind.path, safe='')}{'=ro' * bind.read_only}" for bind in binds
    )


def binds_of_unit() -> list[Bind]:
    """Return the binds that the unit of this process names."""
    entries = (entry.split("=") for entry in os.environ.get(VARIABLE, "").split(",") if entry)
    return [Bind(name, unquote(path), bool(more)) for name, path, *more in entries]


def missing(at: str, binds: Iterable[Bind]) -> list[Bind]:
    """Return the binds that are not on top of their places, as the mount at *at* is now. Sends no request."""
    device = device_at(at)

    def is_there(bind: Bind) -> bool:
        there = mounts_at(bind.place(at))[-1:]
        found = [(top.device, top.root, "ro" in top.options) for top in there]
        return device != 0 and found == [(device, bind.path, bind.read_only)]

    return [bind for bind in binds if not is_there(bind)]


def device_at(at: str) -> int:
    """Return the device of the mount at *at*, which may be dead; 0 if there is none, or a placeholder."""
    return next((one.device for one in mounts_at(at)[-1:] if one.fstype == FSTYPE), 0)


def wait_for_mount(at: str, until: int) -> int:
    """Wait for a mount at *at*. Return its device; 0 if the process of the pidfd *until* ends before."""
    with open(MOUNTINFO, "rb") as table:
        poll = select.poll()
        poll.register(table, select.POLLPRI)
        poll.register(until, select.POLLIN)
        while not (device := device_at(at)):
            if until in (fd for fd, _ in poll.poll()):
                return 0
    return device


def bind_all(at: str, binds: Sequence[Bind]) -> list[Bind]:
    """Bind what is missing of the mount at *at*. Return what its directory is not there for. Raises OSError.
    To be called in a child: the daemon may hang, and an app may make a process wait in /proc."""
    from policyfs.kernel.targets import bind, held_elsewhere

    held = held_elsewhere(at, places_beside(at))
    for one in missing(at, binds):
        try:
            bind(one.place(at), at, one.path, held, read_only=one.read_only)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY:
                raise
    return missing(at, binds)


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

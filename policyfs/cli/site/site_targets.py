"""The targets of the mounts of a site: their places, and the binds on them (kernel/targets.py)."""

from __future__ import annotations

import contextlib
import errno
import os
from functools import partial
from typing import Final

from policyfs.cli.common.processes import look
from policyfs.cli.common.target_places import TARGETS, place_in, places_beside
from policyfs.cli.site.site_document import MountDoc, Site, Target
from policyfs.errors import PolicyfsError
from policyfs.linux.mountinfo import FSTYPE, mounts_at
from policyfs.linux.private_files import make_private
from policyfs.trail.lines.table import shown, word

_NO_DIRECTORY: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}


def make_places(mount: MountDoc, above: str) -> None:
    """Make the places of a mount's targets, with placeholders. Remove those of an earlier site file. above:
    the directory of the mountpoint, perhaps not yet at its path. Raises OSError, MountError."""
    from policyfs.kernel.placeholder import cover
    from policyfs.kernel.targets import remove

    wanted = [place_in(above, target) for target in mount.targets]
    for place in wanted:
        make_private(place, 0o755)
        if not mounts_at(place):
            cover(place)
    for place in places_beside(os.path.join(above, os.path.basename(mount.at))):
        if place not in wanted:
            remove(place)


def remove_places(mount: MountDoc) -> None:
    """Remove the places of a mount's targets. Raises OSError, MountError."""
    from policyfs.kernel.targets import remove

    for place in places_beside(mount.at):
        remove(place)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(os.path.join(os.path.dirname(mount.at), TARGETS))


def bind_targets(site: Site, mount: MountDoc) -> list[str]:
    """Bind the targets of a mount that is up. Return a text for each whose directory is not there. Raises
    PolicyfsError for any other failure."""
    if not _missing(site, mount):
        return []
    try:
        # In a child: the daemon may hang, and an app may make a process wait in /proc.
        look(partial(_bind, site, mount))
    except OSError as error:
        raise PolicyfsError(
            f"the targets of {mount.app} cannot be bound: {error.strerror}; see the log of the mount"
        ) from error
    return unbound(site, mount)


def _bind(site: Site, mount: MountDoc) -> None:
    from policyfs.kernel.targets import bind, held_elsewhere

    held = held_elsewhere(mount.at, places_beside(mount.at))
    for target, one in _missing(site, mount):
        try:
            bind(site.target_place(mount, target), mount.at, one.path, held, read_only=one.read_only)
        except OSError as error:
            if error.errno not in _NO_DIRECTORY:
                raise


def unbound(site: Site, mount: MountDoc) -> list[str]:
    """Return a text for each target of a mount that is not bound. Sends no request to the mount."""
    return [
        f"nothing is at {shown(target)}: the mount has no directory {shown(one.path)} (a symlink is none)."
        f" When it has, run `policyfs up {word(site.file)}`"
        for target, one in _missing(site, mount)
    ]


def _missing(site: Site, mount: MountDoc) -> list[tuple[str, Target]]:
    """Return the targets of which no right bind of the mount, as it is now, is on top. Sends no request."""
    live = [one.device for one in mounts_at(mount.at)[-1:] if one.fstype == FSTYPE]

    def is_bound(target: str, one: Target) -> bool:
        there = mounts_at(site.target_place(mount, target))[-1:]
        found = [(top.device, top.root, "ro" in top.options) for top in there]
        return found == [(device, one.path, one.read_only) for device in live] != []

    return [(target, one) for target, one in mount.targets.items() if not is_bound(target, one)]

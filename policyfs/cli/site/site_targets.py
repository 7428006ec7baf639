"""The targets of the mounts of a site: their places, and the binds on them (kernel/targets.py)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial
from typing import Final

from policyfs.cli.common.processes import look
from policyfs.cli.site.site_document import MountDoc, Site, Target, place_in
from policyfs.errors import PolicyfsError
from policyfs.linux.mountinfo import Mount, mounts_at
from policyfs.linux.private_files import make_private
from policyfs.trail.lines.table import shown, word

_NO_DIRECTORY: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}


def make_places(mount: MountDoc, above: str) -> None:
    """Make the places of a mount's targets, with placeholders. Remove those of an earlier site file. above:
    the directory of the mountpoint, perhaps not yet at its path. Raises OSError, MountError."""
    from policyfs.kernel.placeholder import cover
    from policyfs.kernel.targets import places_beside, remove

    wanted = [place_in(above, target) for target in mount.targets]
    for place in wanted:
        make_private(place, 0o755)
        if not mounts_at(place):
            cover(place)
    for place in places_beside(os.path.join(above, os.path.basename(mount.at))):
        if place not in wanted:
            remove(place)


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

    held = held_elsewhere(mount.at)
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
    from policyfs.kernel.targets import bound

    def is_right(there: Mount | None, one: Target) -> bool:
        return there is not None and (there.root, "ro" in there.options) == (one.path, one.read_only)

    found: Iterator[tuple[str, Target]] = iter(mount.targets.items())
    return [
        (target, one)
        for target, one in found
        if not is_right(bound(site.target_place(mount, target), mount.at), one)
    ]

"""The targets of the mounts of a site: their places, and the binds on them (kernel/targets.py)."""

from __future__ import annotations

import contextlib
import os
from functools import partial

from policyfs.cli.common.processes import look
from policyfs.cli.common.target_places import (
    TARGETS,
    Bind,
    bind_all,
    missing,
    place_in,
    place_name,
    places_beside,
)
from policyfs.cli.site.site_document import MountDoc, Site
from policyfs.errors import PolicyfsError
from policyfs.linux.mountinfo import mounts_at
from policyfs.linux.private_files import make_private
from policyfs.trail.lines.table import shown, word


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


def binds_of(mount: MountDoc) -> dict[Bind, str]:
    """Return the binds of a mount's targets, each with its target."""
    return {
        Bind(place_name(target), one.path, one.read_only): target for target, one in mount.targets.items()
    }


def bind_targets(site: Site, mount: MountDoc) -> list[str]:
    """Bind the targets of a mount that is up. Return a text for each whose directory is not there. Raises
    PolicyfsError for any other failure."""
    if not (wanted := missing(mount.at, binds_of(mount))):
        return []
    try:
        look(partial(bind_all, mount.at, wanted))
    except OSError as error:
        raise PolicyfsError(
            f"the targets of {mount.app} cannot be bound: {error.strerror}; see the log of the mount"
        ) from error
    return unbound(site, mount)


def unbound(site: Site, mount: MountDoc) -> list[str]:
    """Return a text for each target of a mount that is not bound. Sends no request to the mount."""
    binds = binds_of(mount)
    return [
        f"nothing is at {shown(binds[one])}: the mount has no directory {shown(one.path)} (a symlink is"
        f" none). When it has, run `policyfs up {word(site.file)}`"
        for one in missing(mount.at, binds)
    ]

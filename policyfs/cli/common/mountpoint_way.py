"""The way to a mountpoint: directories and symlinks on it that users other than root can replace.

Such a user could lead a mount, and an unmount, of root to another directory of the machine.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.errors import PolicyfsError
from policyfs.linux.mountinfo import mounts_at
from policyfs.trail.lines.table import shown

_MAX_LINKS: Final = 40  # as the kernel (namei.h, MAXSYMLINKS)
_NOBODY: Final = 0
_ANYBODY: Final = -1


class Place(NamedTuple):
    """A directory or symlink on the way to a path. uid: a user that can replace it; None if any can."""

    path: str
    uid: int | None
    is_link: bool


def check_way(mountpoint: str, *, warn: bool = True) -> None:
    """Raise PolicyfsError if a symlink on the way to the mountpoint is another user's. warn: print a warning
    if another user can move a directory on the way."""
    for place in replaceable(mountpoint):
        who = "any user" if place.uid is None else f"the user with the uid {place.uid}"
        if place.is_link:
            raise PolicyfsError(
                f"the mountpoint {shown(mountpoint)} leads through the symbolic link {shown(place.path)},"
                f" which {who} can change; name the path to which it leads,"
                f" {shown(os.path.realpath(mountpoint))}"
            )
        if warn:
            print(
                f"policyfs: warning: {who} can move {shown(place.path)}, and the mount with it; make the"
                " mount in a directory that only root can change",
                file=sys.stderr,
            )
            warn = False


def replaceable(path: str) -> Iterator[Place]:
    """Yield each name on the way to *path*, its last name too, that another user (not root) can replace.

    A name can be replaced by the owner of its directory, by users that can write there (in a sticky
    directory such as /tmp: by the owner of the name alone). Symlinks are followed. A mount on the last name,
    which may hang, gets no request. The way ends at a name that is missing. Raises OSError.
    """
    names = os.path.abspath(path).split("/")[1:]
    at, links = "/", 0
    trusted = {_NOBODY, os.geteuid(), os.stat("/").st_uid}  # in a user namespace, root has another uid
    while names:
        name = names.pop(0)
        if name in {"", "."}:
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        above, here = os.stat(at), os.path.join(at, name)
        if not names and mounts_at(here):
            return
        try:
            status = os.lstat(here)
        except FileNotFoundError:
            return
        is_link = stat.S_ISLNK(status.st_mode)
        if (found := _who(above, status)) not in trusted:
            yield Place(here, None if found == _ANYBODY else found, is_link)
        if not is_link:
            at = here
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        target = os.readlink(here)
        names = [*target.split("/"), *names]
        at = "/" if target.startswith("/") else at


def _who(above: os.stat_result, status: os.stat_result) -> int:
    """Return the uid that can replace a name, _ANYBODY, or _NOBODY (root). above: its directory."""
    if above.st_uid:
        return above.st_uid
    others = above.st_mode & stat.S_IWOTH or (above.st_mode & stat.S_IWGRP and above.st_gid)
    if not others:
        return _NOBODY
    if above.st_mode & stat.S_ISVTX:
        return status.st_uid
    return _ANYBODY

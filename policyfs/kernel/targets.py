"""Binds of directories of a mount, each at a place of its own, which services and containers bind in turn.

A place is a mount's root: so neither systemd nor a container engine looks up a name in a mount, where an app
can put a symlink. On a place is a stack of mounts: a placeholder, and on top of it the bind. When the mount
has ended, its bind stays below the next one while a container has it: the container's mount is a slave of it
(mount_namespaces(7)), so the next bind, which is mounted on its root, appears in the running container.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from policyfs.kernel import mount_api
from policyfs.kernel.placeholder import cover
from policyfs.kernel.session import unmount
from policyfs.linux import procfs
from policyfs.linux.libc import open_beneath
from policyfs.linux.mountinfo import ABSENT, Mount, mounts, mounts_at

Key = tuple[int, str]
"""A file system's device, and the directory of it that is mounted."""


def bind(place: str, at: str, path: str, held: set[Key], *, read_only: bool) -> None:
    """Bind a directory of the mount at *at* on a place, on top of what is there.

    path: in the mount, absolute. held: as held_elsewhere() returns it. There must be a placeholder. After an
    error, one is on top. Raises OSError: ENOENT, ENOTDIR, ELOOP (a symlink), and errors of the mount.
    """
    clone = -1
    try:
        if not mounts_at(at):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), at)
        root = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # INVARIANT: no symlink is followed, and no other mount entered: an app makes these names.
            name, flags = os.fsencode(path.strip("/")) or b".", os.O_PATH | os.O_DIRECTORY
            directory = open_beneath(root, name, flags, one_mount=True)
        finally:
            os.close(root)
        try:
            clone = mount_api.bind(directory, read_only=read_only)
        finally:
            os.close(directory)
    except OSError:
        clear(place, held)
        raise
    try:
        _trim(place, held)
        _put(partial(mount_api.attach, clone, place), place)
    finally:
        os.close(clone)


def clear(place: str, held: set[Key]) -> None:
    """Unmount what is on a place, down to a mount that a container has, and see that a placeholder is on top.
    Raises OSError, MountError."""
    top = _trim(place, held)
    if top is None or top.fstype != ABSENT:
        _put(partial(cover, place), place)


def _put(mount: Callable[[], None], place: str) -> None:
    """Mount on a place. If the containers of an app have so many binds of what is there that the kernel would
    need too many mounts (fs.mount-max), the mount appears in none of them: an app ends no other's mount."""
    # INVARIANT: a container does not lose the bind inside this one: the mount would appear above both.
    if any(name.startswith(f"{os.path.basename(place)}%2F") for name in os.listdir(os.path.dirname(place))):
        mount_api.keep_to_itself(place)
    try:
        mount()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        mount_api.keep_to_itself(place)
        mount()


def _trim(place: str, held: set[Key]) -> Mount | None:
    """Unmount what is on a place, down to a mount that a container has, or the lowest. Return it."""
    stack = mounts_at(place)
    while len(stack) > 1 and _key(stack[-1]) not in held:
        unmount(place, lazy=True)
        stack = mounts_at(place)
    return stack[-1] if stack else None


def remove(place: str) -> None:
    """Unmount all that is on a place, and remove its directory. A container keeps what it has. Raises
    OSError, MountError."""
    for _ in mounts_at(place):
        unmount(place, lazy=True)
    os.rmdir(place)


def held_elsewhere(at: str, places: Iterable[str]) -> set[Key]:
    """Return the mounts on these places of which a container, or another place, has a bind of its own: not a
    copy that lies on another mount of the stack. at: the mountpoint of the mount whose directories they have.
    To be called in a child: procfs may make it wait."""
    keys = {_key(mount) for place in places for mount in mounts_at(place)}
    return {key for table in _tables() for key in _own_binds(table, keys, at)} if keys else set()


def _own_binds(table: Iterable[Mount], keys: set[Key], at: str) -> Iterator[Key]:
    by_id = {mount.mount_id: mount for mount in table}
    for mount in by_id.values():
        below = by_id.get(mount.parent_id)
        if _key(mount) in keys and mount.path != at and (below is None or _key(below) not in keys):
            yield _key(mount)


def _tables() -> Iterator[list[Mount]]:
    """Yield the mounts of each mount namespace."""
    seen: set[str] = set()
    for pid in procfs.pids():
        try:
            namespace = os.readlink(procfs.path(pid, "ns/mnt"))
            if namespace not in seen:
                seen.add(namespace)
                yield mounts(pid)
        except OSError:  # it has ended
            continue


def _key(mount: Mount) -> Key:
    return mount.device, mount.root

"""The store of a running mount: is it still what is at its path, and does its file system still work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from policyfs.cli.common.live_mounts import part
from policyfs.daemon.control import control
from policyfs.errors import PolicyfsError
from policyfs.linux import procfs
from policyfs.linux.mountinfo import mount_id_of_fd, mounts
from policyfs.linux.statx import cached_stat
from policyfs.store.store_record import absent_parts, parts_of
from policyfs.store.tree import Tree

_SHUT_DOWN: Final = frozenset({"shutdown", "emergency_ro"})
"""Mount options that ext4 shows after an error (fs/ext4/super.c)."""

_DISKS: Final = "/sys/dev/block"


def store_problems(status: control.Json) -> list[str]:
    """Return a sentence for each problem of a running mount's store.

    This can wait without end if the store hangs. Nothing is found without the right to look into the daemon's
    process, as in another PID namespace.
    """
    with _held_root(status) as held:
        if held is None:
            return []
        root, name = part(status, "root"), f"the store {status['store']}"
        found = _failures(held, name, int(str(root["device"])), writable=bool(root.get("writable")))
        return list(found) or list(_at_path(status, held))


@contextmanager
def _held_root(status: control.Json) -> Iterator[int | None]:
    """Provide a descriptor of the directory that the daemon serves, from the daemon's process."""
    fd = -1
    with suppress(OSError):
        held = f"fd/{part(status, 'root').get('fd')}"
        fd = os.open(procfs.path(str(status.get("pid")), held), os.O_PATH | os.O_CLOEXEC)
    try:
        yield fd if fd >= 0 and _is_root(status, fd) else None
    finally:
        if fd >= 0:
            os.close(fd)


def _is_root(status: control.Json, fd: int) -> bool:
    root = part(status, "root")
    try:
        found = cached_stat(fd, b"")
    except OSError:  # a file system that has failed
        return True
    return (found.dev, found.ino) == (root.get("device"), root.get("inode"))


def _at_path(status: control.Json, held: int) -> Iterator[str]:
    """Compare the served directory with the one at the store's path. Only in the daemon's mount namespace."""
    store, pid = str(status["store"]), str(status["pid"])
    if os.readlink(procfs.path(pid, "ns/mnt")) != os.readlink(procfs.path("self", "ns/mnt")):
        return
    remedy = f"mount the store on {store} again, or end this mount and make it anew"
    try:
        now = os.open(store, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        yield f"the store {store} is not at its path any more ({error.strerror}): {remedy}"
        return
    try:
        same = mount_id_of_fd(now) == mount_id_of_fd(held) and _is_root(status, now)
    finally:
        os.close(now)
    if not same:
        yield f"another directory or file system is at {store} than this mount serves: {remedy}"
        return
    try:
        yield from (f"the store {store} is not whole: {absent}" for absent in absent_parts(store))
        for path in parts_of(store):
            with suppress(OSError), Tree.open(path) as tree:
                device = cached_stat(tree.root_fd, b"").dev
                yield from _failures(tree.root_fd, f"{path}, a part of the store", device, writable=False)
    except PolicyfsError as error:
        yield str(error)


def _failures(fd: int, name: str, device: int, *, writable: bool) -> Iterator[str]:
    """Find out if the file system of a directory answers. writable: True if it must take writes."""
    remedy = "repair it, mount it again, and make this mount anew"
    try:
        found = os.fstatvfs(fd)
        with os.scandir(procfs.path("self", f"fd/{fd}")) as entries:
            next(entries, None)
    except OSError as error:
        yield f"the file system of {name} does not work: {error.strerror}; {remedy}"
        return
    disk, number = f"{_DISKS}/{os.major(device)}:{os.minor(device)}", mount_id_of_fd(fd)
    options = next((one.super_options for one in mounts() if one.mount_id == number), frozenset())
    if _SHUT_DOWN & options:
        yield f"the file system of {name} was shut down after an error; {remedy}"
    elif os.major(device) and os.path.isdir(_DISKS) and not os.path.exists(disk):
        yield f"the disk of {name} was removed; {remedy}"
    elif found.f_flag & os.ST_RDONLY and writable:
        yield f"{name} is read-only now, and the mount is not: writes end in EROFS; {remedy}"

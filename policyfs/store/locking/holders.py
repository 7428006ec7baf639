"""Search for the processes that use a mount (open files, working directories). A "device or resource busy"
message names these processes.

The mount itself may hang, so no function here accesses the mount. The functions read only links and tables of
/proc, which the kernel answers from memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from policyfs.linux import procfs
from policyfs.linux.mountinfo import Mount, mount_id_of_fd, mount_over, mounts
from policyfs.linux.statx import cached_device


class Holder(NamedTuple):
    """One use of a mount by one process.

    what: ``cwd``, ``root``, ``exe``, ``fd 5``, ``mapping`` or ``mount`` (a second mount on a directory of the
    mount).
    path: the object in use, as /proc shows it. elsewhere: True if the use is in another mount namespace. Such
    a use keeps the file system alive, but does not make this mount busy.
    """

    pid: int
    uid: int
    command: str
    what: str
    path: bytes
    elsewhere: bool

    def __str__(self) -> str:
        where = " in another mount namespace" if self.elsewhere else ""
        return f"{self.command} (pid {self.pid}, uid {self.uid}): {self.what} {os.fsdecode(self.path)}{where}"


def holders(mountpoint: bytes) -> list[Holder]:
    """Return the uses of a mount by processes, for example open files. The mount is the topmost one at the
    absolute path *mountpoint*. The list is empty if nothing is mounted there.

    The result has only processes that the caller may inspect; root may inspect all. Processes that end
    meanwhile are left out.
    """
    ours = mounts()
    held = next((mount for mount in reversed(ours) if mount.path == os.fsdecode(mountpoint)), None)
    if held is None:
        return []
    found = [
        Holder(os.getpid(), os.getuid(), "mount table", "mount", os.fsencode(mount.path), False)
        for mount in ours
        if mount.parent_id == held.mount_id
    ]
    namespace = os.readlink(procfs.path("self", "ns/mnt"))
    for pid in procfs.pids():
        with contextlib.suppress(OSError):
            if os.readlink(procfs.path(pid, "ns/mnt")) == namespace:
                # Use the table of this process: in a chroot, a process's own table lacks the mounts outside
                # the chroot.
                found += _holds_of(pid, held, ours, {held.mount_id}, elsewhere=False)
            else:
                table = mounts(pid)
                same = {mount.mount_id for mount in table if mount.device == held.device}
                found += _holds_of(pid, held, table, same, elsewhere=True)
    return found


def holders_of(device: str) -> list[Holder]:
    """Return the uses of a file system by processes. This mount namespace need not have a mount of the file
    system any more.

    device: ``major:minor`` of the file system. A mount of the file system is reported once for each mount
    namespace, with one process of that namespace. Sends no request to the file system.
    """
    ours = os.readlink(procfs.path("self", "ns/mnt"))
    found: list[Holder] = []
    tables: set[str] = set()
    for pid in procfs.pids():
        with contextlib.suppress(OSError):
            namespace = os.readlink(procfs.path(pid, "ns/mnt"))
            holds = [] if namespace in tables else [
                ("mount", os.fsencode(mount.path)) for mount in mounts(pid) if mount.device_name == device
            ]  # fmt: skip
            tables.add(namespace)
            holds += [*_uses(pid, device)] or [*_mappings(pid, device)]
            if holds:
                uid, command = _who(pid)
                found += [Holder(pid, uid, command, what, path, namespace != ours) for what, path in holds]
    return found


def has_open(pid: int, device: str) -> bool:
    """Return True if a process has a descriptor, its cwd or its root on a file system.

    device: ``major:minor`` of the file system. Sends no request to the file system. False if the process has
    ended. While the process changes its program, this function waits (policyfs.linux.bounded_reads).
    """
    with contextlib.suppress(OSError):
        return any(True for _ in _uses(pid, device))
    return False


def _uses(pid: int, device: str) -> Iterator[tuple[str, bytes]]:
    """Yield the uses (what, path) of a file system by a process: descriptors, cwd, root, of any mount."""
    process = procfs.root() / str(pid)
    for name in ("cwd", "root", *(f"fd/{fd}" for fd in os.listdir(process / "fd"))):
        with contextlib.suppress(OSError):
            if cached_device(f"{process}/{name}") == device:
                yield name.replace("/", " "), procfs.link(pid, name)


def _who(pid: int) -> tuple[int, str]:
    with open(procfs.path(pid, "comm"), "rb") as file:
        return procfs.owner(pid), os.fsdecode(file.read().rstrip(b"\n"))


def _holds_of(pid: int, held: Mount, table: list[Mount], same: set[int], elsewhere: bool) -> list[Holder]:
    if not same:
        return []
    uid, command = _who(pid)
    found = [*_links(pid, table, same), *_descriptors(pid, same)]
    if not found:
        # Mappings come last, and only if nothing else was found: a read of `maps` waits for a lock of the
        # process.
        found = [*_mappings(pid, held.device_name)]
    return [Holder(pid, uid, command, what, path, elsewhere) for what, path in found]


def _links(pid: int, table: list[Mount], same: set[int]) -> Iterator[tuple[str, bytes]]:
    for what in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):
            path = procfs.link(pid, what)
            if (over := mount_over(os.fsdecode(path), table)) and over.mount_id in same:
                yield what, path


def _descriptors(pid: int, mount_ids: set[int]) -> Iterator[tuple[str, bytes]]:
    for name in os.listdir(procfs.path(pid, "fd")):
        with contextlib.suppress(OSError):
            if mount_id_of_fd(int(name), pid) in mount_ids:
                yield f"fd {name}", procfs.link(pid, f"fd/{name}")


def _mappings(pid: int, device: str) -> Iterator[tuple[str, bytes]]:
    """Yield ("mapping", path) for each file on a file system that a process has mapped (proc_pid_maps(5))."""
    wanted = "{:02x}:{:02x}".format(*map(int, device.split(":"))).encode()
    seen: set[bytes] = set()
    with contextlib.suppress(OSError), open(procfs.path(pid, "maps"), "rb") as lines:
        for line in lines:
            fields = line.rstrip(b"\n").split(maxsplit=5)
            if len(fields) == 6 and fields[3] == wanted and fields[5] not in seen:
                seen.add(fields[5])
                yield "mapping", fields[5]

"""The mounts of a process, read from /proc/PID/mountinfo (proc_pid_mountinfo(5)).

No function here sends a request to the mount that it looks for or returns. (Such a mount may be dead, may
hang, or may admit only one app.) Only resolve() and is_mountpoint() send requests to the mounts above a path,
and to the mount itself if the path ends in "." or "..".
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from policyfs.linux import procfs

FSTYPE: Final = "fuse.policyfs"
ABSENT: Final = "fuse.policyfs-absent"
"""The type of a placeholder: a mount without a daemon (policyfs.kernel.placeholder)."""
MOUNTINFO: Final = "/proc/self/mountinfo"
_MAX_SYMLINKS: Final = 40  # the kernel's own limit
_TO_ESCAPE: Final = re.compile(r"[\s\\#]")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo. parent_id: the mount on which this one is. device: dev_t (major << 20 | minor);
    for FUSE, the connection's number. root: the directory of the file system that is mounted, ``/`` for the
    whole. path: as the process sees it. options: of the mount. super_options: of the file system."""

    mount_id: int
    parent_id: int
    device: int
    root: str
    path: str
    options: frozenset[str]
    fstype: str
    source: str
    super_options: frozenset[str]

    @property
    def device_name(self) -> str:
        """The device as ``major:minor``, as in proc files."""
        return _device_name(self.device)


def _device_name(device: int) -> str:
    return f"{device >> 20}:{device & 0xFFFFF}"


def _unescape(text: str) -> str:
    if "\\" not in text and text.isascii():
        return text
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
    # The file was decoded byte by byte (latin-1). So an escape such as \040 becomes one character, which
    # stands for one byte.
    return os.fsdecode(raw.encode("latin-1"))


def parse_mount(line: str) -> Mount:
    """Parse one line of mountinfo, decoded as latin-1. Raises ValueError for any other text."""
    left, _, right = line.rstrip("\n").partition(" - ")
    fields = left.split(" ")
    major, minor = fields[2].split(":")
    fstype, source, super_options = right.split(" ", 2)
    return Mount(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=int(major) << 20 | int(minor),
        root=_unescape(fields[3]),
        path=_unescape(fields[4]),
        options=frozenset(fields[5].split(",")),
        fstype=fstype,
        source=_unescape(source),
        super_options=frozenset(_unescape(super_options).split(",")),
    )


def mounts(pid: int | None = None) -> list[Mount]:
    """Return all mounts in a process's (None: this) mount namespace, in the kernel's order. Raises
    OSError."""
    with _table(pid) as table:
        return [parse_mount(line) for line in table]


def mounts_of_device(device: int) -> list[Mount]:
    """Return the mounts of one device (Mount.device)."""
    name = _device_name(device)
    with _table() as table:  # only these lines are parsed: a machine may have thousands of mounts
        return [parse_mount(line) for line in table if line.split(" ", 3)[2] == name]


def mounts_below(path: str) -> list[Mount]:
    """Return the mounts below an absolute path without symlinks, dead or alive."""
    below = path.rstrip("/") + "/"
    with _table() as table:
        return [parse_mount(line) for line in table if _path_of(line).startswith(below)]


def mount_over(path: str, table: Sequence[Mount]) -> Mount | None:
    """Return the topmost of these mounts in which an absolute path without symlinks lies; None after
    chroot(2). table: in the kernel's order."""
    over = (mount for mount in reversed(table) if f"{path}/".startswith(f"{mount.path.rstrip('/')}/"))
    return max(over, key=lambda mount: len(mount.path), default=None)


def fuse_mounts_below(path: bytes) -> set[bytes]:
    """Return the paths of all FUSE mounts below an absolute path without symlinks, dead or alive."""
    found = mounts_below(os.fsdecode(path))
    return {os.fsencode(mount.path) for mount in found if mount.fstype.startswith("fuse")} - {path}


def mount_of_fd(fd: int) -> Mount | None:
    """Return the mount of a descriptor of this process; None if this mount namespace lacks that mount."""
    wanted = f"{mount_id_of_fd(fd)} "
    with _table() as table:
        return next((parse_mount(line) for line in table if line.startswith(wanted)), None)


def mount_id_of_fd(fd: int, pid: int | None = None) -> int | None:
    """Return the mnt_id of a process's (None: this) descriptor; None if fdinfo lacks it. Raises OSError."""
    with open(procfs.path("self" if pid is None else pid, f"fdinfo/{fd}"), "rb") as lines:
        for line in lines:
            if line.startswith(b"mnt_id:"):
                return int(line.split()[1])
    return None


def mounts_at(path: str) -> list[Mount]:
    """Return the mounts on exactly this absolute path without symlinks, topmost last."""
    with _table() as table:
        return parse_mounts_at(path, table)


def parse_mounts_at(path: str, lines: Iterable[str]) -> list[Mount]:
    """Return the mounts on exactly this path. lines: the lines of mountinfo, decoded as latin-1."""
    plain = "" if _TO_ESCAPE.search(path) or not path.isascii() else f" {path} "
    return [parse_mount(line) for line in lines if plain in line and _path_of(line) == path]


def _path_of(line: str) -> str:
    return _unescape(line.split(" ", 5)[4])


def _table(pid: int | None = None) -> TextIO:
    return open(procfs.path("self" if pid is None else pid, "mountinfo"), encoding="latin-1", newline="\n")


def resolve(path: str) -> str:
    """Return the absolute path without symlinks. Only mounts above the path get requests. Raises OSError:
    ELOOP, or ENOENT and others for a directory above."""
    for _ in range(_MAX_SYMLINKS):
        if not os.path.isabs(path):
            path = os.path.join(os.getcwd(), path)
        head, name = os.path.split(path.rstrip("/"))
        if name in ("", ".", ".."):
            return os.path.realpath(path, strict=True)
        path = os.path.join(os.path.realpath(head, strict=True), name)
        if mounts_at(path) or not os.path.islink(path):
            return path
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def is_mountpoint(path: str) -> bool:
    """Return True if a file system is mounted on exactly this path. Return False if the path is missing."""
    try:
        return bool(mounts_at(resolve(path)))
    except OSError:
        return False

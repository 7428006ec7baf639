"""What is mounted where, from /proc/self/mountinfo (proc(5)): never asks a mounted file system,
which may be dead, hung, or closed to everybody but one app."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from typing import Final

FSTYPE: Final = "fuse.policyfs"
MOUNTINFO: Final = "/proc/self/mountinfo"
_MAX_SYMLINKS: Final = 40  # as the kernel has it
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo. device: the kernel's dev_t (major << 20 | minor), which for FUSE
    is the connection's number. options: of the mount; super_options: of the file system."""

    mount_id: int
    device: int
    path: str
    options: frozenset[str]
    fstype: str
    source: str
    super_options: frozenset[str]


def _unescape(text: str) -> str:
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
    # The file was decoded byte by byte (latin-1), so that escapes and bytes mix well.
    return os.fsdecode(raw.encode("latin-1"))


def parse_mount(line: str) -> Mount:
    """One line of mountinfo, decoded as latin-1. Raises ValueError if it is not one."""
    left, _, right = line.rstrip("\n").partition(" - ")
    fields = left.split(" ")
    major, minor = fields[2].split(":")
    fstype, source, super_options = right.split(" ", 2)
    return Mount(
        mount_id=int(fields[0]),
        device=int(major) << 20 | int(minor),
        path=_unescape(fields[4]),
        options=frozenset(fields[5].split(",")),
        fstype=fstype,
        source=_unescape(source),
        super_options=frozenset(_unescape(super_options).split(",")),
    )


def mounts() -> list[Mount]:
    """Every mount of this process's mount namespace, in the kernel's order."""
    with open(MOUNTINFO, encoding="latin-1", newline="\n") as file:
        return [parse_mount(line) for line in file]


def mounts_at(path: str) -> list[Mount]:
    """The mounts on exactly this absolute path without symlinks, topmost last."""
    return [mount for mount in mounts() if mount.path == path]


def resolve(path: str) -> str:
    """The absolute path without symlinks; what is mounted on its end is not asked.

    Raises OSError: ENOENT and the like for the directories on the way, ELOOP.
    """
    for _ in range(_MAX_SYMLINKS):
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
    """Is anything mounted on exactly this path. False too if it does not exist."""
    try:
        return bool(mounts_at(resolve(path)))
    except OSError:
        return False

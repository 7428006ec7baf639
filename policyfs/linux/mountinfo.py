"""/proc/PID/mountinfo as values (proc_pid_mountinfo(5)): asks the kernel, never a mount.

A mount whose daemon is dead or hung blocks whoever stats it; nothing here does.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount. device: ``major:minor`` as in st_dev; mountpoint: as that process sees it."""

    mount_id: int
    parent_id: int
    device: str
    mountpoint: bytes
    fstype: str
    source: bytes


def mounts(pid: int | None = None) -> list[Mount]:
    """All mounts in the mount namespace of process *pid* (None: ours), oldest first.

    Raises OSError if there is no such process.
    """
    with open(f"/proc/{'self' if pid is None else pid}/mountinfo", "rb") as lines:
        return [_parse(line) for line in lines]


def mount_of_fd(fd: int) -> Mount | None:
    """The mount that one of our descriptors lies on; None if it is in no namespace of ours."""
    wanted = mount_id_of_fd(fd)
    return next((mount for mount in mounts() if mount.mount_id == wanted), None)


def mount_id_of_fd(fd: int, pid: int | None = None) -> int | None:
    """The mnt_id of descriptor *fd* of process *pid* (None: ours), from fdinfo."""
    with open(f"/proc/{'self' if pid is None else pid}/fdinfo/{fd}", "rb") as lines:
        for line in lines:
            if line.startswith(b"mnt_id:"):
                return int(line.split()[1])
    return None


def _parse(line: bytes) -> Mount:
    fields = line.split()
    rest = fields[fields.index(b"-", 6) + 1 :]
    return Mount(
        int(fields[0]),
        int(fields[1]),
        fields[2].decode("ascii"),
        _unescape(fields[4]),
        rest[0].decode("ascii", "replace"),
        _unescape(rest[1]) if len(rest) > 1 else b"",
    )


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), field)

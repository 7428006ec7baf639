"""The private mount namespace of a test run, and what must be known of mounts in it.

Everything here reads /proc/self/mountinfo and never stats a mountpoint: a dead or hung mount
must not take the test run with it.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x00020000
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_REMOUNT: Final = 32
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2
PR_SET_PDEATHSIG: Final = 1
FUSE_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")

_PLAIN: Final = re.compile(r"[\w/.-]+", re.ASCII)

_libc = ctypes.CDLL(None, use_errno=True)
_OWN: Final = "/proc/self/ns/mnt"
_FIRST: Final = os.readlink(_OWN)
"""The mount namespace in which the process imported this module."""


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo. device: minor number, which names the FUSE connection."""

    mountpoint: str
    fstype: str
    source: str
    device: int


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def enter_private_namespace() -> None:
    """Give this process, and all it will start, mounts that nobody else sees. Needs root."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make / private")
    if FUSE_CONNECTIONS.is_dir() and not any(FUSE_CONNECTIONS.iterdir()):
        mounted = {entry.mountpoint for entry in mount_entries()}
        if str(FUSE_CONNECTIONS) not in mounted:
            _check(
                _libc.mount(b"fusectl", os.fsencode(FUSE_CONNECTIONS), b"fusectl", 0, None), "mount fusectl"
            )


def mount_memory(directory: Path) -> None:
    """Mount a tmpfs of mode 0711 on a new directory. Raises OSError."""
    directory.mkdir()
    flags = MS_NOSUID | MS_NODEV
    _check(_libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", flags, b"mode=711"), f"mount {directory}")


def is_private() -> bool:
    """Return True if this process has entered another mount namespace since it imported this module."""
    return os.readlink(_OWN) != _FIRST


def _unescape(field: str) -> str:
    return os.fsdecode(field.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1"))


def mount_entries(word: str = "") -> list[MountEntry]:
    """Every mount of this namespace whose line has this word in it, oldest first."""
    entries = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if word not in line:
                continue
            fields = line.split()
            dash = fields.index("-", 6)
            entries.append(
                MountEntry(
                    mountpoint=_unescape(fields[4]),
                    fstype=fields[dash + 1],
                    source=_unescape(fields[dash + 2]),
                    device=int(fields[2].split(":")[1]),
                )
            )
    return entries


def mounts_below(directory: Path) -> list[MountEntry]:
    """The mounts on or below a directory, innermost (youngest) first."""
    prefix = str(directory)
    plain = prefix if _PLAIN.fullmatch(prefix) else ""  # others are escaped in the table
    return [
        entry
        for entry in reversed(mount_entries(plain))
        if entry.mountpoint == prefix or entry.mountpoint.startswith(prefix + "/")
    ]


def control_of(device: int) -> int:
    """The inode of a FUSE connection's control file `abort`. No later connection has it, other than the
    number of the device, which the kernel gives to the next mount at once."""
    return (FUSE_CONNECTIONS / str(device) / "abort").stat().st_ino


def abort_connection(device: int, control: int | None = None) -> bool:
    """End a FUSE connection by force: every request in it fails. False if it is gone already. control: its
    control_of(), for a connection that may be gone."""
    try:
        with (FUSE_CONNECTIONS / str(device) / "abort").open("wb", buffering=0) as file:
            if control is not None and os.fstat(file.fileno()).st_ino != control:
                return False
            file.write(b"1")
    except OSError:
        return False
    return True


def detach(mountpoint: str) -> None:
    """Lazy unmount; nothing to do if nothing is mounted there."""
    _libc.umount2(os.fsencode(mountpoint), MNT_DETACH)


def forget_unused(mountpoint: str | os.PathLike[str]) -> None:
    """Make the kernel forget the names and inodes of one FUSE mount that nobody uses now.

    A remount does that (reconfigure_super() in fs/super.c) and changes nothing else; dropping the
    caches of the machine would disturb whatever else runs on it.
    """
    flags = MS_REMOUNT | MS_NOSUID | MS_NODEV
    _check(_libc.mount(None, os.fsencode(mountpoint), None, flags, None), f"remount {mountpoint}")


def clear_away(directory: Path) -> list[str]:
    """Abort and detach every mount below a directory; returns what there was."""
    cleared = []
    for entry in mounts_below(directory):
        if entry.fstype.startswith("fuse"):
            abort_connection(entry.device)
        detach(entry.mountpoint)
        cleared.append(f"{entry.mountpoint} ({entry.fstype})")
    return cleared


def die_with_parent(signal_number: int) -> None:
    """Ask the kernel for a signal when the parent of this process ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)

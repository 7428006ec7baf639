"""File systems to test a store on: loop images of ext4, xfs, btrfs (vfat), and tmpfs.

They are mounted in this process's private mount namespace, and their loop devices are set up to
detach by themselves when the last mount goes (LO_FLAGS_AUTOCLEAR, which mount(8) sets). So the
kernel cleans up even after kill -9 of the test run; clean-up here only makes it happen in time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.machine.namespace import detach, is_private, mounts_below
from tests.support.machine.processes import wait_for

IMAGE_BYTES: Final = 320 << 20
"""Sparse. The least that mkfs.xfs makes is 300 MiB."""

_MAKE: Final = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
    "vfat": ("mkfs.vfat",),
}
_DEADLINE_S: Final = 60.0


def kernel_has(fstype: str) -> bool:
    """Return True if the kernel can mount file systems of a type now, as /proc/filesystems names it."""
    return any(line.split()[-1] == fstype for line in Path("/proc/filesystems").read_text().splitlines())


IMAGE_KINDS: Final = (
    "ext4",
    "xfs",
    "btrfs",
    *(["vfat"] if kernel_has("vfat") and shutil.which("mkfs.vfat") else []),
)
"""What can be made here: the first three must be, vfat where kernel and tools know it."""

STORE_KINDS: Final = ("ext4", "xfs", "btrfs", "tmpfs")
"""File systems with owners, xattrs, leases and handles: what a store usually lies on."""


@contextlib.contextmanager
def file_system(kind: str, directory: Path, *options: str, memory: bool = True) -> Iterator[Path]:
    """A new, empty file system of that kind mounted below *directory*; yields its root.

    *options*: more words for the mkfs of that kind. *memory*: the image lies in a tmpfs of its own,
    so that what it is asked to make durable waits for no disk.

    At the end it must not be busy: the test left something open, and is told what mount it was.
    """
    _demand_private_namespace()
    mountpoint, held = directory / kind, directory / f"{kind}-memory"
    memory = memory and kind != "tmpfs"
    image = (held if memory else directory) / f"{kind}.img"
    mountpoint.mkdir()
    try:
        if memory:
            held.mkdir()
            _run("mount", "-t", "tmpfs", "-o", f"size={2 * IMAGE_BYTES}", "tmpfs", os.fspath(held))
        if kind == "tmpfs":
            _run("mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", os.fspath(mountpoint))
        else:
            with image.open("wb") as file:
                file.truncate(IMAGE_BYTES)
            _run(*_MAKE[kind], *options, os.fspath(image))
            _run("mount", "-t", kind, "-o", "loop", os.fspath(image), os.fspath(mountpoint))
        yield mountpoint
    finally:
        busy = _clear(mountpoint)
        if image.exists():
            wait_for(lambda: not loop_devices(image), f"the loop device of {image} to detach")
            image.unlink()
        if memory:
            busy += _clear(held)
    assert not busy, f"the test left {mountpoint} busy: {busy}"


def loop_devices(image: Path) -> list[str]:
    """The loop devices that are backed by that file."""
    return _run("losetup", "--noheadings", "--output", "NAME", "--associated", os.fspath(image)).split()


def _clear(mountpoint: Path) -> str:
    """Unmount all that is mounted there; what umount said if it was busy, then detached anyway."""
    said = ""
    for entry in mounts_below(mountpoint):
        done = subprocess.run(
            ["umount", entry.mountpoint], capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
        if done.returncode:
            said += done.stderr
            detach(entry.mountpoint)
    mountpoint.rmdir()
    return said


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}: {done.stderr}"
    return done.stdout


def _demand_private_namespace() -> None:
    assert is_private(), "mark the test `mount`: file systems are mounted in a private namespace only"

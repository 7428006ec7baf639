"""A disk that fails when a test wants it to: a block device whose blocks this process's child answers for.

A loop device on a file of a FUSE file system of our own (tinyfs), so that errors and delays come to the
store's file system from below, as from a real disk. Where the device mapper is in the kernel it could do
the same; this needs nothing of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import trio

from policyfs.kernel.bridge import FH_DIRECT_IO, pyfuse3
from tests.support.machine.namespace import detach
from tests.support.machine.processes import wait_for
from tests.support.mount.tinyfs import Options, Tiny, TinyFs

_DEADLINE_S: Final = 30.0
_MAKE: Final = {
    "ext4": ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-N", "512"),
    "btrfs": ("-q", "-f"),
}
"""Words for the mkfs of a kind."""


class Blocks(TinyFs):
    """Answers for the blocks. failing: "r", "w" or both; slow: likewise, they wait until it changes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.failing = self.slow = ""
        self.changed = trio.Event()
        self.asked = {"r": 0, "w": 0}
        self.state.flags = FH_DIRECT_IO

    def be(self, failing: str, slow: str) -> None:
        self.failing, self.slow = failing, slow
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def waits(self) -> dict[str, int]:
        """How many reads and writes wait now."""
        return dict(self.asked)

    async def _turn(self, way: str) -> None:
        self.asked[way] += 1
        while way in self.slow:
            await self.changed.wait()
        self.asked[way] -= 1
        if way in self.failing:
            raise pyfuse3.FUSEError(errno.EIO)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        await self._turn("r")
        return os.pread(self.state.handles[fh], size, off)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        await self._turn("w")
        return os.pwrite(self.state.handles[fh], buf, off)

    async def flush(self, fh: int) -> None:
        pass

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=self._handle(inode, flags))


class Disk:
    """A file system on such a disk. root: where it is mounted."""

    def __init__(self, root: Path, tiny: Tiny) -> None:
        self.root = root
        self._tiny = tiny

    def be(self, *, failing: str = "", slow: str = "") -> None:
        """From now on reads ("r") or writes ("w") fail with EIO, or wait until this is called again."""
        self._tiny.call("be", failing, slow)

    def waits(self, way: str) -> bool:
        """Whether somebody waits for the disk."""
        return bool(self._tiny.call("waits")[way])


@contextlib.contextmanager
def disk(directory: Path, furnish: Any, kind: str = "ext4", size: int = 24 << 20) -> Iterator[Disk]:
    """A file system of that kind on a disk of its own, with what furnish(root) puts there and nothing of it
    in memory."""
    memory, mountpoint, root = (directory / name for name in ("memory", "blocks", "root"))
    for made in (memory, mountpoint, root):
        made.mkdir()
    _run("mount", "-t", "tmpfs", "tmpfs", memory)
    try:
        with _disk(memory / "disk.img", mountpoint, root, furnish, kind, size) as made_disk:
            yield made_disk
    finally:
        _unmount(memory)


@contextlib.contextmanager
def _disk(backing: Path, mountpoint: Path, root: Path, furnish: Any, kind: str, size: int) -> Iterator[Disk]:
    with backing.open("wb") as file:
        file.truncate(size)
    _run(f"mkfs.{kind}", *_MAKE[kind], backing)
    _run("mount", "-o", "loop", backing, root)
    try:
        furnish(root)
    finally:
        _run("umount", root)
    data = backing.read_bytes()
    tiny = Tiny(mountpoint, backing, Options(kind=Blocks))
    backing.write_bytes(data)
    device = ""
    try:
        device = _run("losetup", "--find", "--show", tiny.path("m")).strip()
        _run("mount", "-o", "noatime", device, root)  # a read that changes times waits for the journal
        made = Disk(root, tiny)
        try:
            yield made
        finally:
            made.be()
            _unmount(root)
    finally:
        if device:
            _run("losetup", "--detach", device)
            at = tiny.path("m")
            wait_for(lambda: not _run("losetup", "--noheadings", "-j", at), "the loop device is free")
        tiny.stop()


def remount(root: Path, *options: str) -> None:
    """Remount a file system with other options."""
    _run("mount", "-o", ",".join(("remount", *options)), root)


def _unmount(root: Path) -> None:
    done = subprocess.run(["umount", root], capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    if done.returncode:
        detach(str(root))
        raise AssertionError(f"the test left {root} busy: {done.stderr}")


def _run(*words: str | os.PathLike[str]) -> str:
    line = [os.fspath(word) for word in words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert done.returncode == 0, f"{' '.join(line)}: exit {done.returncode}: {done.stderr}"
    return done.stdout

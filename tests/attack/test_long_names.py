"""Names longer than those of disks: a FUSE store may have names of 4 KiB, and an app may choose them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyfs.kernel.bridge import pyfuse3
from tests.support.machine.processes import call_as
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.stores import WEAKENED, Mounts
from tests.support.mount.tinyfs import NAMES, Options, Tiny, TinyFs

SIZES = (4000, 1024, 1001, 254)
"""Sizes of names. Old kernels take 1024 bytes at most from a FUSE store, newer ones 4095."""

LEAST = 1024
LOOKED_UP = 12


class AnyName(TinyFs):
    """A store whose files may have any name: all have the same bytes. The longest names come first."""

    def _path(self, node: int) -> Path:
        del node
        return self.file

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        names = sorted({**NAMES, **self.state.made}.items(), key=lambda named: -len(named[0]))
        for position, (name, node) in enumerate(names[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self._attributes(node), position):
                break


@pytest.fixture
def long_names(arena: Path, mounts: Mounts) -> Iterator[Callable[..., Mount]]:
    """`long_names(guard)`: a mount of such a store, of a daemon that lacks the guard, if there is one."""
    store, backing = arena / "fuse-store", arena / "tiny-backing" / "file"
    store.mkdir()
    backing.parent.mkdir(mode=0o700)
    backing.write_bytes(b"words")
    tiny = Tiny(store, backing, Options(kind=AnyName, passthrough=False))
    mount = mounts.prepare(faulty.POLICY, store)
    mount.expected_mediated = True

    def start(guard: str = "") -> Mount:
        if guard:
            mount.program = (WEAKENED, guard)
        return mount.start()

    try:
        yield start
    finally:
        wrong = mount.stop()
        tiny.stop()
    assert wrong == []


def make(directory: Path, name: str) -> bool:
    """Make a file. False if this kernel takes no such long name from a FUSE store."""
    os.chdir(directory)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG or len(name) <= LEAST:
            raise
        return False
    return True


def looked_up(directory: Path) -> list[str]:
    """List with nodes: names are looked up as soon as they are listed, but not all of them."""
    os.chdir(directory)  # the whole path may be longer than one system call takes
    found = []
    with os.scandir(".") as entries:
        for entry in entries:
            if len(found) < LOOKED_UP:
                os.stat(entry.name)
            found.append(entry.name)
    return sorted(found)


def furnish(mount: Mount) -> list[str]:
    """Make files with long names. Return all names of the mount, sorted."""
    names = ["x" * size for size in SIZES] + [f"{number:03}{'y' * 1000}" for number in range(80)]
    made = call_as(CAMERA, lambda: [name for name in names if make(mount.mountpoint, name)])
    return sorted([*made, *(name.decode() for name in NAMES)])


@pytest.mark.timeout(60)
def test_long_names_harm_neither_the_daemon_nor_other_names(long_names: Callable[..., Mount]) -> None:
    """Attack B3.2: Make names of up to 4 KiB on a FUSE store, so that the daemon crashes, or that others'
    listings end early
    Guard: policyfs/kernel/door/_direntries.c::room_for,
    policyfs/fs/namespace/readdir.py::DirectoryListings.names
    Also: tests/unit/test_kernel_direntries.py::test_names_of_four_kilobytes_have_room
    Without: ::test_listings_end_early_where_a_reply_takes_no_long_name
    """
    mount = long_names()
    expected = furnish(mount)
    for _ in range(5):
        assert call_as(GALLERY, lambda: sorted(os.listdir(mount.mountpoint))) == expected
        assert call_as(GALLERY, looked_up, mount.mountpoint) == expected


@pytest.mark.timeout(60)
def test_listings_end_early_where_a_reply_takes_no_long_name(long_names: Callable[..., Mount]) -> None:
    mount = long_names("replies-cut")
    expected = furnish(mount)
    assert call_as(GALLERY, looked_up, mount.mountpoint) != expected

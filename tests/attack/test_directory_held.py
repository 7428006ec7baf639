"""An app keeps the kernel's lock of a directory: it removes a file that it writes by splice(2) from a pipe in
which nothing comes. (In passthrough the kernel has the file's lock while it waits for the pipe.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY


def _splice(channel: Connection, path: Path) -> None:
    """Write a file from an empty pipe, until killed."""
    come, _go = os.pipe()
    fd = os.open(path, os.O_WRONLY)
    channel.send("begun")
    os.splice(come, fd, 4096)


def _unlink(channel: Connection, path: Path) -> None:
    channel.send("begun")
    os.unlink(path)


def _stands_in(child: Child, function: str) -> bool:
    return function in Path(f"/proc/{child.pid}/stack").read_text()


@pytest.fixture
def holding() -> Iterator[Callable[[Mount], None]]:
    """`holding(mount)`: an app holds /DCIM from now on."""
    made: list[Child] = []

    def begin(mount: Mount) -> None:
        for function, inside in ((_splice, "fuse_passthrough_splice_write"), (_unlink, "vfs_unlink")):
            child = start_as(CAMERA, function, mount / "DCIM/a.jpg")
            made.append(child)
            assert child.receive() == "begun"
            wait_for(lambda child=child, inside=inside: _stands_in(child, inside), f"it is in {inside}")

    yield begin
    for child in made:
        child.kill()


def _sent(mount: Mount) -> int:
    return int(mount.status()["notifications"]["sent"])


def _in_hand(mount: Mount, store: Path) -> None:
    """Something changes in the held directory: the kernel does not take the notification."""
    before = mount.status()["watch"]["events"]
    (store / "DCIM/new").write_bytes(b"x")
    wait_for(lambda: mount.status()["watch"]["events"] > before, "the daemon knows of it")


def test_the_kernel_is_told_of_all_other_directories(store_on, mounts_on, holding) -> None:
    store = store_on("ext4")
    faulty.furnish(store)
    mount = mounts_on.start(faulty.POLICY, store)
    assert call_as(GALLERY, os.listdir, mount / "Checked") == ["a.jpg"]
    holding(mount)
    _in_hand(mount, store)
    wait_for(lambda: mount.status()["notifications"]["hanging"] == 1, "another thread goes on")
    for number in range(3):
        before = _sent(mount)
        (store / f"Checked/{number}").write_bytes(b"x")
        wait_for(lambda before=before: _sent(mount) > before, "the kernel is told")
    assert len(call_as(GALLERY, os.listdir, mount / "Checked")) == 4
    assert mount.status()["bugs"] == 0


def test_it_is_told_of_nothing_where_one_thread_tells_all(store_on, without, holding) -> None:
    store = store_on("ext4")
    faulty.furnish(store)
    mount = without("one-notifier", faulty.POLICY, store)
    call_as(GALLERY, os.listdir, mount / "Checked")
    holding(mount)
    _in_hand(mount, store)
    before = _sent(mount)
    (store / "Checked/new").write_bytes(b"x")
    with pytest.raises(AssertionError, match="the kernel is told"):
        wait_for(lambda: _sent(mount) > before, "the kernel is told", 3.0)

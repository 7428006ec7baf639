"""A draft shares its blocks with the store's file (btrfs), while the disk waits: only its writer waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.attack.test_drafts import CAMERA
from tests.attack.test_restless_files import OTHER, RULES
from tests.support.machine.disks import Disk, disk
from tests.support.machine.processes import Child, call_as, is_blocked, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

OLD, NEW = jpegs.plain(3, 64), jpegs.plain(4, 64) + bytes(4 << 20)
SIZE = 160 << 20
UNANSWERED_S = 2.0


def _furnish(root: Path) -> None:
    share = root / "store/Share"
    share.mkdir(parents=True)
    (root / "store").chmod(0o700)
    share.chmod(0o777)
    for name in ("a.jpg", "b.jpg"):
        (share / name).write_bytes(OLD)
        (share / name).chmod(0o666)
        os.chown(share / name, OTHER, OTHER)


@pytest.fixture
def slow(mounts: Mounts, tmp_path: Path) -> Iterator[Callable[..., tuple[Mount, Disk]]]:
    """`slow(guards)`: a mount of a store on a btrfs whose disk waits when told to."""
    with disk(tmp_path, _furnish, "btrfs", SIZE) as made:
        mount = mounts.prepare(RULES, made.root / "store")

        def start(guards: str = "") -> tuple[Mount, Disk]:
            if guards:
                mount.program = ("tests.attack.weakened", guards)
            return mount.start(), made

        try:
            yield start
        finally:
            made.be()
            wrong = mount.stop()
    assert wrong == []


def _save(channel: Connection, path: Path) -> str:
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    os.write(fd, NEW)
    channel.send("written")
    channel.recv()
    os.close(fd)
    return "stored"


def _change_mode(channel: Connection, path: Path) -> str:
    path.stat()
    channel.send("known")
    channel.recv()
    path.chmod(0o606)
    return "changed"


def storing(mount: Mount, made: Disk) -> tuple[Child, Child]:
    """An app whose draft waits for the disk on its way, and one that then changes the mode of the file. What
    others read is in memory."""
    assert call_as(OTHER, (mount / "Share/b.jpg").read_bytes) == OLD
    path = mount / "Share/a.jpg"
    writer, other = start_as(CAMERA, _save, path), start_as(OTHER, _change_mode, path)
    assert [writer.receive(), other.receive()] == ["written", "known"]
    made.be(slow="w")
    writer.send("close")
    wait_for(lambda: made.waits("w"), "the draft waits for the disk")
    other.send("change")
    return writer, other


def test_who_changes_the_file_meanwhile_does_not_wait_nor_does_anybody_else(slow) -> None:
    """Attack E5.17: Change or remove a file while a draft's blocks are to go into it on a slow disk (btrfs,
    xfs), so that the kernel holds its lock
    Guard: policyfs/fs/checked/draft_storage.py::DraftStorage.store, policyfs/store/ranges.py::write_out
    Without: ::test_all_wait_where_the_draft_is_written_under_the_locks
    """
    mount, made = slow()
    writer, other = storing(mount, made)
    assert other.result(10) == "changed"
    assert call_as(OTHER, (mount / "Share/b.jpg").read_bytes) == OLD
    assert not writer.channel.poll()
    made.be()
    assert writer.result() == "stored"
    file = made.root / "store/Share/a.jpg"
    assert file.read_bytes() == NEW
    assert file.stat().st_mode & 0o777 == 0o606
    assert mount.status()["bugs"] == 0


def _read(channel: Connection, path: Path) -> bytes:
    return path.read_bytes()


def test_all_wait_where_the_draft_is_written_under_the_locks(slow) -> None:
    mount, made = slow("written-under-locks")
    writer, other = storing(mount, made)
    wait_for(lambda: is_blocked(mount.pid), "the daemon waits for the lock")
    reader = start_as(OTHER, _read, mount / "Share/b.jpg")
    assert not reader.channel.poll(UNANSWERED_S)
    made.be()
    assert (reader.result(), other.result(), writer.result()) == (OLD, "changed", "stored")
    assert (made.root / "store/Share/a.jpg").read_bytes() == NEW

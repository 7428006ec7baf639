"""The disk below the store fails, is slow, or becomes read-only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.disks import Disk, disk, remount
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import attempt, error
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO, errors, written
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

NAMES = [f"{number}.jpg" for number in range(8)]


def _furnish(root: Path) -> None:
    (root / "store").mkdir(mode=0o700)
    faulty.furnish(root / "store")
    for name in NAMES:
        for place in ("DCIM", "Checked"):
            path = root / "store" / place / name
            path.write_bytes(PHOTO)
            os.chown(path, CAMERA, CAMERA)


def _look_at_all(root: Path) -> None:
    for place in ("DCIM", "Checked"):
        for name in ("a.jpg", *NAMES):
            os.stat(root / place / name)


@pytest.fixture
def failing(mounts: Mounts, tmp_path: Path) -> Iterator[tuple[Mount, Disk]]:
    """A mount of a store on a disk whose faults the test makes. Names are in memory, contents not."""
    with disk(tmp_path, _furnish) as made:
        mount = mounts.prepare(faulty.POLICY, made.root / "store")
        mount.expected_mediated = True
        mount.start()
        call_as(CAMERA, _look_at_all, mount.mountpoint)
        try:
            yield mount, made
        finally:
            made.be()
            wrong = mount.stop()
    assert wrong == []


def _make_durable(path: Path) -> None:
    path.mkdir()
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(channel, path: Path) -> bytes:
    return path.read_bytes()


def test_a_disk_that_cannot_be_read(failing) -> None:
    """Fault store.12: The disk cannot be read
    App: EIO from calls that need bytes which are not in memory. A redacted reader gets no unchecked byte
    Store: unchanged
    Trail: the opens before; no redacted open that failed
    """
    mount, disk = failing
    disk.be(failing="r")
    for uid, place in ((CAMERA, "DCIM"), (CAMERA, "Checked"), (GALLERY, "DCIM")):
        assert call_as(uid, error, Path.read_bytes, mount / place / "1.jpg") == "EIO", (uid, place)
    # What needs no disk goes on; a redacted reader is never given what was not looked at.
    assert len(call_as(GALLERY, os.listdir, mount / "DCIM")) == len(NAMES) + 1
    disk.be()
    assert call_as(CAMERA, (mount / "DCIM/1.jpg").read_bytes) == PHOTO
    shown = call_as(GALLERY, (mount / "DCIM/1.jpg").read_bytes)
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
    assert mount.status()["bugs"] == 0


def test_a_disk_that_cannot_be_written(failing) -> None:
    """fsync says so, once the journal cannot be written the file system is read-only: never a lie.

    Fault store.13: The disk cannot be written
    App: as without policyfs: fsync returns EIO, or EROFS once the file system has given up
    Store: the bytes that fsync confirmed, and those other bytes that the file system kept
    Trail: as usual
    """
    mount, disk = failing
    assert call_as(CAMERA, lambda: written(mount / "Checked/good.jpg", LARGE, sync=True)) == (len(LARGE), "")
    disk.be(failing="w")
    for place in ("DCIM", "Checked"):
        took, said = call_as(CAMERA, lambda: written(mount / place / "new.jpg", LARGE, sync=True))  # noqa: B023
        assert said in {"EIO", "EROFS"}, (place, took)
    assert call_as(CAMERA, error, _make_durable, mount / "DCIM/new") in {"EIO", "EROFS"}
    disk.be()
    assert (mount.store / "Checked/good.jpg").read_bytes() == LARGE
    shown = call_as(GALLERY, (mount / "DCIM/1.jpg").read_bytes)
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
    assert mount.status()["bugs"] == 0


def test_who_waits_for_a_slow_disk_waits_alone(failing) -> None:
    """On each road: passed through, mediated, redacted.

    Fault store.14: The disk is slow
    App: Only the caller of a read, a write in passthrough or a checked write waits. All wait while the
    loop waits: for changes of names and attributes, unchecked writes up to 64 KiB, appends, pages of
    mappings, and writes of a redacted app
    Store: accepted bytes
    Trail: as usual
    """
    mount, disk = failing
    known = call_as(GALLERY, (mount / "DCIM/2.jpg").read_bytes)
    for uid, name in ((CAMERA, "DCIM/1.jpg"), (CAMERA, "Checked/1.jpg"), (GALLERY, "DCIM/3.jpg")):
        disk.be(slow="r")
        reader = start_as(uid, _read, mount / name)
        wait_for(lambda: disk.waits("r"), "it waits for the disk")
        # Everybody else does what needs no disk.
        assert call_as(GALLERY, (mount / "DCIM/2.jpg").read_bytes) == known
        assert len(call_as(GALLERY, os.listdir, mount / "DCIM")) == len(NAMES) + 1
        assert call_as(CAMERA, (mount / "DCIM/2.jpg").read_bytes) == PHOTO
        assert mount.status()["bugs"] == 0
        assert not reader.channel.poll()
        disk.be()
        data = reader.result()
        assert len(data) == len(PHOTO)
        assert (data == PHOTO) == (uid == CAMERA)
        assert uid == CAMERA or not jpegs.leaks(data)


def test_a_store_that_becomes_read_only(on_disk) -> None:
    """Fault store.15: The store is remounted read-only under the mount
    App: EROFS for every change. Reads continue, also redacted ones
    Store: unchanged
    Trail: refused changes of names and attributes as allowed; nothing for a failed create, open or
    truncation
    """
    mount, root = on_disk("ext4")
    remount(root, "ro")
    place = mount / "DCIM"
    calls = {
        "create": lambda: os.open(place / "new", os.O_WRONLY | os.O_CREAT),
        "open": lambda: os.open(place / "a.jpg", os.O_WRONLY),
        "empty": lambda: os.open(place / "a.jpg", os.O_WRONLY | os.O_TRUNC),
        "truncate": lambda: os.truncate(place / "a.jpg", 0),
        "mkdir": lambda: os.mkdir(place / "new"),
        "rename": lambda: os.rename(place / "a.jpg", place / "b.jpg"),
        "link": lambda: os.link(place / "a.jpg", place / "b.jpg"),
        "unlink": lambda: os.unlink(place / "a.jpg"),
        "chmod": lambda: os.chmod(place / "a.jpg", 0o600),
        "utime": lambda: os.utime(place / "a.jpg"),
        "setxattr": lambda: os.setxattr(place / "a.jpg", "user.a", b"a"),
    }
    assert call_as(CAMERA, errors, calls) == dict.fromkeys(calls, "EROFS")
    shown = call_as(GALLERY, (place / "a.jpg").read_bytes)
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
    assert (root / "store/DCIM/a.jpg").read_bytes() == PHOTO
    remount(root, "rw")
    assert call_as(CAMERA, written, place / "new", b"x") == (1, "")
    assert mount.status()["bugs"] == 0


def _held(channel, path: Path) -> tuple[str, str]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, LARGE[:2])  # no photo yet
    channel.send("held")
    channel.recv()
    wrote = attempt(lambda: os.write(fd, LARGE[2:9000])).error
    return wrote, attempt(lambda: os.fsync(fd)).error


def test_a_store_that_is_cut_off_while_a_head_is_held(mounts: Mounts, tmp_path: Path) -> None:
    """The file system gives up (as after an error of its disk): the head was promised to nobody.

    Fault store.17: The file system gives up while a head is held
    App: EROFS or EIO from write and fsync
    Store: nothing of the head: an empty file
    Trail: `release` with nothing written
    """
    with file_system("ext4", tmp_path) as root:
        (root / "store").mkdir(mode=0o700)
        faulty.furnish(root / "store")
        mount = mounts.prepare(faulty.POLICY, root / "store")
        mount.expected_mediated = True
        mount.start()
        writer = start_as(CAMERA, _held, mount / "Checked/new.jpg")
        assert writer.receive() == "held"
        remount(root, "abort")
        writer.send("go on")
        wrote, synced = writer.result()
        assert wrote in {"EROFS", "EIO"}
        assert synced in {"EROFS", "EIO", "EPERM"}
        shown = call_as(GALLERY, (mount / "DCIM/a.jpg").read_bytes)
        assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
        new = root / "store/Checked/new.jpg"
        assert not new.exists() or new.read_bytes() == b""
        assert mount.stop() == []

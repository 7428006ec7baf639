"""One library on every sort of store: what apps see is the same, and what cannot be had is said."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.machine.counts import daily
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, wait_for
from tests.support.models.twins import error
from tests.support.mount import layers
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import KERNEL, Mounts
from tests.support.programs.bytesio import digest_by_map, digest_by_read, digest_of, pattern
from tests.support.samples import jpegs

CAMERA, GALLERY, MAPS = 10010, 10011, 10012
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
  maps: {{uid: {MAPS}, grants: [media.location]}}
rules:
  - {{id: look, allow: [see, read], who: {{app: any}}, paths: ["/DCIM/***", "/Private/***"]}}
  - {{id: shoot, allow: [see, write, create, delete, attr], who: {{app: camera}}, paths: "/DCIM/**"}}
  - {{id: private, deny: [all], who: {{not: {{app: camera}}}}, paths: "/Private/***", errno: ENOENT}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    unless: {{owner: self}}
    paths: "/DCIM/**"
"""
PHOTO = jpegs.photo_with(jpegs.exif())
LARGE = PHOTO + bytes(3 << 20)
SEEN_S = 1.5


@dataclass(frozen=True, slots=True)
class Kind:
    """What is to be expected of a store. large: can a photo above --copy-max be read redacted.
    owned: is it kept which app made a file. tags: can an app keep user.* attributes.
    gives: can root give a file to another user."""

    name: str
    passes: bool
    large: bool
    writable: bool = True
    owned: bool = True
    tags: bool = True
    gives: bool = True


KINDS = [
    Kind("ext4", passes=True, large=True),
    Kind("xfs", passes=True, large=True),
    Kind("btrfs", passes=True, large=True),
    Kind("tmpfs", passes=True, large=True, tags=KERNEL >= (6, 6)),
    Kind("overlay", passes=False, large=False),
    Kind("read-only", passes=True, large=True, writable=False),
    Kind("sshfs", passes=False, large=False, owned=False, tags=False, gives=False),
    Kind("mergerfs", passes=False, large=True),
    Kind("gocryptfs", passes=False, large=False),
    Kind("bindfs", passes=False, large=False),
]


def furnish(store: Path) -> None:
    for name in ("DCIM", "Private"):
        (store / name).mkdir(mode=0o700)
    for name, data in (("DCIM/a.jpg", PHOTO), ("DCIM/large.jpg", LARGE), ("Private/diary.txt", b"dear\n")):
        (store / name).write_bytes(data)
        (store / name).chmod(0o600)


@contextlib.contextmanager
def store_of(kind: str, base: Path, directory: Path) -> Iterator[Path]:
    """A furnished store of that kind. base: an empty directory on the machine's own file system."""
    with contextlib.ExitStack() as stack:
        if kind == "gocryptfs":
            root = stack.enter_context(layers.gocryptfs(base, directory))
            furnish(root)
            yield root
        elif kind in {"overlay", "read-only", "sshfs", "mergerfs", "bindfs"}:
            furnish(base)
            yield stack.enter_context(getattr(layers, kind.replace("-", "_"))(base, directory))
        else:
            root = stack.enter_context(file_system(kind, directory))
            furnish(root)
            yield root


ONE_OF_EACH = ("ext4", "overlay", "read-only", "mergerfs", "gocryptfs")
"""Each day a disk, what lies over one, what changes nothing, and FUSE with and without large files."""


@pytest.fixture(scope="module", params=daily(KINDS, *ONE_OF_EACH), ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


class Library(NamedTuple):
    """base: what a store lies on that is another view of it."""

    store: Path
    mount: Mount
    base: Path


@pytest.fixture(scope="module")
def library(kind: Kind, module_arena: Path) -> Iterator[Library]:
    """A store of the kind and its mount: each test leaves the store as it was, but for the last."""
    arena = Path(tempfile.mkdtemp(prefix="kind-", dir=module_arena))
    arena.chmod(0o711)
    base, directory = arena / "base", arena / "disk"
    for made in (base, directory):
        made.mkdir(mode=0o700)
    mounts = Mounts(arena)
    with store_of(kind.name, base, directory) as store:
        mount = mounts.start(POLICY, store, "--copy-max", "1M")
        mount.expected_mediated = not kind.passes or kind.large
        try:
            yield Library(store, mount, base)
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
    assert wrong == []


def read(path: Path) -> bytes:
    return path.read_bytes()


def test_everyone_sees_what_the_policy_says(kind: Kind, library: Library) -> None:
    store, mount, _ = library
    assert sorted(call_as(GALLERY, os.listdir, mount.mountpoint)) == ["DCIM"]
    assert call_as(GALLERY, error, os.stat, mount / "Private/diary.txt") == "ENOENT"
    assert call_as(CAMERA, read, mount / "Private/diary.txt") == b"dear\n"
    shown = call_as(GALLERY, read, mount / "DCIM/a.jpg")
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
    assert jpegs.pixels(shown) == jpegs.pixels(PHOTO)
    assert call_as(GALLERY, digest_by_map, mount / "DCIM/a.jpg") == digest_of(shown)
    for way in (digest_by_read, digest_by_map):
        assert call_as(MAPS, way, mount / "DCIM/a.jpg") == digest_of(PHOTO)
    if kind.large:
        large = call_as(GALLERY, read, mount / "DCIM/large.jpg")
        assert (len(large), jpegs.leaks(large)) == (len(LARGE), [])
    else:
        assert call_as(GALLERY, error, read, mount / "DCIM/large.jpg") == "EACCES"
        assert "lease" in str(mount.events(path="/DCIM/large.jpg", decision="deny")[-1]["note"])
    assert call_as(MAPS, digest_by_read, mount / "DCIM/large.jpg") == digest_of(LARGE)
    status = mount.status()
    assert status["passthrough"]["enabled"] == (KERNEL >= (6, 9))
    if KERNEL >= (6, 9):
        assert bool(status["passthrough"]["refused"]) == (not kind.passes), status["passthrough"]
    assert (store / "DCIM/a.jpg").read_bytes() == PHOTO


def test_what_apps_write_arrives_whole_and_is_theirs(kind: Kind, library: Library) -> None:
    store, mount, _ = library
    place = mount / "DCIM"
    data = pattern(3, 700_001)
    if not kind.writable:
        assert call_as(CAMERA, error, Path.write_bytes, place / "new", data) == "EROFS"
        assert call_as(CAMERA, error, os.unlink, place / "a.jpg") == "EROFS"
        assert call_as(CAMERA, error, os.mkdir, place / "d") == "EROFS"
        assert sorted(os.listdir(store / "DCIM")) == ["a.jpg", "large.jpg"]
        return
    call_as(CAMERA, Path.write_bytes, place / "new", data)
    assert call_as(MAPS, digest_by_read, place / "new") == digest_of(data)
    assert (store / "DCIM/new").read_bytes() == data
    call_as(CAMERA, os.symlink, "new", place / "link")
    call_as(CAMERA, os.mknod, place / "node", 0o640)
    call_as(CAMERA, os.mkdir, place / "drawer", 0o750)
    made = {name: (store / "DCIM" / name).lstat() for name in ("new", "link", "node", "drawer")}
    assert {one.st_uid for one in made.values()} == {CAMERA if kind.gives else store.stat().st_uid}
    assert [oct(made[name].st_mode & 0o7777) for name in ("node", "drawer")] == ["0o640", "0o750"]
    if kind.tags:
        call_as(CAMERA, os.setxattr, place / "drawer", b"user.tag", b"holiday")
        assert os.getxattr(store / "DCIM/drawer", b"user.tag") == b"holiday"
    for name in ("link", "node"):
        call_as(CAMERA, os.unlink, place / name)
    call_as(CAMERA, os.rmdir, place / "drawer")
    # Of no kind that is known to carry nothing: for who is not known to own it, closed.
    assert (call_as(CAMERA, error, digest_by_read, place / "new") == "EACCES") == (not kind.owned)
    assert (call_as(CAMERA, error, os.truncate, place / "new", 4097) == "EACCES") == (not kind.owned)
    os.truncate(store / "DCIM/new", 4097)
    call_as(CAMERA, os.rename, place / "new", place / "moved")
    assert (store / "DCIM/moved").read_bytes() == data[:4097]
    call_as(CAMERA, os.mkdir, place / "album")
    call_as(CAMERA, Path.write_bytes, place / "album/own.jpg", PHOTO)
    for again in (False, True):
        if again:
            assert mount.stop() == []
            mount.start()
        own = call_as(CAMERA, read, place / "album/own.jpg")
        assert (own == PHOTO) == kind.owned, "whose it is outlives the mount, where it can be kept"
        assert not jpegs.leaks(call_as(GALLERY, read, place / "album/own.jpg"))
    call_as(CAMERA, shutil.rmtree, place / "album")
    call_as(CAMERA, os.unlink, place / "moved")
    assert sorted(os.listdir(store / "DCIM")) == ["a.jpg", "large.jpg"]


def test_changes_in_the_store_are_seen(kind: Kind, library: Library) -> None:
    store, mount, base = library
    if not kind.writable:
        store = base
    place = mount / "DCIM"
    for _ in range(2):
        assert sorted(call_as(MAPS, os.listdir, place)) == ["a.jpg", "large.jpg"]
        assert call_as(MAPS, error, os.stat, place / "b.jpg") == "ENOENT"
    (store / "DCIM/b.jpg").write_bytes(PHOTO)
    with (store / "DCIM/a.jpg").open("ab") as file:
        file.write(b"more")

    def seen() -> bool:
        names = sorted(call_as(MAPS, os.listdir, place))
        return (
            names == ["a.jpg", "b.jpg", "large.jpg"]
            and call_as(MAPS, read, place / "a.jpg") == PHOTO + b"more"
        )

    wait_for(seen, "the new name and the new bytes are seen", SEEN_S)
    assert not jpegs.leaks(call_as(GALLERY, read, place / "b.jpg"))
    os.unlink(store / "DCIM/b.jpg")
    wait_for(lambda: call_as(MAPS, error, os.stat, place / "b.jpg") == "ENOENT", "it is gone", SEEN_S)


def test_a_large_file_that_cannot_be_cloned_is_read_under_a_lease(
    mounts: Mounts, tmp_path: Path, empty_store: Path
) -> None:
    """btrfs refuses to clone a file without copy-on-write (chattr +C) into a file with it."""
    tmp_path.chmod(0o700)
    with store_of("btrfs", empty_store, tmp_path) as store:
        place = store / "DCIM/nocow"
        place.mkdir()
        subprocess.run(["chattr", "+C", place], check=True)
        for name, data in (("small.jpg", PHOTO), ("large.jpg", LARGE)):
            (place / name).write_bytes(data)
        mount = mounts.start(POLICY, store, "--copy-max", "1M")
        mount.expected_mediated = True
        for name, data in (("small.jpg", PHOTO), ("large.jpg", LARGE), ("large.jpg", LARGE)):
            shown = call_as(GALLERY, read, mount / "DCIM/nocow" / name)
            assert (len(shown), jpegs.leaks(shown)) == (len(data), []), name
        assert "lease" in mount.events(path="/DCIM/nocow/large.jpg", operation="open")[-1]["note"]
        assert mounts.stop_all() == []

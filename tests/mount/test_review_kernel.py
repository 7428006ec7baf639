"""What the daemon changes by itself, the kernel must hear of: it reports only what others do."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, wait_for
from tests.support.samples import jpegs

CAMERA, GALLERY, MAPS = 10010, 10011, 10012
PHOTO = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
HEAD = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
  maps: {{uid: {MAPS}, grants: [media.location]}}
rules:
"""
TYPES = (
    HEAD
    + """\
  - {id: all, allow: [all], who: {app: any}, paths: "/**"}
  - {id: types, require: {content: image/jpeg}, paths: "/**"}
"""
)
OWNED = (
    HEAD
    + """\
  - {id: all, allow: [all], who: {app: any}, paths: "/**"}
  - {id: hide, deny: [see], paths: "/**", when: {owner: none, type: [image/jpeg, inode/x-empty]}}
"""
)
BY_OWNER = (
    HEAD
    + """\
  - {id: own, allow: [all], who: {app: camera}, paths: "/**"}
  - {id: cameras, allow: [see, read], who: {app: gallery}, paths: "/**", when: {owner: camera}}
  - {id: dirs, allow: [see], who: {app: gallery}, paths: "/**", when: {type: inode/directory}}
  - {id: hide, require: {redact: location}, who: {app: gallery}, paths: "/**"}
"""
)


@pytest.fixture
def open_store(empty_store: Path) -> Path:
    (empty_store / "d").mkdir()
    (empty_store / "d").chmod(0o777)
    return empty_store


def gone(path: Path) -> bool:
    """Absent, as natively: ENOENT. Any other error is raised."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    return False


def test_a_new_file_that_was_refused_is_gone_for_the_kernel_too(mounts, open_store: Path) -> None:
    mount = mounts.start(TYPES, open_store, "--app", "camera")
    mount.expected_mediated = True

    def refused(path: Path) -> bool:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        with contextlib.suppress(PermissionError):
            os.write(fd, b"words, and no picture\n" * 100)
        os.stat(path)
        with contextlib.suppress(PermissionError):
            os.close(fd)
        wait_for(lambda: gone(path), "the refused file is not there", 5.0)
        return path.name not in os.listdir(path.parent)

    assert call_as(CAMERA, refused, mount / "d/b.jpg")
    assert gone(open_store / "d/b.jpg")


def test_what_a_lost_owner_hides_is_hidden_at_once(mounts, open_store: Path) -> None:
    """A write-open by another app makes the owner none: nobody may see the file any more."""
    mount = mounts.start(OWNED, open_store)

    def make(path: Path) -> None:
        path.write_bytes(PHOTO)
        os.chmod(path, 0o666)
        os.stat(path)

    def touch(path: Path) -> None:
        os.close(os.open(path, os.O_RDWR))

    def seen(path: Path) -> bool:
        return os.path.lexists(path)

    call_as(CAMERA, make, mount / "d/a.jpg")
    assert call_as(MAPS, seen, mount / "d/a.jpg")
    call_as(MAPS, touch, mount / "d/a.jpg")
    wait_for(lambda: not call_as(MAPS, seen, mount / "d/a.jpg"), "the file is hidden", 3.0)
    wait_for(lambda: not call_as(CAMERA, seen, mount / "d/a.jpg"), "the file is hidden", 3.0)


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)])
def test_a_copy_is_read_by_the_owner_of_the_file_that_it_is_of(mounts, open_store: Path, options) -> None:
    mount = mounts.start(BY_OWNER, open_store, *options)
    mount.expected_mediated = bool(options)

    def make(path: Path) -> None:
        path.write_bytes(PHOTO)

    def read(path: Path) -> bytes:
        return path.read_bytes()

    call_as(CAMERA, make, mount / "d/a.jpg")
    got = call_as(GALLERY, read, mount / "d/a.jpg")
    assert len(got) == len(PHOTO)
    assert not jpegs.leaks(got)


def test_a_listing_taken_before_a_reload_leaves_nothing_in_the_kernel(mounts, open_store: Path) -> None:
    """The directory is open and half read when a policy hides its files; stat must not find them."""
    for number in range(2000):
        (open_store / f"d/file-{number:04}").write_bytes(b"")
    mount = mounts.start(HEAD + '  - {id: all, allow: [all], who: {app: any}, paths: "/**"}\n', open_store)
    mount2 = (
        HEAD
        + """\
  - {id: all, allow: [all], who: {app: any}, paths: "/**"}
  - {id: hide, deny: [see], paths: "/d/file-*"}
"""
    )

    def look(channel, path: Path) -> int:
        with os.scandir(path) as entries:
            next(entries)
            channel.send("half")
            channel.recv()
            rest = [entry.name for entry in entries]
        found = 0
        for name in rest:
            with contextlib.suppress(FileNotFoundError):
                os.stat(path / name)
                found += 1
        return found

    from tests.support.machine.processes import start_as

    child = start_as(MAPS, look, mount / "d")
    assert child.receive() == "half"
    mount.policy.write_text(mount2)
    said = mount.reload()
    assert said.returncode == 0, said
    child.send("go on")
    assert child.result() == 0

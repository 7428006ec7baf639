"""B10, C1: descriptors of files that others move or hide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.processes import call_as, start_as
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
"""
MOVED: Final = """\
  - {id: own, allow: [all], who: {app: camera}, paths: "/Own/***"}
  - {id: all, allow: [all], who: {app: gallery}, paths: "/***"}
"""
KEPT: Final = """\
  - {id: all, allow: [all], who: {app: any}, paths: "/***"}
  - {id: must, require: {content: "image/*"}, who: {app: any}, paths: "/Own/**"}
"""
HIDDEN: Final = """\
  - {id: private, deny: [all], who: {app: camera}, paths: "/Own/D", when: {owner: gallery}, errno: ENOENT}
"""
PHOTO: Final = jpegs.photo_with(jpegs.exif())


def _store(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir()
        (root / name).chmod(0o777)
    return root


def _reopen(channel: Any, mount: Path) -> tuple[str, bool]:
    """Hold a file open for writing, and open it again after a move. Return the error, and if bytes came."""
    fd = os.open(mount / "Own/f.jpg", os.O_WRONLY)
    channel.send("open")
    channel.recv()
    seen: list[bytes] = []

    def again() -> None:
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        seen.append(os.read(reader, 1 << 20))
        os.close(reader)

    return error(again), bool(seen)


def _link_and_unlink(old: Path, new: Path) -> None:
    os.link(old, new)
    os.unlink(old)


def _moved(mounts: Mounts, store: Path, by: str, guard: str = "") -> tuple[str, bool]:
    """Return what the camera's second open said, and if it has read the file."""
    _store(store, "Own", "Secret")
    (store / "Own/f.jpg").write_bytes(PHOTO)
    (store / "Own/f.jpg").chmod(0o666)
    mount = mounts.prepare(HEAD + MOVED, store)
    if guard:
        mount.program = (WEAKENED, guard)
    mount.start()
    other: Mount | None = mounts.start(HEAD + MOVED, store) if by == "another mount" else None
    child = start_as(CAMERA, _reopen, mount.mountpoint)
    assert child.receive(20) == "open"
    if by == "the store":
        os.rename(store / "Own/f.jpg", store / "Secret/f.jpg")
    elif other is None:
        call_as(GALLERY, _link_and_unlink, mount / "Own/f.jpg", mount / "Secret/f.jpg")
    else:
        call_as(GALLERY, os.rename, other / "Own/f.jpg", other / "Secret/f.jpg")
    child.send("go")
    return child.result(20)


@pytest.mark.parametrize("by", ["the store", "another mount", "a link in this mount"])
def test_a_file_that_was_moved_away_is_not_opened_by_its_old_path(
    mounts: Mounts, empty_store: Path, by: str
) -> None:
    """Attack B10.4: Open a file again by /proc/self/fd, after it was moved to a closed path: by another
    mount, the store, or link and unlink
    Guard: policyfs/fs/opening/open_files.py::BackingFiles.reopen_unlinked
    Without: ::test_it_is_where_it_counts_as_unlinked
    """
    assert _moved(mounts, empty_store, by) == ("ESTALE", False)


@pytest.mark.parametrize("by", ["the store", "a link in this mount"])
def test_it_is_where_it_counts_as_unlinked(mounts: Mounts, empty_store: Path, by: str) -> None:
    assert _moved(mounts, empty_store, by, "moved-as-unlinked,lost-names-stay") == ("None", True)


def _make(directory: Path, *below: str) -> None:
    for each in (directory, *(directory / name for name in below)):
        each.mkdir()
        each.chmod(0o777)
    (each / "f.jpg").write_bytes(PHOTO)
    (each / "f.jpg").chmod(0o666)


def _keep(channel: Any, directory: Path, removed: bool) -> dict[str, str]:
    fd = os.open(directory / "f.jpg", os.O_RDWR)
    if removed:
        os.unlink(directory / "f.jpg")
    if directory.name == "below" and removed:
        directory.rmdir()
    channel.send("open")
    channel.recv()
    return {
        "read": error(lambda: os.pread(fd, 10, 0)),
        "write": error(lambda: os.pwrite(fd, PHOTO[:4], 0)),
        "chmod": error(lambda: os.fchmod(fd, 0o600)),
    }


@pytest.mark.parametrize("below", ["", "below"])
@pytest.mark.parametrize("removed", [False, True])
def test_the_owner_of_a_directory_hides_a_removed_file_too(
    mounts: Mounts, empty_store: Path, below: str, *, removed: bool
) -> None:
    """An app kept all rights to a file that it had removed, after a reload had hidden the directory."""
    store = _store(empty_store, "Own")
    mount = mounts.start(HEAD + KEPT, store)
    call_as(GALLERY, _make, mount / "Own/D", *filter(None, [below]))
    child = start_as(CAMERA, _keep, mount / "Own/D" / below, removed)
    assert child.receive(20) == "open"
    mount.policy.write_text(HEAD + KEPT + HIDDEN)
    assert mount.reload().returncode == 0
    child.send("go")
    assert set(child.result(20).values()) == {"ENOENT"}

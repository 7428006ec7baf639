"""B10, C1: descriptors that one app passes to another, and descriptors of files that others move or hide."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.calls import name_it
from tests.support.machine.processes import call_as, start_as
from tests.support.models.twins import error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: passed}}
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
"""
SHARED: Final = """\
  - {{id: must, require: {{{}}}, who: {{app: {}}}, paths: [{}]}}
  - {{id: share, allow: [see, read, write, create], who: {{app: camera}}, paths: "/Share/***"}}
  - {{id: looks, allow: [see, read], who: {{app: gallery}}, paths: "/Share/***"}}
  - {{id: own, allow: [all], who: {{app: gallery}}, paths: "/Own/***"}}
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
WORDS: Final = b"only words " * 99


def _store(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir()
        (root / name).chmod(0o777)
    return root


def _unnamed(mount: Path, data: bytes) -> int:
    """Return an O_RDONLY descriptor of the gallery's own unnamed file with these bytes."""
    fd = os.open(mount / "Own", os.O_TMPFILE | os.O_RDWR, 0o666)
    os.fchmod(fd, 0o666)
    os.write(fd, data)
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    return reader


def _give(mount: Path, number: int, data: bytes) -> None:
    with socket.socket(fileno=os.dup(number)) as way:
        socket.send_fds(way, [b"x"], [_unnamed(mount, data)])


def _take(mount: Path, number: int) -> str:
    """Give the file behind a passed descriptor a name, as the camera. Return what linkat said."""
    with socket.socket(fileno=os.dup(number)) as way:
        _, [fd], _, _ = socket.recv_fds(way, 1, 1)
    told = name_it(fd, mount / "Share/in.jpg")
    os.close(fd)
    return told


CONTENTS: Final = [('content: "image/*"', WORDS), ("no: [location]", PHOTO), ("clean: [location]", PHOTO)]


def _passed(mounts: Mounts, root: Path, requirement: str, data: bytes, guard: str = "") -> str:
    """Return what linkat said to the camera of a descriptor that the gallery has passed to it."""
    mount = mounts.prepare(
        HEAD + SHARED.format(requirement, "camera", '"/Share/**"'), _store(root, "Own", "Share")
    )
    if guard:
        mount.program = (WEAKENED, guard)
    mount.start()
    ends = [each.detach() for each in socket.socketpair()]
    call_as(GALLERY, _give, mount.mountpoint, ends[0], data)
    told = call_as(CAMERA, _take, mount.mountpoint, ends[1])
    for end in ends:
        os.close(end)
    return told


@pytest.mark.parametrize(("requirement", "data"), CONTENTS)
def test_no_content_gets_in_by_the_descriptor_of_another_app(
    mounts: Mounts, empty_store: Path, requirement: str, data: bytes
) -> None:
    """The content of a new file is checked by its writer's view, and the writer was another app."""
    assert _passed(mounts, empty_store, requirement, data) == "EXDEV"
    assert list((empty_store / "Share").iterdir()) == []


def test_it_does_where_only_holders_count(mounts: Mounts, empty_store: Path) -> None:
    assert _passed(mounts, empty_store, *CONTENTS[1], guard="only-holders") == "None"
    assert (empty_store / "Share/in.jpg").read_bytes() == PHOTO


def _escalate(channel: Any, mount: Path, number: int) -> dict[str, str]:
    """Keep a read-only descriptor of a file that the camera names where the gallery may only read."""
    reader = _unnamed(mount, jpegs.plain())
    with socket.socket(fileno=os.dup(number)) as way:
        socket.send_fds(way, [b"x"], [reader])
    channel.recv()

    def write() -> None:
        writer = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY)
        os.pwrite(writer, b"WORDS", 0)
        os.close(writer)

    return {
        "write": error(write),
        "chmod": error(lambda: os.fchmod(reader, 0o600)),
        "xattr": error(lambda: os.setxattr(reader, "user.x", b"1")),
    }


@pytest.mark.parametrize("requirement", ["redact: location", ""])
def test_who_has_a_named_file_open_has_no_more_rights_than_at_its_name(
    mounts: Mounts, empty_store: Path, requirement: str
) -> None:
    """The open handle kept the rights of the directory in which the file had been made."""
    store = _store(empty_store, "Own", "Share")
    rules = SHARED.format(requirement, "any", '"/Share/**", "/Own/**"')
    if not requirement:
        rules = "".join(line for line in rules.splitlines(keepends=True) if "id: must" not in line)
    mount = mounts.start(HEAD + rules, store)
    ends = [each.detach() for each in socket.socketpair()]
    child = start_as(GALLERY, _escalate, mount.mountpoint, ends[0])
    assert call_as(CAMERA, _take, mount.mountpoint, ends[1]) == "None"
    child.send("go")
    told = child.result(20)
    for end in ends:
        os.close(end)
    assert set(told.values()) <= {"EACCES", "ENOTSUP"}, told
    assert not (store / "Share/in.jpg").read_bytes().startswith(b"WORDS")


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

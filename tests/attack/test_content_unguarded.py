"""C1 to C3 in an app mount, across a crash, and on daemons that lack the guard that each is held by."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.attack.test_content_refused import (
    CAMERA,
    CREATE,
    OTHER,
    POLICY,
    RIGHT,
    WAYS,
    WRONG,
    Script,
    reserved,
    with_a_hole,
)  # fmt: skip
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.corners import Corner
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, wait_until_closed

APPS: Final = POLICY.replace(f"{{uid: {CAMERA}}}", f"{{uid: {CAMERA}, gid: {CAMERA}}}")
assert APPS != POLICY


def places(mount: Mount) -> Corner:
    """A place for photos only, and one for anything."""
    corner = Corner(mount, "corner")
    for name in ("DCIM", "private"):
        (corner.store / name).mkdir()
        (corner.store / name).chmod(0o777)
    return corner


def tried(corner: Corner, way: Callable[[Script, bytes], None], data: bytes) -> list[str]:
    """One file written in one way, as the camera; what failed."""

    def script() -> list[str]:
        one = Script(corner / f"DCIM/{way.__name__}-{len(data)}")
        way(one, data)
        return one.failed

    return call_as(CAMERA, script)


# ---------------------------------------------------------------- C1


def test_an_app_mount_lets_no_wrong_content_in(mounts: Mounts, empty_store: Path) -> None:
    corner = places(mounts.start(APPS, empty_store, "--app", "camera"))
    for way in WAYS:
        assert tried(corner, way, RIGHT) == [], way.__name__
        assert tried(corner, way, WRONG["text"]), way.__name__
    wait_until_closed(corner.mount)
    left = {path.name: path.read_bytes() for path in (corner.store / "DCIM").iterdir()}
    words = [name for name, data in left.items() if data not in {b"", RIGHT}]
    assert not words
    assert len([data for data in left.values() if data == RIGHT]) == len(WAYS)


def test_it_is_in_where_nothing_is_judged(without, empty_store: Path) -> None:
    corner = places(without("content-unjudged", POLICY, empty_store))
    for way in (WAYS[0], *WAYS[2:5]):
        assert tried(corner, way, WRONG["text"]) == [], way.__name__
        assert (corner.store / f"DCIM/{way.__name__}-{len(WRONG['text'])}").read_bytes() == WRONG["text"]


def test_it_is_in_where_a_draft_is_unread(without, empty_store: Path) -> None:
    corner = places(without("draft-unread", POLICY, empty_store))
    for way in (with_a_hole, reserved):
        assert tried(corner, way, WRONG["text"]) == [], way.__name__
        assert (corner.store / f"DCIM/{way.__name__}-{len(WRONG['text'])}").read_bytes() == WRONG["text"]


# ---------------------------------------------------------------- C2


def held(channel: Connection, path: Path) -> list[str]:
    """Begin a photo, ask for it to be safe, and say how that ended; then wait for the end."""
    one = Script(path)
    fd = one.open()
    os.write(fd, RIGHT[:2])
    one.call(os.fsync, fd)
    one.call(os.close, os.dup(fd))
    channel.send(one.failed)
    channel.recv()
    return one.failed


def crashed_after(mount: Mount, corner: Corner) -> tuple[list[str], dict[str, bytes]]:
    """What fsync and close say of bytes whose kind is not known, and what a killed daemon leaves."""
    whole = corner / "DCIM/whole"

    def photo() -> None:
        fd = os.open(whole, CREATE, 0o644)
        os.write(fd, RIGHT)
        os.fsync(fd)
        os.close(fd)

    call_as(CAMERA, photo)
    writer = start_as(CAMERA, held, corner / "DCIM/begun")
    said = writer.receive()
    mount.expected_exit = -signal.SIGKILL
    os.kill(mount.pid, signal.SIGKILL)
    assert mount.process is not None
    mount.process.wait(20)
    mount.force_away()
    mount.control_socket.unlink(missing_ok=True)
    writer.send("end")
    writer.result()
    return said, {path.name: path.read_bytes() for path in (corner.store / "DCIM").iterdir()}


def test_a_crash_in_the_midst_leaves_no_half_and_broke_no_promise(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    said, left = crashed_after(mount, places(mount))
    assert said == ["EPERM", "EPERM"]
    assert left == {"whole": RIGHT, "begun": b""}


def test_a_promise_is_broken_where_fsync_says_yes_to_what_is_held(without, empty_store: Path) -> None:
    mount = without("settled-by-word", POLICY, empty_store)
    said, left = crashed_after(mount, places(mount))
    assert said == []
    assert left["begun"] == b""


# ---------------------------------------------------------------- C3


READER: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  reader: {{uid: {CAMERA}, gid: {CAMERA}}}
  owner: {{uid: {OTHER}, gid: {OTHER}}}
rules:
  - {{id: look, allow: [see, read], who: {{app: reader}}, paths: "/***"}}
  - {{id: own, allow: [all], who: {{app: reader}}, paths: "/own/***"}}
  - {{id: all, allow: [all], who: {{app: owner}}, paths: "/***"}}
"""
KEPT: Final = b"what is not to be lost\n" * 5000


def _with(path: Path, flags: int, call: Callable[[int], object]) -> None:
    fd = os.open(path, flags)
    try:
        call(fd)
    finally:
        os.close(fd)


EMPTYING: Final[dict[str, Callable[[Path], object]]] = {
    "O_RDONLY|O_TRUNC": lambda path: os.open(path, os.O_RDONLY | os.O_TRUNC),
    "O_WRONLY|O_TRUNC": lambda path: os.open(path, os.O_WRONLY | os.O_TRUNC),
    "O_RDWR|O_CREAT|O_TRUNC": lambda path: os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644),
    "truncate": lambda path: os.truncate(path, 0),
    "truncate in the middle": lambda path: os.truncate(path, 100),
    "ftruncate": lambda path: _with(path, os.O_RDONLY, lambda fd: os.ftruncate(fd, 0)),
    "by /proc": lambda path: _with(path, os.O_RDONLY, lambda fd: os.truncate(f"/proc/self/fd/{fd}", 0)),
    "open by /proc": lambda path: _with(
        path, os.O_RDONLY, lambda fd: os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_TRUNC)
    ),
    "fallocate": lambda path: _with(path, os.O_RDONLY, lambda fd: os.posix_fallocate(fd, 0, 10)),
    "rename onto it": lambda path: os.rename(path.parents[1] / "own/mine", path),
    "unlink": os.unlink,
}


def emptied(path: Path) -> dict[str, str]:
    """As the reader: every way to empty or cut what one may only read, and what each said."""

    def attempt() -> dict[str, str]:
        said = {}
        for name, call in EMPTYING.items():
            try:
                call(path)
                said[name] = ""
            except OSError as error:
                said[name] = errno.errorcode[error.errno or 0]
        return said

    return call_as(CAMERA, attempt)


@pytest.fixture
def kept(empty_store: Path) -> Path:
    for name in ("kept", "own"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    (empty_store / "kept/file").write_bytes(KEPT)
    (empty_store / "kept/file").chmod(0o666)
    (empty_store / "own/mine").write_bytes(b"mine")
    return empty_store / "kept/file"


@pytest.mark.parametrize("apps", [False, True], ids=["shared", "app"])
def test_what_is_refused_has_emptied_nothing(mounts: Mounts, kept: Path, apps: bool) -> None:
    """Attack C3.1: Empty or cut a file by an open, truncate or rename that the daemon refuses afterwards
    Guard: policyfs/fs/opening/write_access.py::WriteAccess.empty
    Also: tests/mount/test_ops_policy.py::test_a_refused_call_changes_nothing
    Without: ::test_it_is_empty_where_that_is_done_first
    """
    mount = mounts.start(READER, kept.parents[1], *(("--app", "reader") if apps else ()))
    said = emptied(mount / "kept/file")
    assert set(said.values()) <= {"EACCES", "EINVAL", "EBADF"}, said
    assert kept.read_bytes() == KEPT
    assert call_as(CAMERA, (mount / "kept/file").read_bytes) == KEPT
    if not apps:  # who may, can
        call_as(OTHER, os.truncate, mount / "kept/file", 3)
        assert kept.read_bytes() == KEPT[:3]


def test_it_is_empty_where_that_is_done_first(without, kept: Path) -> None:
    mount = without("emptied-first", READER, kept.parents[1])
    said = emptied(mount / "kept/file")
    assert said["O_RDONLY|O_TRUNC"] == said["O_WRONLY|O_TRUNC"] == "EACCES"
    assert kept.read_bytes() == b""


def test_a_reader_that_is_refused_leaves_no_file_behind(mounts: Mounts, kept: Path) -> None:
    """O_CREAT with O_TRUNC where nothing may be made."""
    mount = mounts.start(READER, kept.parents[1])

    def make() -> str:
        try:
            os.open(mount / "kept/new", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return ""

    assert call_as(CAMERA, make) == "EACCES"
    assert wait_for(lambda: os.listdir(kept.parent) == ["file"], "nothing new is there")

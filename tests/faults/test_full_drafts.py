"""The store is full where what is written is looked through as a whole before it gets there (drafts)."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, start_as
from tests.support.models.twins import attempt
from tests.support.mount.faulty import CAMERA, fill, written
from tests.support.mount.stores import wait_until_closed
from tests.support.samples import jpegs

POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: camera, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: share, require: {{no: [location]}}, paths: "/Share/**"}}
"""
OLD = jpegs.plain(3, 64) + bytes(100 << 10)
NEW = jpegs.plain(4, 64) + bytes(140 << 10)
LARGE = jpegs.plain(5, 1000)
WRITE_AND_WAIT = 7  # SYNC_FILE_RANGE_WAIT_BEFORE | WRITE | WAIT_AFTER
_libc = ctypes.CDLL(None)
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def _save(path: Path, data: bytes, end: str) -> tuple[str, str, str]:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
    wrote = attempt(lambda: os.write(fd, data)).error
    first = attempt(lambda: os.fsync(fd)).error if end == "fsync" else ""
    return wrote, first, attempt(lambda: os.close(fd)).error


@pytest.mark.parametrize(
    ("end", "holes", "features", "more"),
    [
        ("close", 0, "", 0),
        ("fsync", 0, "", 0),
        ("close", 300 << 10, "", 0),
        ("close", 0, "^extents,^64bit", 0),
        ("fsync", 0, "^extents,^64bit", 3 << 20),
    ],
)
def test_a_draft_that_finds_no_room_has_destroyed_nothing(
    on_disk, end: str, holes: int, features: str, more: int
) -> None:
    """holes: at the end of the file that is written over, in bytes; they are no room. features: of the file
    system; without extents it reserves no room. more: bytes of the draft, so that its pieces are several.

    Fault store.6: No room for a checked draft (`require: {no: ...}`) in the store's file
    App: ENOSPC from close and fsync
    Store: unchanged: room is reserved before an old byte is overwritten. Where files share blocks
    (btrfs, xfs), the file gets the draft's blocks. Where no room can be reserved (ext3), bytes behind
    the old end go first, and are cut off again
    Trail: `release`
    Also: ::test_a_draft_needs_no_more_room_where_files_share_blocks
    """
    options = ("-O", features) if features else ()
    mount, root = on_disk("ext4", "-b", "1024", "-m", "0", *options, policy=POLICY)
    store, new_bytes = root / "store", NEW + bytes(more)
    (store / "Share").mkdir()
    os.chown(store / "Share", CAMERA, CAMERA)
    old, new = store / "Share/old.jpg", store / "Share/new.jpg"
    assert call_as(CAMERA, written, mount / "Share/old.jpg", OLD) == (len(OLD), "")
    if holes:
        os.truncate(old, len(OLD) - (100 << 10))
        os.truncate(old, len(OLD) + holes)
    before = old.read_bytes()
    ballast = fill(root)
    room = (170 << 10) + more + more * 3 // 4  # for a draft, and not for two
    os.truncate(ballast, ballast.stat().st_size - room)
    os.sync()  # ext4 gives away what was freed when its journal is written
    wrote, *said = call_as(CAMERA, _save, mount / "Share/old.jpg", new_bytes, end)
    assert wrote == ""
    assert said == ["ENOSPC" if end == "fsync" else "", "ENOSPC"]
    wait_until_closed(mount)  # the last release tries once more
    assert old.read_bytes() == before
    if not holes:  # which keep what was found of room for them
        # A new file is not there, or is empty, as where its first write finds no room: ext4 may have given
        # what was free to its journal by then.
        os.sync()
        told = call_as(CAMERA, _save, mount / "Share/new.jpg", new_bytes, end)
        assert set(told) - {""} == {"ENOSPC"}
        wait_until_closed(mount)
        with suppress(FileNotFoundError):
            assert new.read_bytes() == b""
    ballast.unlink()
    assert call_as(CAMERA, _save, mount / "Share/old.jpg", new_bytes, end) == ("", "", "")
    assert old.read_bytes() == new_bytes
    assert mount.status()["bugs"] == 0


BEFORE = jpegs.plain(3, 64) + bytes(24 << 20) + b"before"
AFTER = jpegs.plain(4, 64) + bytes(24 << 20) + b"after"


@pytest.mark.parametrize(("kind", "shorter"), first(2, [("btrfs", 0), ("xfs", 5001), ("btrfs", 5001)]))
def test_a_draft_needs_no_more_room_where_files_share_blocks(on_disk, kind: str, shorter: int) -> None:
    """There the file system puts new bytes elsewhere, and frees the old ones later: room for them cannot be
    reserved, and the file would be half old and half new. shorter: bytes by which the new file is shorter."""
    mount, root = on_disk(kind, policy=POLICY)
    share = root / "store/Share"
    share.mkdir()
    os.chown(share, CAMERA, CAMERA)
    assert call_as(CAMERA, written, mount / "Share/a.jpg", BEFORE) == (len(BEFORE), "")
    subprocess.run(["cp", "--reflink=always", share / "a.jpg", root / "backup"], check=True, timeout=30)
    ballast = fill(root)
    os.truncate(ballast, ballast.stat().st_size - (38 << 20))  # for a draft, and not for two
    os.sync()
    after = AFTER[: len(AFTER) - shorter]
    assert call_as(CAMERA, written, mount / "Share/a.jpg", after, os.O_TRUNC) == (len(after), "")
    assert (share / "a.jpg").read_bytes() == after
    assert (root / "backup").read_bytes() == BEFORE
    assert mount.status()["bugs"] == 0


def _map(channel, path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, len(data))  # a hole, in the draft too
    with mmap.mmap(fd, len(data)) as pages:
        pages[:] = data
        # Pages are written back, as the kernel does by itself in time, and nothing else.
        said = [_libc.sync_file_range(fd, 0, 0, WRITE_AND_WAIT)]
        channel.send("written back")
        channel.recv()
        said.append(attempt(pages.flush).error)
    said.append(attempt(lambda: os.close(fd)).error)
    channel.send(said)


def test_stores_to_a_mapping_of_a_draft_that_find_no_room_are_told(on_disk) -> None:
    """The kernel writes many pages back at once, and room is there for some of them only. The app must hear
    of that, though there is room for the draft by the time it comes into the store."""
    mount, root = on_disk("ext4", "-b", "1024", "-m", "0", policy=POLICY)
    share = root / "store/Share"
    share.mkdir()
    os.chown(share, CAMERA, CAMERA)
    told = 0
    for room in range(len(LARGE) - (40 << 10), len(LARGE) + (16 << 10), 8 << 10):
        ballast = fill(root)
        os.truncate(ballast, ballast.stat().st_size - room)
        file = share / f"{room}.jpg"
        mapper = start_as(CAMERA, _map, mount / "Share" / file.name, LARGE)
        mapper.receive()
        ballast.unlink()
        mapper.send("go on")
        said = mapper.receive()
        mapper.result()
        told += any(said)
        assert any(said) or file.read_bytes() == LARGE, room - len(LARGE)
        file.unlink(missing_ok=True)
    assert told
    assert mount.status()["bugs"] == 0

"""Heads that find no room in the store: the file keeps its bytes, also those of other programs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.fs.checked.head_storage import put_head, put_writes
from policyfs.fs.inodes.pending_writes import Write
from policyfs.store import ranges
from policyfs.store.ranges import Buffer
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import MAPS, OPEN, PHOTO, TYPES, append, errno_of

HEAD = b"new bytes of a head"


def assert_no_room(file: Path) -> None:
    """Put a head into a file of a store that has no room for it."""
    with Tree.open(str(file.parent)) as tree:
        fd = os.open(file, os.O_RDWR)
        with pytest.raises(OSError, match="no room"):
            put_head(tree, fd, HEAD)
        os.close(fd)


@pytest.mark.parametrize("stored", [0, 3, 12], ids=["nothing", "part", "beyond-the-end"])
@pytest.mark.parametrize("old", [b"", b"old words"], ids=["empty", "words"])
@pytest.mark.parametrize("appended", [b"", b" of others"], ids=["alone", "beside"])
def test_a_head_without_room_leaves_the_bytes_of_others(
    store: Path, monkeypatch: pytest.MonkeyPatch, stored: int, old: bytes, appended: bytes
) -> None:
    file = store / "new"
    file.write_bytes(old)
    write = ranges.write
    told: list[int] = []

    def no_room(fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
        told.append(offset)
        if len(told) == 1 and stored:
            return write(fd, data[:stored], offset, flags)
        monkeypatch.setattr(ranges, "write", write)
        append(file, appended)
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(ranges, "write", no_room)
    assert_no_room(file)
    before = old if not appended else old.ljust(stored, b"\0")
    assert file.read_bytes() == before + appended


def test_appends_and_writes_are_made_all_or_none(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write = store / "log", ranges.write
    file.write_bytes(b"old words")

    def no_room(fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
        if bytes(data) == b"last":
            return write(fd, data[:2], offset, flags)
        if bytes(data) == b"st":
            raise OSError(errno.ENOSPC, "no room")
        return write(fd, data, offset, flags)

    monkeypatch.setattr(ranges, "write", no_room)
    writes = [Write(None, b" first"), Write(1, b"x"), Write(None, b"last")]
    with Tree.open(str(store)) as tree:
        fd = os.open(file, os.O_RDWR)
        with pytest.raises(OSError, match="no room"):
            put_writes(tree, fd, writes)
        os.close(fd)
    assert file.read_bytes() == b"old words"


def test_a_file_that_another_program_cuts_meanwhile_stays_cut(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = store / "new"
    file.write_bytes(b"old words")
    write = ranges.write

    def no_room(fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
        if not offset:
            return write(fd, data[:6], offset, flags)
        monkeypatch.setattr(ranges, "write", write)
        os.truncate(file, 2)
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(ranges, "write", no_room)
    assert_no_room(file)
    assert file.read_bytes() == b"ol"


@on_trio
async def test_a_photo_that_finds_no_room_does_not_cut_what_others_append(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))

        def no_room(*_: object) -> int:
            append(store / "new", b"of others")
            raise OSError(errno.ENOSPC, "no room")

        with monkeypatch.context() as patch:
            patch.setattr(ranges, "write", no_room)
            assert await errno_of(made.write(handle, 0, PHOTO)) == errno.ENOSPC
        assert (store / "new").read_bytes() == b"of others"
        await made.release(handle)
    assert (store / "new").read_bytes() == b"of others"

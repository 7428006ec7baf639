"""Marks by which a daemon tells others of held bytes."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from policyfs.store.locking.latches import HeldFiles
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, TYPES, errno_of
from tests.support.samples import jpegs

NO_PLACE = OPEN + '- {id: no, require: {no: [location]}, paths: "/**"}\n'
PLACED, PLAIN = PHOTO, jpegs.plain(1, 64)


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory):
    held = HeldFiles(str(tmp_path_factory.mktemp("run") / "lock.held"))
    yield held
    held.close()


def shared(other: HeldFiles) -> Path:
    return Path(other._path).with_suffix("")


@on_trio
async def test_a_file_is_marked_while_its_head_is_held(store: Path, other: HeldFiles) -> None:
    with parts(store, engine_of(OPEN + TYPES), latches=shared(other)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        stat = made.tree.fstat(handle.fd)
        assert not other.is_held_elsewhere(stat)
        await made.write(handle, 0, PHOTO[:2])
        assert other.is_held_elsewhere(stat)
        assert await errno_of(made.sync.flush(handle)) == errno.EPERM
        assert other.is_held_elsewhere(stat)
        await made.write(handle, 2, PHOTO[2:])
        assert not other.is_held_elsewhere(stat)
        await made.writer.truncate(handle, 0)
        await made.write(handle, 0, PHOTO[:2])
        assert other.is_held_elsewhere(stat)
        await made.writer.truncate(handle, 0)
        assert other.is_held_elsewhere(stat), "emptied, and the store has the old bytes"
        await made.write(handle, 0, PHOTO[:2])
        await made.release(handle)
        assert not other.is_held_elsewhere(stat)


@pytest.mark.parametrize("kept", [True, False])
def test_a_file_is_marked_while_its_draft_is_not_stored(store: Path, other: HeldFiles, kept: bool) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(NO_PLACE), latches=shared(other)) as made:
            handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
            stat = made.tree.fstat(handle.fd)
            assert other.is_held_elsewhere(stat), "emptied, and not in the store"
            await made.write(handle, 0, PLAIN if kept else PLACED)
            if kept:
                await made.sync.flush(handle)
            else:
                assert await errno_of(made.sync.flush(handle)) == errno.EPERM
            assert other.is_held_elsewhere(stat) is not kept
            await made.writer.write(handle, 0, PLAIN[:2], append=False, kill_priv=False, back=True)
            assert other.is_held_elsewhere(stat), "a page of a mapping"
            await made.release(handle)
            assert not other.is_held_elsewhere(stat)
            assert (store / "a.jpg").read_bytes() == (PLAIN if kept else PHOTO)

    run()


@pytest.mark.parametrize(
    ("rules", "flushed"), [(OPEN + TYPES, False), (NO_PLACE, False), (NO_PLACE, True)],
    ids=["head", "new draft", "stored draft"],
)  # fmt: skip
def test_what_cannot_be_marked_is_not_written(store: Path, tmp_path: Path, rules: str, flushed: bool) -> None:
    """No other daemon would know of the bytes: the app must not take them for written. And if it writes them
    once more, at the file's end, they are there once."""
    run = tmp_path / "run"

    @on_trio
    async def main() -> None:
        with parts(store, engine_of(rules), latches=run / "lock") as made:
            handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))

            async def append(data: bytes) -> int:
                return await made.writer.write(handle, 0, data, append=True, kill_priv=False)

            data = [PLAIN[:2], PLAIN[2:]]
            if flushed:
                run.mkdir()
                await append(PLAIN)
                await made.sync.flush(handle)
                data = [b"more"]
                made.fs.held.close()
                shutil.rmtree(run)
            assert await errno_of(append(data[0])) == errno.ENOENT
            run.mkdir()
            for each in data:
                assert await append(each) == len(each)
            await made.release(handle)
            assert (store / "new").read_bytes() == (PLAIN if not flushed else PLAIN + b"more")

    main()


@on_trio
async def test_a_handle_that_ends_without_its_last_check_leaves_no_mark(
    store: Path, other: HeldFiles
) -> None:
    with parts(store, engine_of(OPEN + TYPES), latches=shared(other)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        await made.write(handle, 0, PHOTO[:2])
        stat = made.tree.fstat(handle.fd)
        made.opener.close(handle)
        assert not other.is_held_elsewhere(stat)

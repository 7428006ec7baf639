"""How a change comes into the store's file: at once, by its head, or by a draft."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from policyfs.fs.checked.head import HEAD_BYTES
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, TYPES, errno_of, racing


@on_trio
async def test_a_page_that_is_written_back_late_brings_nothing_back_that_was_cut_off(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/empty", os.O_RDWR, CAMERA)
        assert await made.write(handle, 0, b"x" * 5000) == 5000
        await made.writer.truncate(handle, 100)
        page = b"y" * 4096
        assert await made.writer.write(handle, 0, page, append=False, kill_priv=False, back=True) == 4096
        assert await made.writer.write(handle, 4096, page, append=False, kill_priv=False, back=True) == 4096
        assert (store / "empty").read_bytes() == b"y" * 100


@on_trio
async def test_what_comes_far_behind_a_held_head_is_written_where_it_belongs(store: Path) -> None:
    """A head of zeros as long as a head can be (truncate made it), then a write behind it."""
    anything = OPEN + "- {id: types, require: {content: [application/octet-stream]}, paths: '/**'}\n"
    with parts(store, engine_of(anything)) as made:
        handle = await made.open("/empty", os.O_RDWR, CAMERA)
        await made.writer.truncate(handle, HEAD_BYTES)
        assert await made.write(handle, 100_000, b"behind") == 6
        await made.release(handle)
    assert (store / "empty").read_bytes() == bytes(100_000) + b"behind"


@on_trio
async def test_an_o_trunc_that_waits_empties_the_draft_that_began_meanwhile(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        first, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        opened = []

        async def empty() -> None:
            opened.append(await made.open("/new", os.O_RDWR | os.O_TRUNC, MAPS))

        assert await racing(made, first, made.write(first, len(PHOTO), bytes(HEAD_BYTES)), empty()) == [0, 0]
        assert await made.write(opened[0], 0, PHOTO) == len(PHOTO)
        for handle in (first, *opened):
            assert await errno_of(made.sync.flush(handle)) == 0
            await made.release(handle)
    assert (store / "new").read_bytes() == PHOTO


@on_trio
async def test_a_draft_ends_once_the_beginning_is_in_the_store(store: Path) -> None:
    """A program that reserves a file's length and calls fsync often does not copy the file each time."""
    photo = PHOTO + bytes(2 * HEAD_BYTES)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        await made.writer.allocate(handle, 0, 0, len(photo))
        assert await errno_of(made.sync.fsync(handle, datasync=False)) == errno.EPERM
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        await made.sync.fsync(handle, datasync=False)
        assert (store / "new").read_bytes() == photo
        assert await made.write(handle, HEAD_BYTES, b"a block") == 7
        assert (store / "new").read_bytes()[HEAD_BYTES : HEAD_BYTES + 7] == b"a block"
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM, "told at once"
        await made.release(handle)
    assert (store / "new").read_bytes().startswith(PHOTO)

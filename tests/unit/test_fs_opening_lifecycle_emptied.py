"""An open while writers of the file are released."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.inodes.handles import Handle
from policyfs.store.locking.leases import LeaseKeeper
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, OPEN, PHOTO, errno_of
from tests.support.samples import jpegs

DRAFTS = """\
- {id: no-location, require: {no: [location]}, who: {app: camera}, paths: "/**"}
"""
PLAIN = jpegs.plain(1, 64)


@on_trio
async def test_an_open_waits_for_two_releases_at_once_that_empty_the_file(store: Path) -> None:
    """Each of them finds the other writer, and neither knows yet that it is the last one."""
    sizes: list[int] = []
    with parts(store, engine_of(OPEN + DRAFTS)) as made:
        one = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        other = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        assert one.node is other.node
        for handle in (one, other):
            await made.sync.flush(handle)
        assert (store / "a.jpg").read_bytes() == PHOTO

        async def look() -> None:
            reader = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
            assert reader.node is not one.node
            sizes.append((store / "a.jpg").stat().st_size)

        async with trio.open_nursery() as nursery, one.node.open.lock:
            for handle in (one, other):
                nursery.start_soon(made.release, handle)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
        assert sizes == [0]
        assert (store / "a.jpg").read_bytes() == b""


KINDS = """\
- {id: all, allow: [see, write, create], who: {app: any}, paths: "/**"}
- {id: photos, allow: [read], who: {app: any}, paths: "/**", when: {type: image/jpeg}}
"""


@on_trio
async def test_an_open_that_also_reads_waits_for_a_release_that_leaves_the_kind_unproven(
    store: Path, keeper: LeaseKeeper
) -> None:
    """close(2) does not wait for the release: a program that opens its own file anew finds its old writer."""
    with parts(store, engine_of(KINDS + DRAFTS), keeper=keeper) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o666, os.O_WRONLY, made.caller(CAMERA))
        await made.write(handle, 0, PLAIN)
        await made.sync.flush(handle)
        errors: list[int] = []

        async def open_anew() -> None:
            errors.append(await errno_of(made.opener.open(handle.node, os.O_RDWR, made.caller(CAMERA))))

        async with trio.open_nursery() as nursery, handle.node.open.lock:
            nursery.start_soon(made.release, handle)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(open_anew)
            await trio.testing.wait_all_tasks_blocked()
        assert errors == [0]


HIDDEN = (
    OPEN
    + """\
- {id: hide, require: {redact: location}, who: {app: gallery}, unless: {owner: self}}
- {id: no-location, require: {no: [location]}, who: {app: gallery}, paths: "/**"}
"""
)


async def emptying(made: Parts) -> Handle:
    """Empty a file as GALLERY, and close a copy of the descriptor: the store's file keeps its old bytes."""
    handle = await made.open("/a.jpg", os.O_WRONLY | os.O_TRUNC, GALLERY)
    await made.sync.flush(handle)
    assert (made.store / "a.jpg").read_bytes() == PHOTO
    return handle


@pytest.mark.parametrize("closed", [True, False])
@on_trio
async def test_an_app_appends_to_a_file_that_it_has_just_emptied(store: Path, closed: bool) -> None:
    """`: > f; echo x >> f` under redaction: the app does not own the file, but sees it empty."""
    with parts(store, engine_of(HIDDEN)) as made:
        emptied, opened = await emptying(made), list[Handle]()

        async def append() -> None:
            opened.append(await made.open("/a.jpg", os.O_WRONLY | os.O_APPEND, GALLERY))

        async with trio.open_nursery() as nursery:
            if closed:
                nursery.start_soon(made.release, emptied)
            nursery.start_soon(append)
        written = made.writer.write(opened[0], 0, PLAIN, append=True, kill_priv=False)
        assert await errno_of(written) == 0
        assert await errno_of(made.sync.flush(opened[0])) == 0
        assert (store / "a.jpg").read_bytes() == PLAIN
        for handle in opened if closed else (*opened, emptied):
            await made.release(handle)
    assert (store / "a.jpg").read_bytes() == PLAIN


@pytest.mark.parametrize("truncates", [True, False])
@on_trio
async def test_no_open_succeeds_by_a_draft_that_is_dropped(store: Path, truncates: bool, monkeypatch) -> None:
    """Bytes of the draft were refused, so its release keeps the old bytes, which are not the app's own."""
    with parts(store, engine_of(HIDDEN)) as made:
        emptied = await emptying(made)
        await made.write(emptied, 0, PHOTO)
        assert await errno_of(made.sync.flush(emptied)) == errno.EPERM
        await made.writer.truncate(emptied, 0)
        recorded = type(made.gate.recorder).recorded

        async def late(self, *asked, **named) -> bool:
            monkeypatch.undo()
            await made.release(emptied)
            return await recorded(self, *asked, **named)

        monkeypatch.setattr(type(made.gate.recorder), "recorded", late)
        node, caller = emptied.node, made.caller(GALLERY)
        if truncates:
            opened = made.opener.open_to_truncate(node, 100, caller)
        else:
            opened = made.opener.open(node, os.O_RDWR, caller)
        assert await errno_of(opened) == errno.ESTALE
        assert await errno_of(made.open("/a.jpg", os.O_RDWR, GALLERY)) == errno.EACCES
    assert (store / "a.jpg").read_bytes() == PHOTO

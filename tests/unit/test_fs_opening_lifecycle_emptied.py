"""An open while writers of the file are released."""

from __future__ import annotations

import os
from pathlib import Path

import trio
import trio.testing

from policyfs.store.leases import LeaseKeeper
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
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

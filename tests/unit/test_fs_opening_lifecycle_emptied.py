"""An open in another view, while the last writers of an emptied file are released."""

from __future__ import annotations

import os
from pathlib import Path

import trio
import trio.testing

from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, OPEN, PHOTO

DRAFTS = """\
- {id: no-location, require: {no: [location]}, who: {app: camera}, paths: "/**"}
"""


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

"""The end of a handle."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import trio

from tests.support.models.policies import engine_of
from tests.support.mount.file_system import keeps_pages, on_trio, parts
from tests.support.mount.steps import MAPS, OPEN, errno_of


@on_trio
async def test_a_release_that_meets_a_failing_disk_gives_everything_up(store: Path, monkeypatch) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, MAPS)

        def fails(self, fd):
            raise OSError(errno.EIO, "the disk")

        with monkeypatch.context() as patched:
            patched.setattr(type(made.tree), "fstat", fails)
            assert await errno_of(made.release(handle)) == errno.EIO
        assert not len(made.handles)
        assert handle.fd == -1
        assert handle.node.open is None


@on_trio
async def test_pages_are_not_kept_before_an_open_is_on_record(store: Path, monkeypatch) -> None:
    """Only the reply to an open makes the kernel drop its pages of before."""
    with parts(store, engine_of(OPEN)) as made:
        await made.release(await made.open("/a.jpg", os.O_RDONLY, MAPS))
        (store / "a.jpg").write_bytes(b"changed")
        recorded, waiting, goes_on = made.gate.recorder.recorded, trio.Event(), trio.Event()

        async def late(*arguments, **named):
            waiting.set()
            await goes_on.wait()
            return await recorded(*arguments, **named)

        async with trio.open_nursery() as nursery:
            with monkeypatch.context() as patched:
                patched.setattr(made.gate.recorder, "recorded", late)
                nursery.start_soon(made.open, "/a.jpg", os.O_RDONLY, MAPS)
                await waiting.wait()
            assert not keeps_pages(await made.open("/a.jpg", os.O_RDONLY, MAPS))
            goes_on.set()
        assert keeps_pages(await made.open("/a.jpg", os.O_RDONLY, MAPS))

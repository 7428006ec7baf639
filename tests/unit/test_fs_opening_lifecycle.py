"""The end of a handle."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from policyfs.store.locking.leases import LeaseKeeper
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import keeps_pages, on_trio, parts
from tests.support.mount.steps import MAPS, OPEN, errno_of, mapped


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
async def test_pages_are_not_kept_before_a_release(store: Path) -> None:
    """The kernel drops its pages of before some time after the reply to an open, but before its release."""
    with parts(store, engine_of(OPEN)) as made:
        await made.release(await made.open("/a.jpg", os.O_RDONLY, MAPS))
        (store / "a.jpg").write_bytes(b"changed")
        first = await made.open("/a.jpg", os.O_RDONLY, MAPS)
        second = await made.open("/a.jpg", os.O_RDONLY, MAPS)
        assert not keeps_pages(first)
        assert not keeps_pages(second)
        await made.release(first)
        assert keeps_pages(await made.open("/a.jpg", os.O_RDONLY, MAPS))


@on_trio
async def test_a_refused_open_leaves_the_pages_of_before(store: Path, monkeypatch) -> None:
    """The kernel has not seen the open, and has not dropped its pages."""
    with parts(store, engine_of(OPEN)) as made:
        await made.release(await made.open("/a.jpg", os.O_RDONLY, MAPS))
        (store / "a.jpg").write_bytes(b"changed")

        async def fails(*_, **__):
            raise OSError(errno.EIO, "not on record")

        with monkeypatch.context() as patched:
            patched.setattr(made.gate.recorder, "recorded", fails)
            assert await errno_of(made.open("/a.jpg", os.O_RDONLY, MAPS)) == errno.EIO
        assert not keeps_pages(await made.open("/a.jpg", os.O_RDONLY, MAPS))


@on_trio
async def test_pages_read_beside_a_mapped_writer_are_not_kept(store: Path, keeper: LeaseKeeper) -> None:
    """What it writes into a page that waits for the disk changes no times."""
    with parts(store, engine_of(OPEN), keeper=keeper) as made, mapped(store / "a.jpg") as writer:
        writer[:4] = b"one1"
        first = await made.open("/a.jpg", os.O_RDONLY, MAPS)
        assert bytes(await made.reader.read(first, 0, 4)) == b"one1"
        await made.release(first)
        writer[:4] = b"two2"
        writer.close()
        second = await made.open("/a.jpg", os.O_RDONLY, MAPS)
        assert not keeps_pages(second)
        await made.release(second)
        assert keeps_pages(await made.open("/a.jpg", os.O_RDONLY, MAPS)), "the writer is gone"

"""The end of a handle."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
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

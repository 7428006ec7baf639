"""The look at a file right before an open for writing is answered."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import GALLERY, PHOTO, REDACTED


@on_trio
async def test_an_open_that_lost_the_race_to_another_writer_did_not_empty_the_file(store: Path) -> None:
    """The file was empty when the open was decided; a photo was written before it was answered."""
    with parts(store, engine_of(REDACTED)) as made:
        node = await made.walk("/empty", GALLERY)
        fd, stat = made.backing_files.open_named(node)
        handle = made.lifecycle.new_handle(node, made.caller(GALLERY), os.O_RDWR, stat)
        handle.emptied, handle.fd = True, made.tree.reopen(fd, os.O_RDWR)
        (store / "empty").write_bytes(PHOTO)
        with pytest.raises(OSError) as stale:
            await made.write_access.before_writing(node, handle, stat, "none")
        assert stale.value.errno == errno.ESTALE
        os.close(fd)
        os.close(handle.fd)

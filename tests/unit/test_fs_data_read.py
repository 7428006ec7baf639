"""Reads of open files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import GALLERY, OPEN, PHOTO, REDACTED, errno_of
from tests.support.samples import jpegs


@on_trio
async def test_redaction_that_a_reload_brings_holds_for_open_handles(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert await made.reader.read(handle, 0, 1 << 16) == PHOTO
        made.reload(engine_of(REDACTED))
        assert await errno_of(made.reader.read(handle, 0, 1 << 16)) == errno.EACCES
        again = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert not jpegs.leaks(await made.reader.read(again, 0, 1 << 16))

"""Files made, where another comes to their name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, REDACTED, errno_of


@on_trio
async def test_mknod_makes_nobody_the_owner_of_a_file_that_is_moved_there(store: Path, monkeypatch) -> None:
    """Another file comes to the name in the moment in which it is made."""
    (store / "other.jpg").write_bytes(PHOTO)
    with parts(store, engine_of(REDACTED)) as made:
        create_file = type(made.tree).create_file

        def created(tree, dirfd, name, *more, **options) -> int:
            fd = create_file(tree, dirfd, name, *more, **options)
            os.rename(store / "other.jpg", store / "new.jpg")
            return fd

        monkeypatch.setattr(type(made.tree), "create_file", created)
        await made.creator.mknod(made.root, b"new.jpg", 0o100644, 0, made.caller(CAMERA))
        fd = os.open(store / "new.jpg", os.O_RDONLY)
        assert os.pread(fd, 1 << 20, 0) == PHOTO
        assert made.owners.get(fd, made.tree.fstat(fd)) == "none"
        os.close(fd)


@on_trio
async def test_what_cannot_be_recorded_is_not_made(store: Path) -> None:
    text = OPEN.replace("}\n", ", audit: required}\n")
    with parts(store, engine_of(text)) as made:
        node = await made.walk("/a.jpg", MAPS)
        made.sink.broken = True
        caller, before = made.caller(MAPS), len(made.nodes)
        for request in (
            lambda: made.creator.mkdir(made.root, b"n", 0o755, caller),
            lambda: made.creator.symlink(made.root, b"n", b"a.jpg", caller),
            lambda: made.creator.mknod(made.root, b"n", 0o100644, 0, caller),
        ):
            assert await errno_of(request()) == errno.EIO
        assert await errno_of(made.linker.link(node, made.root, b"n", caller)) == errno.EIO
        assert await errno_of(made.creator.create(made.root, b"n", 0o644, os.O_RDWR, caller)) == errno.EIO
        assert (
            await errno_of(made.renamer.rename(made.root, b"a.jpg", made.root, b"n", 0, caller)) == errno.EIO
        )
        assert not (store / "n").exists()
        assert len(made.nodes) == before
        assert not len(made.handles)

"""The files behind open nodes: found with and without a name, and handles that may write on."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

from policyfs.fs.access.views import version_of
from policyfs.fs.opening.open_files import OpenFiles
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, REDACTED


def files_of(made: Parts) -> OpenFiles:
    return made.remover._open_files


def same(made: Parts, fd: int, path: Path) -> bool:
    """True if a descriptor, closed here, is of this file."""
    found, there = os.fstat(fd), os.stat(path, follow_symlinks=False)
    os.close(fd)
    return (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino)


@on_trio
async def test_a_descriptor_of_every_sort_of_node(store: Path) -> None:
    (store / "d").mkdir()
    os.symlink("a.jpg", store / "s")
    with parts(store, engine_of(OPEN)) as made:
        files = files_of(made)
        assert same(made, files.descriptor(made.root), store)
        for name in ("a.jpg", "d", "s"):
            assert same(made, files.descriptor(await made.walk(name, CAMERA)), store / name)


@on_trio
async def test_what_has_no_name_any_more_is_found_by_what_is_open(store: Path) -> None:
    (store / "d").mkdir()
    os.link(store / "a.jpg", store / "keep")
    with parts(store, engine_of(OPEN)) as made:
        files, caller = files_of(made), made.caller(CAMERA)
        handle, directory = await made.open("/a.jpg", os.O_RDWR, CAMERA), await made.walk("/d", CAMERA)
        kept = os.open(store / "d", os.O_RDONLY)
        await made.remover.remove(made.root, b"a.jpg", caller, directory=False)
        await made.remover.remove(made.root, b"d", caller, directory=True)
        assert same(made, files.descriptor(handle.node, handle), store / "keep")
        assert same(made, files.backing_fd(handle), store / "keep")
        fd = files.descriptor(directory)
        assert os.fstat(fd).st_ino == os.fstat(kept).st_ino
        os.close(fd)
        os.close(kept)


@on_trio
async def test_behind_a_copy_is_the_file_that_has_the_name(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        fd = files_of(made).backing_fd(handle)
        assert os.pread(fd, len(PHOTO), 0) == PHOTO
        assert same(made, fd, store / "a.jpg")


@on_trio
async def test_a_change_of_attributes_is_no_change_of_bytes(store: Path) -> None:
    """An app that emptied another owner's file may write on after a chmod, not after another's write."""
    with parts(store, engine_of(REDACTED)) as made:
        files = files_of(made)
        handle = await made.open("/a.jpg", os.O_WRONLY | os.O_TRUNC, CAMERA)
        assert handle.emptied
        handle.seen = before = _version(made, handle.fd)
        with files.bytes_stay(handle.node.ino):
            os.chmod(store / "a.jpg", 0o600)
        assert handle.seen == _version(made, handle.fd) != before
        (store / "a.jpg").write_bytes(b"another's")
        seen = handle.seen
        with files.bytes_stay(handle.node.ino):
            os.chmod(store / "a.jpg", 0o644)
        assert handle.seen == seen, "that change was another's: it still counts"


def _version(made: Parts, fd: int) -> object:

    return version_of(made.tree.fstat(fd))


@on_trio
async def test_the_kernel_asks_again_for_other_nodes_of_a_file_that_changed(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        told: list[int] = []
        backing_files, cache = files_of(made)._backing_files, SimpleNamespace(forget_attributes=told.append)
        files = OpenFiles(made.fs, backing_files=backing_files, cache=cache)  # type: ignore[arg-type]
        one, other = await made.walk("/a.jpg", CAMERA), await made.walk("/a.jpg", MAPS)
        single = await made.walk("/empty", MAPS)
        assert one is not other
        for ino, answered, nodes in (
            (one.ino, True, {one.nodeid, other.nodeid}),
            (single.ino, True, set()),
            (single.ino, False, {single.nodeid}),
            (1 << 60, True, set()),
        ):
            told.clear()
            with files.bytes_stay(ino, answered=answered):
                assert told == []
            assert (set(told), len(told)) == (nodes, len(nodes))

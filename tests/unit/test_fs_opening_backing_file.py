"""The store's file behind a node: by any name, by an open descriptor, and never another file."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from policyfs.fs.opening.open_files import BackingFiles
from policyfs.linux import statx
from policyfs.linux.statx import Stat
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN, PHOTO, REDACTED


def files_of(made: Parts) -> BackingFiles:
    return made.remover._open_files._backing_files


def content(fd: int) -> bytes:
    data = os.pread(fd, 1 << 20, 0)
    os.close(fd)
    return data


async def errno_of_find(files: BackingFiles, node) -> int:
    try:
        os.close(files.find(node)[0])
    except OSError as error:
        return error.errno or 0
    return 0


@on_trio
async def test_by_its_name(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        fd, stat = files_of(made).find(node)
        assert (content(fd), stat.size) == (PHOTO, len(PHOTO))
        fd, _ = await files_of(made).find_apart(node)
        assert content(fd) == PHOTO


@on_trio
async def test_by_another_name_where_the_first_is_gone(store: Path) -> None:
    os.link(store / "a.jpg", store / "b.jpg")
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        assert await made.walk("/b.jpg", CAMERA) is node
        (store / "a.jpg").unlink()
        assert content(files_of(made).find(node)[0]) == PHOTO


@on_trio
async def test_never_another_file_that_took_the_name(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        files, node = files_of(made), await made.walk("/a.jpg", CAMERA)
        (store / "other").write_bytes(b"other")
        for put in (
            lambda: (store / "other").rename(store / "a.jpg"),
            lambda: ((store / "a.jpg").unlink(), os.symlink("empty", store / "a.jpg")),
            lambda: ((store / "a.jpg").unlink(), (store / "a.jpg").mkdir()),
            lambda: ((store / "a.jpg").rmdir(), os.mkfifo(store / "a.jpg")),
        ):
            put()
            before = len(os.listdir("/proc/self/fd"))
            assert await errno_of_find(files, node) == errno.ESTALE
            assert len(os.listdir("/proc/self/fd")) == before


@on_trio
async def test_without_a_name_by_what_is_open(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        files = files_of(made)
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        node = handle.node
        await made.remover.remove(made.root, b"a.jpg", made.caller(CAMERA), directory=False)
        fd, stat = files.find(node)
        assert (content(fd), stat.nlink) == (PHOTO, 0)
        await made.release(handle)
        assert await errno_of_find(files, node) == errno.ESTALE


@on_trio
async def test_bytes_of_a_copy_are_not_the_file(store: Path) -> None:
    """A handle that shows a copy does not lead to the file once its name is gone."""
    with parts(store, engine_of(REDACTED)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        (store / "a.jpg").unlink()
        assert await errno_of_find(files_of(made), handle.node) == errno.ESTALE


@on_trio
async def test_no_descriptor_is_left_where_the_file_goes_behind_its_open(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """statx(2) of an open file fails on a network store if the file was removed there."""

    def gone(fd: int) -> Stat:
        raise OSError(errno.ESTALE, f"{fd} is of a file that is gone")

    with parts(store, engine_of(OPEN)) as made:
        files, handle = files_of(made), await made.open("/a.jpg", os.O_RDWR, CAMERA)
        node = handle.node
        monkeypatch.setattr(statx, "fstatx", gone)
        before = len(os.listdir("/proc/self/fd"))
        assert await errno_of_find(files, node) == errno.ESTALE
        with pytest.raises(OSError, match="is gone"):
            await files.find_apart(node)
        with pytest.raises(OSError, match="is gone"):
            made.resolver.open_checked(node)
        monkeypatch.undo()
        await made.remover.remove(made.root, b"a.jpg", made.caller(CAMERA), directory=False)
        monkeypatch.setattr(statx, "fstatx", gone)
        assert await errno_of_find(files, node) == errno.ESTALE
        assert len(os.listdir("/proc/self/fd")) <= before + 1  # one of the removed file, which is still open


@on_trio
async def test_a_thread_opens_a_file_of_a_remote_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for requests through a copy: lseek and fsync."""
    with parts(store, engine_of(REDACTED)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        files = made.remover._open_files
        monkeypatch.setattr(files_of(made), "_remote", True)
        threads: list[int] = []
        open_file = Tree.open_file

        def noted(tree: Tree, *where: Any) -> int:
            threads.append(threading.get_ident())
            return open_file(tree, *where)

        monkeypatch.setattr(Tree, "open_file", noted)
        assert content(await files.backing_fd_apart(handle)) == PHOTO
        assert threading.get_ident() not in threads
        assert len(threads) == 1

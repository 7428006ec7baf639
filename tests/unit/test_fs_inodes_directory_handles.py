"""File handles of directories: each leads to its directory wherever the store has moved it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.domain import RAW_VIEW, FileType
from policyfs.fs.inodes.directory_handles import DirectoryHandles
from policyfs.fs.inodes.node import Node
from policyfs.linux import libc
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts

MAPS = 10012
OPEN = '- {id: all, allow: [all], paths: "/***"}\n'


async def _known(made, path: str) -> tuple[DirectoryHandles, Node]:
    handles = DirectoryHandles(made.tree, made.nodes)
    node = await made.walk(path, MAPS)
    assert not handles.knows(node)
    assert handles.path_of(node) is None
    assert handles.learn(node, made.resolver.dirfd(node))
    assert handles.knows(node)
    return handles, node


@on_trio
async def test_a_handle_leads_to_its_directory_after_a_move(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "a/b").mkdir(parents=True)
    (store / "other").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        handles, node = await _known(made, "/a/b")
        assert handles.path_of(node) == [b"a", b"b"]
        os.rename(store / "a/b", store / "other/new (deleted)")
        (store / "a/b").mkdir()
        assert handles.path_of(node) == [b"other", b"new (deleted)"]
        assert handles.by_handle[libc.handle_and_mount(made.tree.root_fd)[0]] is made.root


@pytest.mark.parametrize("how", ["outside", "removed", "too long"])
@on_trio
async def test_of_a_directory_that_is_not_in_the_store_there_is_no_path(tmp_path: Path, how: str) -> None:
    store = tmp_path / "store"
    (store / "a").mkdir(parents=True)
    with parts(store, engine_of(OPEN)) as made:
        handles, node = await _known(made, "/a")
        fd = os.open(store / "a", os.O_PATH)
        if how == "outside":
            os.rename(store / "a", tmp_path / "store2")
        elif how == "removed":
            (store / "a").rmdir()
        else:
            at = os.open(store, os.O_PATH)
            for _ in range(17):
                os.mkdir("x" * 250, dir_fd=at)
                at, above = os.open("x" * 250, os.O_PATH, dir_fd=at), at
                os.close(above)
            os.rename(store / "a", "a", dst_dir_fd=at)
            os.close(at)
        assert handles.path_of(node) is None
        assert handles.path_of(node, fd) is None
        os.close(fd)


@on_trio
async def test_a_directory_of_another_mount_has_no_handle_and_a_descriptor_must_be_its_own(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    with parts(tmp_path, engine_of(OPEN)) as made:
        handles, node = await _known(made, "/a")
        other = made.nodes.add(
            made.tree.stat(made.tree.root_fd, b"a")._replace(ino=1), FileType.DIRECTORY, RAW_VIEW,
            node.byte_path, node.state,
        )  # fmt: skip
        assert handles.path_of(other, made.resolver.dirfd(node)) is None
        fd = os.open("/proc", os.O_PATH)
        assert not handles.learn(other, fd)
        os.close(fd)
        assert not handles.knows(other)
        made.nodes.forget(node.nodeid, node.lookups)
        assert list(handles.by_handle.values()) == [made.root]


@on_trio
async def test_a_directory_without_a_handle_is_asked_for_once(tmp_path: Path) -> None:
    (tmp_path / "store/a").mkdir(parents=True)
    with parts(tmp_path / "store", engine_of(OPEN)) as made:
        handles, node = DirectoryHandles(made.tree, made.nodes), await made.walk("/a", MAPS)
        assert not handles.has_asked(node)
        fd = os.open("/proc", os.O_PATH)  # on another mount
        try:
            assert not handles.learn(node, fd)
        finally:
            os.close(fd)
        assert (handles.has_asked(node), handles.knows(node), handles.path_of(node)) == (True, False, None)

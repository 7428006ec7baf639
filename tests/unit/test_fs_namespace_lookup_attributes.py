"""Attributes as lookup tells them, also of objects that lose their names; readlink and access."""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from pathlib import Path
from typing import Any

import pytest

from policyfs.domain import FileType
from policyfs.fs.inodes.node import ROOT_ID, BytePath, Node
from policyfs.fs.inodes.vectors import AccessVectors
from policyfs.fs.namespace.lookup import Lookup
from policyfs.kernel.bridge import pyfuse3
from policyfs.store.frozen import Version
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    GALLERY,
    MAPS,
    OPEN,
    PHOTO,
    REDACTED,
    errno_of,
    look_up,
    replace,
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    (directory / "d/inner").mkdir(parents=True)
    (directory / "e/inner").mkdir(parents=True)
    (directory / "a.jpg").write_bytes(PHOTO)
    return directory


async def attributes(made: Parts, path: str, uid: int) -> pyfuse3.EntryAttributes:
    return await made.lookup.getattr(await made.walk(path, uid), made.caller(uid))


@on_trio
async def test_counts_of_a_directory_tell_nothing_of_names_that_are_hidden_in_it(store: Path) -> None:
    rules = '- {id: all, allow: [all], paths: "/**"}\n'
    rules += '- {id: hide, deny: [see], who: {app: maps}, paths: "/d/inner", errno: ENOENT}\n'
    with parts(store, engine_of(rules)) as made:
        plain = os.stat(store / "e")
        entry = await attributes(made, "/e", MAPS)
        assert (entry.st_nlink, entry.st_size) == (plain.st_nlink, plain.st_size)
        for uid in (MAPS, CAMERA):  # the kernel may give one's attributes to the other
            for entry in (await look_up(made, "d", uid), await attributes(made, "/d", uid)):
                assert (entry.st_nlink, entry.st_size, entry.st_blocks) == (1, 4096, 8)
        file = await attributes(made, "/a.jpg", MAPS)
        assert (file.st_nlink, file.st_size) == (1, len(PHOTO))


@on_trio
async def test_the_root_is_told_to_all_and_everything_else_to_who_may_see_it(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        stranger = made.caller(4242)
        entry = await made.lookup.getattr(made.root, stranger)
        assert (entry.st_ino, entry.st_rdev) == (ROOT_ID, os.stat(store).st_ino)
        node = await made.walk("/a.jpg", CAMERA)
        for request in (made.lookup.getattr(node, stranger), made.lookup.look(node, stranger)):
            assert await errno_of(request) == errno.ENOENT
        assert [(e.operation, e.path) for e in made.sink.events if e.decision == "deny"] == [
            ("stat", b"/a.jpg")
        ] * 2


@on_trio
async def test_each_view_of_a_file_has_its_node_and_an_app_reads_its_own_file_live(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"own.jpg", 0o644, os.O_RDWR, made.caller(GALLERY))
        await made.write(handle, 0, PHOTO)
        await made.release(handle)
        paths = {
            (name, uid): (await made.walk(name, uid)).byte_path
            for name in ("/a.jpg", "/own.jpg")
            for uid in (MAPS, GALLERY, CAMERA)
        }
        assert paths == {
            ("/a.jpg", MAPS): BytePath.RAW, ("/own.jpg", MAPS): BytePath.RAW,
            ("/a.jpg", GALLERY): BytePath.COPY, ("/own.jpg", GALLERY): BytePath.LIVE,
            ("/a.jpg", CAMERA): BytePath.COPY, ("/own.jpg", CAMERA): BytePath.COPY,
        }  # fmt: skip
        numbers = [(await look_up(made, "own.jpg", uid)).st_ino for uid in (MAPS, GALLERY, CAMERA)]
        assert len(set(numbers)) == 3
        assert (await look_up(made, "d", GALLERY)).st_ino == (await look_up(made, "d", MAPS)).st_ino


@on_trio
async def test_the_kernel_is_known_to_have_the_version_that_it_was_told(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        for change in (lambda: None, lambda: (store / "a.jpg").write_bytes(b"\xff\xd8\xffother")):
            change()
            entry = await attributes(made, "/a.jpg", CAMERA)
            found = os.stat(store / "a.jpg")
            version = Version(found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            assert (entry.st_size, entry.st_mtime_ns) == (found.st_size, found.st_mtime_ns)
            assert node.was_told(version)


# -- objects without a name ---------------------------------------------------------------------------


@on_trio
async def test_an_open_file_has_attributes_without_a_name(store: Path) -> None:
    """Removed through the mount, or in the store, or kept as a copy: as natively."""
    for removed_here in (True, False):
        (store / "a.jpg").write_bytes(PHOTO)
        with parts(store, engine_of(OPEN)) as made:
            handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
            if removed_here:
                await made.remover.remove(made.root, b"a.jpg", made.caller(CAMERA), directory=False)
            else:
                (store / "a.jpg").unlink()
            os.pwrite(handle.fd, b"more", len(PHOTO))
            entry = await made.lookup.getattr(handle.node, made.caller(CAMERA))
            assert (entry.st_nlink, entry.st_size) == (0, len(PHOTO) + 4)
            await made.release(handle)


@on_trio
async def test_a_copy_has_the_attributes_of_its_file_at_the_open(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert handle.node.byte_path is BytePath.COPY
        found = os.stat(store / "a.jpg")
        replace(store / "a.jpg", b"words")
        stat = made.lookup.stat(handle.node)
        assert (stat.ino, stat.size, stat.mtime_ns, stat.nlink) == (
            found.st_ino, len(PHOTO), found.st_mtime_ns, 0
        )  # fmt: skip
        await made.release(handle)


@on_trio
async def test_a_file_that_is_not_open_has_no_attributes_once_it_is_gone(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        replace(store / "a.jpg", b"words")
        assert await errno_of(made.lookup.getattr(node, made.caller(CAMERA))) == errno.ESTALE


@on_trio
async def test_a_removed_directory_has_attributes_for_who_is_in_it(store: Path) -> None:
    """Removed through the mount, or in the store."""
    with parts(store, engine_of(OPEN)) as made:
        here, elsewhere = await made.walk("/d/inner", CAMERA), await made.walk("/e/inner", CAMERA)
        for node in (here, elsewhere):
            made.resolver.dirfd(node)
        await made.remover.remove(here.parent, b"inner", made.caller(CAMERA), directory=True)
        (store / "e/inner").rmdir()
        for node in (here, elsewhere):
            assert made.lookup.stat(node).nlink == 0
            entry = await made.lookup.getattr(node, made.caller(CAMERA))
            assert stat_bits.S_ISDIR(entry.st_mode)


@on_trio
async def test_a_removed_directory_that_nobody_was_in_is_gone(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/d/inner", CAMERA)
        (store / "d/inner").rmdir()
        assert await errno_of(made.lookup.getattr(node, made.caller(CAMERA))) == errno.ESTALE


@on_trio
async def test_an_error_of_the_store_is_told_as_it_is(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open file whose store fails is no file without a name."""

    def fails(*_) -> None:
        raise OSError(errno.EIO, "the disk")

    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        monkeypatch.setattr(Tree, "stat", fails)
        with pytest.raises(OSError, match="the disk"):
            made.lookup.stat(handle.node)
        monkeypatch.undo()
        await made.release(handle)


# -- files whose name is taken over ---------------------------------------------------------------------


@on_trio
async def test_a_file_that_was_missed_once_is_kept_for_the_open_that_follows(store: Path) -> None:
    """Natively an open that has found a file opens it, whatever takes its name then."""
    with parts(store, engine_of(OPEN)) as made:
        caller = made.caller(CAMERA)
        node = await made.walk("/a.jpg", CAMERA)
        replace(store / "a.jpg", b"words")
        assert await errno_of(made.opener.open(node, os.O_RDONLY, caller)) == errno.ESTALE
        node = await made.walk("/a.jpg", CAMERA)
        replace(store / "a.jpg", b"another's")
        handle = await made.opener.open(node, os.O_RDONLY, caller)
        assert os.pread(handle.fd, 100, 0) == b"words"
        await made.release(handle)


@on_trio
async def test_a_file_that_was_missed_once_is_kept_for_the_stat_that_follows(store: Path) -> None:
    """The kernel tries a stat once more after ESTALE, and no third time."""
    with parts(store, engine_of(OPEN)) as made:
        caller = made.caller(CAMERA)
        node = await made.walk("/a.jpg", CAMERA)
        replace(store / "a.jpg", b"words")
        assert await errno_of(made.lookup.getattr(node, caller)) == errno.ESTALE
        node = await made.walk("/a.jpg", CAMERA)
        replace(store / "a.jpg", b"another's")
        entry = await made.lookup.getattr(node, caller)
        assert (entry.st_size, entry.st_nlink, entry.attr_timeout) == (len(b"words"), 0, 0)
        handle = await made.opener.open(node, os.O_RDONLY, caller)  # opens ask for attributes, too
        assert os.pread(handle.fd, 100, 0) == b"words"
        await made.release(handle)


@on_trio
async def test_the_file_that_a_second_lookup_decides_on_is_kept_though_it_loses_its_name_meanwhile(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the name and the node, another program replaces the file once more."""
    real = Lookup.node_for

    def replacing(lookup: Lookup, *found: Any) -> Node:
        replace(store / "a.jpg", b"another's")
        return real(lookup, *found)

    with parts(store, engine_of(OPEN)) as made:
        caller = made.caller(CAMERA)
        for ask in (made.lookup.getattr, lambda *asked: made.opener.open(asked[0], os.O_RDONLY, asked[1])):
            node = await made.walk("/a.jpg", CAMERA)
            replace(store / "a.jpg", b"words")
            assert await errno_of(ask(node, caller)) == errno.ESTALE
            with monkeypatch.context() as patch:
                patch.setattr(Lookup, "node_for", replacing)
                node = await made.walk("/a.jpg", CAMERA)
            assert (await made.lookup.getattr(node, caller)).st_size == len(b"words")
            handle = await made.opener.open(node, os.O_RDONLY, caller)
            assert os.pread(handle.fd, 100, 0) == b"words"
            await made.release(handle)


@on_trio
async def test_a_second_lookup_needs_no_descriptor(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If none is free, it answers as any other LOOKUP. An absent name is absent."""

    def fails(*_: object) -> int:
        raise OSError(errno.EMFILE, "no descriptor is free")

    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        replace(store / "a.jpg", b"words")
        assert await errno_of(made.lookup.getattr(node, made.caller(CAMERA))) == errno.ESTALE
        with monkeypatch.context() as patch:
            patch.setattr(Tree, "open_path", fails)
            assert (await look_up(made, "a.jpg", CAMERA)).st_size == len(b"words")
        (store / "a.jpg").unlink()
        assert await errno_of(look_up(made, "a.jpg", CAMERA)) == errno.ENOENT


@on_trio
async def test_the_lookup_after_a_stat_that_missed_its_file_reaches_python(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another caller may have a vector for the node of the file that has the name now."""
    dropped: list[Node] = []
    with parts(store, engine_of(OPEN)) as made:
        (store / "d/file").write_bytes(b"words")
        node = await made.walk("/d/file", CAMERA)
        above = node.parent
        replace(store / "d/file", b"another's")
        monkeypatch.setattr(AccessVectors, "drop", lambda _, dropping: dropped.append(dropping))
        assert await errno_of(made.lookup.getattr(node, made.caller(CAMERA))) == errno.ESTALE
        assert above in dropped


@on_trio
async def test_a_file_that_an_app_replaces_has_attributes_for_the_stat_that_has_found_it(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        caller = made.caller(CAMERA)
        (store / "b.jpg").write_bytes(b"words")
        node = await made.walk("/a.jpg", CAMERA)
        await made.walk("/b.jpg", CAMERA)
        await made.renamer.rename(made.root, b"b.jpg", made.root, b"a.jpg", 0, caller)
        entry = await made.lookup.getattr(node, caller)
        assert (entry.st_ino, entry.st_size, entry.st_nlink) == (node.nodeid, len(PHOTO), 0)


@pytest.mark.parametrize("becomes", [None, b"another"])
def test_a_second_lookup_answers_for_what_has_the_name_when_it_looks(
    store: Path, monkeypatch: pytest.MonkeyPatch, becomes: bytes | None
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            node = await made.walk("/a.jpg", CAMERA)
            replace(store / "a.jpg", b"words")
            assert await errno_of(made.opener.open(node, os.O_RDONLY, made.caller(CAMERA))) == errno.ESTALE
            real = Tree.open_path

            def goes(tree: Tree, dirfd: int, name: bytes) -> int:
                (store / "a.jpg").unlink()
                if becomes is not None:
                    (store / "a.jpg").write_bytes(becomes)
                return real(tree, dirfd, name)

            before = len(os.listdir("/proc/self/fd"))
            with monkeypatch.context() as patch:
                patch.setattr(Tree, "open_path", goes)
                if becomes is None:
                    assert await errno_of(look_up(made, "a.jpg", CAMERA)) == errno.ENOENT
                else:
                    assert (await look_up(made, "a.jpg", CAMERA)).st_size == len(becomes)
            assert len(os.listdir("/proc/self/fd")) == before + (becomes is not None)
            if becomes is not None:
                handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
                assert os.pread(handle.fd, 100, 0) == becomes
                await made.release(handle)

    run()


# -- readlink and access ------------------------------------------------------------------------------


@on_trio
async def test_targets_are_data_and_for_who_sees_the_link(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = b"/../e/\xff"
    os.symlink(target, store / "link")
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/link", CAMERA)
        assert node.ftype is FileType.SYMLINK
        before = len(os.listdir("/proc/self/fd"))
        assert await made.lookup.readlink(node, made.caller(MAPS)) == target
        assert await errno_of(made.lookup.readlink(node, made.caller(4242))) == errno.ENOENT
        real = Tree.readlink_fd
        monkeypatch.setattr(Tree, "readlink_fd", lambda tree, fd: real(tree, made.tree.root_fd))
        assert await errno_of(made.lookup.readlink(node, made.caller(MAPS))) == errno.ENOENT
        assert len(os.listdir("/proc/self/fd")) == before


RIGHTS = """\
- {id: see, allow: [see], who: {app: any}, paths: "/**"}
- {id: read, allow: [read], who: {app: [camera, gallery]}, paths: "/**"}
- {id: write, allow: [write], who: {app: camera}, paths: "/**"}
"""
R, W, X = os.R_OK, os.W_OK, os.X_OK


@pytest.mark.parametrize(
    ("path", "mode", "camera", "gallery", "maps"),
    [
        ("/d", R | W | X, True, True, True),  # rights in a directory are those of its names
        ("/a.jpg", os.F_OK, True, True, True),
        ("/a.jpg", R, True, True, errno.EACCES),
        ("/a.jpg", W, True, errno.EACCES, errno.EACCES),
        ("/a.jpg", R | W, True, errno.EACCES, errno.EACCES),
        ("/a.jpg", X, False, False, errno.EACCES),
        ("/program", X, True, True, errno.EACCES),
        ("/program", R | X, True, True, errno.EACCES),
    ],
)
def test_access_answers_what_an_open_would(
    store: Path, path: str, mode: int, camera: object, gallery: object, maps: object
) -> None:
    (store / "program").touch(0o700)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(RIGHTS)) as made:
            for uid, answer in ((CAMERA, camera), (GALLERY, gallery), (MAPS, maps)):
                node = await made.walk(path, uid)
                try:
                    found: object = await made.lookup.access(node, mode, made.caller(uid))
                except pyfuse3.FUSEError as error:
                    found = error.errno
                assert found == answer, uid
                assert found is not errno.EACCES or made.sink.events[-1].operation == "access"

    run()


@on_trio
async def test_a_change_before_a_directory_is_watched_is_in_the_reply(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with parts(store, engine_of(OPEN)) as made:
        learned = made.resolver._on_open

        def late(node: Node, fd: int) -> None:
            os.utime(store / "d", ns=(5, 5))
            learned(node, fd)

        monkeypatch.setattr(made.resolver, "_on_open", late)
        assert (await look_up(made, "d", CAMERA)).st_mtime_ns == 5

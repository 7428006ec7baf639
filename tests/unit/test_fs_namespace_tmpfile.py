"""Files without a name: created and named under the same rights as any file there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.fs.inodes.handles import Handle
from policyfs.store.locking.leases import LeaseKeeper
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, between, errno_of

RULES = """\
- {id: own, allow: [all], who: {app: camera}, paths: "/**"}
- {id: look, allow: [see, read, write], who: {app: maps}, paths: "/**"}
- {id: named, allow: [all], who: {app: gallery}, paths: "/in/*.jpg"}
- {id: in, allow: [see], who: {app: gallery}, paths: "/in"}
"""
FLAGS = os.O_RDWR | os.O_TMPFILE


async def opened(made: Parts, uid: int = CAMERA, path: str = "/") -> Handle:
    parent = made.root if path == "/" else await made.walk(path, uid)
    handle, entry = await made.tmpfiles.open(parent, 0o600, FLAGS, made.caller(uid))
    assert entry.st_nlink == 0
    return handle


@on_trio
async def test_it_is_written_and_named_and_is_its_makers(store: Path) -> None:
    before = sorted(os.listdir(store))
    with parts(store, engine_of(RULES)) as made:
        handle = await opened(made)
        assert sorted(os.listdir(store)) == before
        await made.write(handle, 0, PHOTO)
        entry = await made.linker.link(handle.node, made.root, b"new.jpg", made.caller(CAMERA))
        assert (entry.st_nlink, (store / "new.jpg").read_bytes()) == (1, PHOTO)
        fd = os.open(store / "new.jpg", os.O_RDONLY)
        assert made.owners.get(fd, made.tree.fstat(fd)) == "camera"
        os.close(fd)
        await made.release(handle)
        assert [(e.operation, e.path) for e in made.sink.events if e.operation != "lookup"][:2] == [
            ("create", b"/#unnamed"), ("link", b"/#unnamed")
        ]  # fmt: skip


@pytest.mark.parametrize(("uid", "path"), [(MAPS, "/"), (GALLERY, "/in"), (4242, "/")])
def test_who_may_not_create_a_file_there_gets_none(store: Path, uid: int, path: str) -> None:
    """A rule for names that end in .jpg does not match a file without a name."""
    (store / "in").mkdir()

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(RULES)) as made:
            parent = made.root if path == "/" else await made.walk(path, CAMERA)
            request = made.tmpfiles.open(parent, 0o600, FLAGS, made.caller(uid))
            assert await errno_of(request) in {errno.EACCES, errno.ENOENT}
            assert not len(made.handles)

    run()


@on_trio
async def test_a_directory_that_is_moved_while_the_file_is_sniffed_has_other_rules(store: Path) -> None:
    (store / "in").mkdir()
    more = """\
- {id: films, deny: [delete], paths: "/***", when: {type: "video/*"}}
- {id: closed, deny: [create], who: {app: camera}, paths: "/closed/***"}
"""
    with parts(store, engine_of(RULES + more)) as made:
        handle = await opened(made)
        await made.write(handle, 0, PHOTO)
        to = await made.walk("/in", CAMERA)

        async def move() -> None:
            os.rename(store / "in", store / "closed")
            await made.walk("/closed", MAPS)  # from here on the daemon knows the new path

        linked = made.tmpfiles.link(handle.node, to, b"b.jpg", made.caller(CAMERA))
        assert await between(made, linked, move) == errno.ESTALE
        assert os.listdir(store / "closed") == []
        await made.release(handle)


@on_trio
async def test_a_name_needs_the_rights_of_a_creation_there(store: Path) -> None:
    (store / "in").mkdir()
    with parts(store, engine_of(RULES)) as made:
        handle = await opened(made)
        to = await made.walk("/in", CAMERA)
        for uid in (MAPS, 4242):
            request = made.tmpfiles.link(handle.node, to, b"x", made.caller(uid))
            assert await errno_of(request) != 0
        assert await errno_of(made.tmpfiles.link(handle.node, to, b"n" * 256, made.caller(CAMERA))) != 0
        assert os.listdir(store / "in") == []
        await made.release(handle)


KINDS = """\
- {id: work, allow: [all], who: {app: any}, paths: "/work/**"}
- {id: way, allow: [see], who: {app: any}, paths: "/photos/***"}
- {id: photos, allow: [all], who: {app: any}, paths: "/photos/**", when: {type: image/jpeg}}
"""


@pytest.mark.alone  # a lease keeper comes before all threads
def test_its_kind_counts_only_when_nobody_can_change_it(store: Path, keeper: LeaseKeeper) -> None:
    for name in ("work", "photos"):
        (store / name).mkdir()

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(KINDS), keeper=keeper) as made:
            work, photos = await made.walk("/work", CAMERA), await made.walk("/photos", CAMERA)
            caller = made.caller(CAMERA)
            handle, _ = await made.tmpfiles.open(work, 0o644, FLAGS, caller)
            await made.write(handle, 0, PHOTO)
            reader = await made.opener.open(handle.node, os.O_RDONLY, caller)
            assert await errno_of(made.linker.link(handle.node, photos, b"a.jpg", caller)) == errno.EACCES
            assert (made.sink.events[-1].decision, made.sink.events[-1].operation) == ("deny", "link")
            await made.release(handle)
            assert await errno_of(made.linker.link(handle.node, photos, b"a.jpg", caller)) == 0
            assert (store / "photos/a.jpg").read_bytes() == PHOTO
            await made.release(reader)

    run()


@on_trio
async def test_where_it_would_be_checked_otherwise_it_gets_no_name(store: Path) -> None:
    (store / "in").mkdir()
    typed = OPEN + '- {id: types, require: {content: [image/jpeg]}, paths: "/in/**"}\n'
    with parts(store, engine_of(typed)) as made:
        handle = await opened(made)
        await made.write(handle, 0, b"words, no photo")
        to = await made.walk("/in", CAMERA)
        assert await errno_of(made.tmpfiles.link(handle.node, to, b"x", made.caller(CAMERA))) == errno.EXDEV
        assert os.listdir(store / "in") == []
        denied = made.sink.events[-1]
        assert (denied.decision, "; copy the file instead" in denied.note) == ("deny", True)
        await made.release(handle)


@on_trio
async def test_a_creation_that_cannot_be_recorded_leaves_nothing_open(store: Path) -> None:
    with parts(store, engine_of(OPEN.replace("}\n", ", audit: required}\n"))) as made:
        made.sink.broken = True
        before, nodes = set(os.listdir("/proc/self/fd")), len(made.nodes)
        request = made.tmpfiles.open(made.root, 0o600, FLAGS, made.caller(CAMERA))
        assert await errno_of(request) == errno.EIO
        assert set(os.listdir("/proc/self/fd")) == before
        assert (len(made.nodes), len(made.handles)) == (nodes, 0)

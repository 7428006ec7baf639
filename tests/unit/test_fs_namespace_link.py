"""Hard links: decided for every name of the file, and for the new one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.fs.path_bounds import KEPT_NAMES
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, REDACTED, TYPES, between, errno_of

HIDDEN = """\
- {id: own, allow: [all], who: {app: camera}, paths: "/**"}
- {id: some, allow: [all], who: {app: maps}, paths: "/**"}
- {id: hide, deny: [see], who: {app: maps}, paths: "/secret/**", errno: ENOENT}
- {id: read, deny: [write], who: {app: maps}, paths: "/fixed/**"}
"""


@on_trio
async def test_a_link_is_one_more_name_of_the_same_file(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        entry = await made.linker.link(node, made.root, b"b.jpg", made.caller(CAMERA))
        assert entry.st_ino == node.nodeid
        assert entry.st_nlink == 2
        assert (store / "a.jpg").samefile(store / "b.jpg")
        assert await made.walk("/b.jpg", CAMERA) is node
        event = next(event for event in made.sink.events if event.operation == "link")
        assert (event.path, event.new_path) == (b"/a.jpg", b"/b.jpg")


@on_trio
async def test_what_has_no_second_name_and_names_that_are_taken(store: Path) -> None:
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        node, directory = await made.walk("/a.jpg", CAMERA), await made.walk("/d", CAMERA)
        caller = made.caller(CAMERA)
        assert await errno_of(made.linker.link(directory, made.root, b"e", caller)) == errno.EPERM
        assert await errno_of(made.linker.link(node, made.root, b"empty", caller)) == errno.EEXIST
        assert await errno_of(made.linker.link(node, made.root, b"n" * 256, caller)) == errno.ENAMETOOLONG
        assert os.stat(store / "a.jpg").st_nlink == 1


@on_trio
async def test_no_right_is_gained_by_a_name_elsewhere(store: Path) -> None:
    (store / "fixed").mkdir()
    (store / "fixed/f").write_bytes(b"words")
    (store / "free").mkdir()
    with parts(store, engine_of(HIDDEN)) as made:
        node, free = await made.walk("/fixed/f", MAPS), await made.walk("/free", MAPS)
        code = await errno_of(made.linker.link(node, free, b"f", made.caller(MAPS)))
        assert code in {errno.EACCES, errno.EXDEV}
        assert not (store / "free/f").exists()
        own, node = made.caller(CAMERA), await made.walk("/fixed/f", CAMERA)
        assert await errno_of(made.linker.link(node, free, b"f", own)) == errno.EXDEV, "maps would gain it"
        assert not (store / "free/f").exists()
        fixed = await made.walk("/fixed", CAMERA)
        await made.linker.link(node, fixed, b"g", own)
        assert (store / "fixed/g").exists()


@on_trio
async def test_a_hidden_name_of_the_file_decides_too(store: Path) -> None:
    (store / "secret").mkdir()
    os.link(store / "a.jpg", store / "secret/s.jpg")
    with parts(store, engine_of(HIDDEN)) as made:
        node = await made.walk("/secret/s.jpg", CAMERA)
        assert await errno_of(made.linker.link(node, made.root, b"b.jpg", made.caller(MAPS))) != 0
        assert not (store / "b.jpg").exists()


@on_trio
async def test_no_link_into_what_is_hidden(store: Path) -> None:
    (store / "secret").mkdir()
    with parts(store, engine_of(HIDDEN)) as made:
        node, secret = await made.walk("/a.jpg", MAPS), await made.walk("/secret", MAPS)
        assert await errno_of(made.linker.link(node, secret, b"s.jpg", made.caller(MAPS))) != 0
        assert list((store / "secret").iterdir()) == []
        assert await errno_of(made.linker.link(node, made.root, b"b.jpg", made.caller(GALLERY))) != 0
        assert not (store / "b.jpg").exists()


@on_trio
async def test_a_file_that_another_replaced_is_looked_up_again(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        (store / "other").write_bytes(b"other")
        (store / "other").rename(store / "a.jpg")
        assert (
            await errno_of(made.linker.link(node, made.root, b"b.jpg", made.caller(CAMERA))) == errno.ESTALE
        )
        assert not (store / "b.jpg").exists()


@on_trio
async def test_a_policy_that_comes_while_the_file_is_sniffed_decides(store: Path) -> None:
    (store / "in").mkdir()
    typed = OPEN + '- {id: types, require: {content: [image/jpeg]}, paths: "/in/**"}\n'
    with parts(store, engine_of(typed)) as made:
        node, to = await made.walk("/a.jpg", CAMERA), await made.walk("/in", CAMERA)
        denied = engine_of(OPEN + '- {id: no, deny: [create], paths: "/in/**", errno: EACCES}\n')

        async def reload() -> None:
            made.reload(denied)

        linked = made.linker.link(node, to, b"b.jpg", made.caller(CAMERA))
        assert await between(made, linked, reload) != 0
        assert os.listdir(store / "in") == []


@on_trio
async def test_a_directory_that_is_moved_while_the_file_is_sniffed_has_other_rules(store: Path) -> None:
    (store / "in").mkdir()
    typed = OPEN + '- {id: films, deny: [write], paths: "/***", when: {type: "video/*"}}\n'
    closed = '- {id: closed, deny: [create], who: {app: camera}, paths: "/closed/***"}\n'
    with parts(store, engine_of(typed + closed)) as made:
        node, to = await made.walk("/a.jpg", CAMERA), await made.walk("/in", CAMERA)

        async def move() -> None:
            os.rename(store / "in", store / "closed")
            await made.walk("/closed", MAPS)  # from here on the daemon knows the new path

        linked = made.linker.link(node, to, b"b.jpg", made.caller(CAMERA))
        assert await between(made, linked, move) == errno.ESTALE
        assert os.listdir(store / "closed") == []


@on_trio
async def test_a_link_keeps_the_owner(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"own.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        await made.release(handle)
        node = await made.walk("/own.jpg", CAMERA)
        await made.linker.link(node, made.root, b"b.jpg", made.caller(CAMERA))
        fd = os.open(store / "b.jpg", os.O_RDONLY)
        assert made.owners.get(fd, made.tree.fstat(fd)) == "camera"
        os.close(fd)


@on_trio
async def test_a_new_file_has_no_more_names_than_a_refusal_can_remove(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        caller = made.caller(CAMERA)
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, caller)

        async def link(number: int) -> int:
            return await errno_of(made.linker.link(handle.node, made.root, b"name%d" % number, caller))

        assert {await link(number) for number in range(1, KEPT_NAMES)} == {0}
        assert await link(KEPT_NAMES) == errno.EMLINK
        assert os.fstat(handle.fd).st_nlink == KEPT_NAMES
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM
        await made.release(handle)
        assert sorted(os.listdir(store)) == ["a.jpg", "empty"]


@on_trio
async def test_it_may_have_more_once_its_content_is_accepted(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        caller = made.caller(CAMERA)
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, caller)
        await made.write(handle, 0, PHOTO)
        for number in range(KEPT_NAMES + 1):
            await made.linker.link(handle.node, made.root, b"name%d" % number, caller)
        assert os.fstat(handle.fd).st_nlink == KEPT_NAMES + 2
        await made.release(handle)


@on_trio
async def test_a_new_file_gets_no_name_from_a_daemon_that_would_not_remove_it(
    store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine, latches = engine_of(OPEN + TYPES), tmp_path_factory.mktemp("run") / "lock"
    with parts(store, engine, latches=latches) as here, parts(store, engine, latches=latches) as there:
        handle, _ = await here.creator.create(here.root, b"new", 0o644, os.O_RDWR, here.caller(CAMERA))
        await here.write(handle, 0, PHOTO[:2])

        async def link() -> int:
            node = await there.walk("/new", CAMERA)
            return await errno_of(there.linker.link(node, there.root, b"name", there.caller(CAMERA)))

        assert await link() == errno.EBUSY
        await here.write(handle, 2, PHOTO[2:])
        assert await link() == 0
        await here.release(handle)
        assert (store / "name").read_bytes() == PHOTO

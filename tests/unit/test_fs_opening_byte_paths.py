"""The bytes that an app gets: the store's, held ones, a draft's, or a redacted copy's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.fs.inodes.handles import Handle
from policyfs.fs.inodes.node import BytePath
from policyfs.fs.redacted import patching
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import locate
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, REDACTED, TYPES, errno_of
from tests.support.samples import jpegs, pngs

CLEAN = OPEN + '- {id: clean, require: {clean: [location]}, paths: "/**"}\n'
NO = OPEN + '- {id: no, require: {no: [location]}, paths: "/**"}\n'
CLEANED = apply(PHOTO, locate("image/jpeg", frozenset({"location"}), MemorySource(PHOTO)).patches)


async def created(made: Parts, name: bytes, uid: int = CAMERA) -> Handle:
    handle, _ = await made.creator.create(made.root, name, 0o644, os.O_RDWR, made.caller(uid))
    return handle


async def all_of(made: Parts, handle: Handle) -> bytes:
    return bytes(await made.reader.read(handle, 0, 1 << 20))


@on_trio
async def test_the_stores_bytes_and_their_parts(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDONLY, GALLERY)
        assert handle.node.byte_path is BytePath.RAW
        stored = (store / "a.jpg").read_bytes()
        assert await made.reader.read(handle, 5, 20) == stored[5:25]
        assert await made.reader.read(handle, len(stored), 20) == b""


@on_trio
async def test_held_bytes_are_read_before_the_store_has_them(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle = await created(made, b"new.jpg")
        assert await made.write(handle, 0, PHOTO[:1]) == 1  # it may become a JPEG
        assert (await all_of(made, handle), (store / "new.jpg").read_bytes()) == (PHOTO[:1], b"")
        assert await made.reader.read(handle, 1, 10) == b""
        assert await made.write(handle, 1, PHOTO[1:]) == len(PHOTO) - 1
        await made.sync.flush(handle)
        assert await all_of(made, handle) == PHOTO == (store / "new.jpg").read_bytes()


@on_trio
async def test_a_draft_is_read_as_written_until_a_cleaned_version_is_stored(store: Path) -> None:
    assert CLEANED != PHOTO
    with parts(store, engine_of(CLEAN)) as made:
        handle = await created(made, b"new.jpg")
        await made.write(handle, 0, PHOTO)
        reader = await made.open("/new.jpg", os.O_RDONLY, CAMERA)
        assert await all_of(made, reader) == await all_of(made, handle) == PHOTO
        await made.sync.flush(handle)
        assert (store / "new.jpg").read_bytes() == CLEANED
        assert await all_of(made, reader) == await all_of(made, handle) == CLEANED
        await made.write(handle, len(PHOTO), b"more")
        assert await all_of(made, reader) == PHOTO + b"more", "the writer goes on with what it wrote"
        await made.release(handle)
        assert (await all_of(made, reader))[: len(PHOTO)] == CLEANED


@pytest.mark.parametrize("rules", [NO, CLEAN], ids=["no", "clean"])
@on_trio
async def test_a_draft_in_which_nothing_was_found_is_read_as_stored(store: Path, rules: str) -> None:
    with parts(store, engine_of(rules)) as made:
        handle = await created(made, b"new.jpg")
        await made.write(handle, 0, jpegs.plain())
        await made.sync.flush(handle)
        assert await all_of(made, handle) == jpegs.plain() == (store / "new.jpg").read_bytes()


@on_trio
async def test_a_refused_draft_is_read_by_its_writer(store: Path) -> None:
    """It may still mend it."""
    with parts(store, engine_of(NO)) as made:
        handle = await created(made, b"new.jpg")
        await made.write(handle, 0, PHOTO)
        assert await errno_of(made.sync.flush(handle)) == errno.EPERM
        assert (await all_of(made, handle), (store / "new.jpg").read_bytes()) == (PHOTO, b"")


@on_trio
async def test_an_own_file_is_read_as_it_is_until_another_app_has_written_it(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        mine = await created(made, b"own.jpg")
        await made.write(mine, 0, PHOTO)
        assert mine.node.byte_path is BytePath.LIVE
        assert await all_of(made, mine) == PHOTO
        made.owners.set(mine.fd, made.tree.fstat(mine.fd), "maps")
        assert await all_of(made, mine) == CLEANED


@on_trio
async def test_a_reload_while_a_copy_gets_many_patches_does_not_fail_a_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ESTALE the kernel opens again, but it never reads again."""
    with parts(store, engine_of(REDACTED)) as made:
        mine = await created(made, b"own.jpg")
        await made.write(mine, 0, PHOTO)
        made.owners.set(mine.fd, made.tree.fstat(mine.fd), "maps")
        in_slices, both = patching.in_slices, REDACTED.replace("location}, who", "[location, time]}, who")

        async def overtaken(go_on: Callable[[], bool]) -> None:
            monkeypatch.setattr(patching, "in_slices", in_slices)
            made.reload(engine_of(both))
            await in_slices(go_on)

        monkeypatch.setattr(patching, "AT_ONCE", 1)
        monkeypatch.setattr(patching, "in_slices", overtaken)
        assert both != REDACTED
        assert await all_of(made, mine) == apply(
            PHOTO, locate("image/jpeg", frozenset({"location", "time"}), MemorySource(PHOTO)).patches
        )


@on_trio
async def test_an_own_file_that_is_not_understood_is_refused_once_it_is_anothers(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        mine = await created(made, b"own.jpg")
        await made.write(mine, 0, b"\xff\xd8\xff half")
        assert await all_of(made, mine) == b"\xff\xd8\xff half"
        made.owners.set(mine.fd, made.tree.fstat(mine.fd), "maps")
        assert await errno_of(all_of(made, mine)) == errno.EACCES
        refused = [event for event in made.sink.events if event.decision == "deny"]
        assert [(event.operation, event.path) for event in refused] == [("read", b"/own.jpg")]


@on_trio
async def test_a_file_too_large_to_copy_is_not_read_once_it_is_anothers(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        mine = await created(made, b"own.jpg")
        await made.write(mine, 0, PHOTO)
        made.owners.set(mine.fd, made.tree.fstat(mine.fd), "maps")
        os.truncate(store / "own.jpg", 1 << 25)
        assert await errno_of(all_of(made, mine)) == errno.EBUSY


@on_trio
async def test_only_a_node_with_a_backing_id_is_opened_again_without_a_descriptor(store: Path) -> None:
    """Here there is no kernel that has one: each open has a descriptor of its own."""
    with parts(store, engine_of(REDACTED)) as made:
        for path, uid in (("/a.jpg", MAPS), ("/a.jpg", GALLERY)):
            handles = [await made.open(path, os.O_RDONLY, uid) for _ in range(2)]
            assert len({handle.fh for handle in handles}) == 2
            assert len({await all_of(made, handle) for handle in handles}) == 1


@on_trio
async def test_no_other_app_reads_what_a_reload_has_made_wait_for_its_check(store: Path) -> None:
    """Both have the raw file open; the rule that comes applies to the writer only."""
    later = OPEN + '- {id: no, require: {no: [location]}, who: {app: camera}, paths: "/**"}\n'
    with parts(store, engine_of(OPEN)) as made:
        before = (store / "empty").read_bytes()
        writer = await made.open("/empty", os.O_RDWR, CAMERA)
        assert writer.node.byte_path is BytePath.RAW
        made.reload(engine_of(later))
        assert await made.write(writer, 0, PHOTO) == len(PHOTO)
        assert await all_of(made, writer) == PHOTO
        reader = await made.open("/empty", os.O_RDONLY, GALLERY)
        assert (await all_of(made, reader), (store / "empty").read_bytes()) == (before, before)
        target = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        copied = made.ranges.copy(writer, 0, target, 0, 100)
        assert await errno_of(copied) == errno.EOPNOTSUPP


@on_trio
async def test_nor_once_its_writer_has_closed_the_file_if_another_goes_on(store: Path) -> None:
    """A refused draft stays as long as anybody may write the file."""
    later = OPEN + '- {id: no, require: {no: [location]}, who: {app: camera}, paths: "/**"}\n'
    with parts(store, engine_of(OPEN)) as made:
        before = (store / "empty").read_bytes()
        writer = await made.open("/empty", os.O_RDWR, CAMERA)
        other = await made.open("/empty", os.O_RDWR, GALLERY)
        assert other.node is writer.node
        made.reload(engine_of(later))
        await made.write(writer, 0, PHOTO)
        assert await errno_of(made.sync.flush(writer)) == errno.EPERM
        await made.release(writer)
        assert (await all_of(made, other), (store / "empty").read_bytes()) == (before, before)


@on_trio
async def test_nor_does_another_uid_of_an_app_if_rules_tell_its_uids_apart(store: Path) -> None:
    """An app mount that admits several uids; the rule that comes applies to one of them."""
    other = CAMERA + 5000
    later = OPEN + f'- {{id: no, require: {{no: [location]}}, who: {{uid: {CAMERA}}}, paths: "/**"}}\n'
    with parts(store, engine_of(OPEN), app="camera") as made:
        before = (store / "empty").read_bytes()
        writer = await made.open("/empty", os.O_RDWR, CAMERA)
        made.reload(engine_of(later))
        assert await made.write(writer, 0, PHOTO) == len(PHOTO)
        assert await all_of(made, writer) == PHOTO
        reader = await made.open("/empty", os.O_RDONLY, other)
        assert reader.node is writer.node
        assert await all_of(made, reader) == before


@pytest.mark.parametrize("rules", [REDACTED + NO.removeprefix(OPEN), NO, CLEAN], ids=["both", "no", "clean"])
@on_trio
async def test_nor_by_a_reload_that_tells_them_apart_while_both_have_a_live_file_open(
    store: Path, rules: str
) -> None:
    """The node still serves both. From the reload on, one of them may read no photo."""
    other = CAMERA + 5000
    later = f"- {{id: drawings, deny: [read], who: {{uid: {other}}}, unless: {{type: image/png}}}}\n"
    with parts(store, engine_of(rules), app="camera") as made:
        writer = await created(made, b"drawing")
        await made.write(writer, 0, pngs.plain())
        await made.sync.flush(writer)
        reader = await made.open("/drawing", os.O_RDONLY, other)
        assert reader.node is writer.node
        assert await all_of(made, reader) == pngs.plain()
        made.reload(engine_of(rules + later))
        assert await made.write(writer, 0, PHOTO) == len(PHOTO)
        seen = await all_of(made, reader)
        assert seen == (store / "drawing").read_bytes() == pngs.plain(), "what waits may be no drawing"
        assert await all_of(made, writer) == PHOTO


@pytest.mark.parametrize("rules", [OPEN + TYPES, NO], ids=["content", "no"])
@on_trio
async def test_a_refused_writer_does_not_remove_a_file_that_its_maker_only_reads(
    store: Path, rules: str
) -> None:
    """flock(1) makes its file with O_RDONLY. It has not been open for writing since."""
    with parts(store, engine_of(rules)) as made:
        lock, _ = await made.creator.create(made.root, b"lock.jpg", 0o644, os.O_RDONLY, made.caller(CAMERA))
        writer = await made.open("/lock.jpg", os.O_WRONLY, MAPS)
        await errno_of(made.write(writer, 0, b"1234\n" if rules != NO else PHOTO))
        await errno_of(made.sync.flush(writer))
        assert {event.errno for event in made.sink.events} >= {errno.EPERM}
        await made.release(writer)
        assert (store / "lock.jpg").read_bytes() == b""
        await made.release(lock)

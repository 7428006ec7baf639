"""Files that are checked as a whole before the store has them."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.checked import drafts
from policyfs.fs.checked.head import HEAD_BYTES
from policyfs.fs.inodes.pending_writes import Refusal
from policyfs.store import freeing
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    MAPS,
    OPEN,
    PHOTO,
    REDACTED,
    TYPES,
    append,
    between,
    errno_of,
)


@on_trio
async def test_a_writer_is_not_released_while_another_request_stores_a_draft_with_it(store: Path) -> None:
    photo = PHOTO + bytes(HEAD_BYTES)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        other = await made.open("/new", os.O_RDWR, MAPS)
        assert await made.write(handle, 100, photo[100:]) == len(photo) - 100
        assert await made.write(other, 0, photo[:100]) == 100
        moved = made.renamer.rename(made.root, b"new", made.root, b"a.jpg", 0, made.caller(MAPS))
        assert await between(made, moved, lambda: made.release(handle)) == 0
        assert (store / "a.jpg").read_bytes() == photo
        assert await errno_of(made.sync.flush(other)) == 0
        await made.release(other)
    assert (store / "a.jpg").read_bytes() == photo


@on_trio
async def test_blocks_in_any_order_by_several_writers_come_to_be_one_file(store: Path) -> None:
    """One writer begins a draft while another's first bytes are judged, and while a flush waits for them."""
    photo = PHOTO + bytes(3 * HEAD_BYTES)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        first, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        second = await made.open("/new", os.O_RDWR, MAPS)
        assert await made.write(first, 0, photo[:1]) == 1  # held: it may become a JPEG
        said: list[int] = []

        async def others() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.write, second, HEAD_BYTES, photo[HEAD_BYTES:])
                await trio.testing.wait_all_tasks_blocked()
                said.append(await errno_of(made.sync.flush(first)))

        assert await between(made, made.write(first, 1, photo[1:2]), others) == 0
        assert said == [errno.EPERM], "not all of its beginning is there"
        assert (store / "new").read_bytes() == b""
        assert await made.write(second, 0, photo[:HEAD_BYTES]) == HEAD_BYTES
        assert await errno_of(made.sync.flush(first)) == 0
        assert (store / "new").read_bytes() == photo
        for handle in (first, second):
            await made.release(handle)
    assert (store / "new").read_bytes() == photo


@on_trio
async def test_a_new_file_that_was_refused_goes_though_a_draft_began_for_nothing(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM
        assert await errno_of(made.writer.truncate(handle, 2**63 - 1)) == errno.EFBIG
        await made.sync.flush(handle)
        await made.release(handle)
    assert not (store / "new").exists()


@on_trio
async def test_what_a_session_has_made_is_not_the_next_ones_to_remove(store: Path) -> None:
    """A file that got a draft, and was accepted: who empties it and writes other content leaves its bytes."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        reader = await made.open("/new", os.O_RDONLY, MAPS)  # keeps the state of the node
        assert await made.write(handle, 100, PHOTO[100:]) == len(PHOTO) - 100
        assert await made.write(handle, 0, PHOTO[:100]) == 100
        await made.release(handle)
        assert (store / "new").read_bytes() == PHOTO
        handle = await made.open("/new", os.O_RDWR | os.O_TRUNC, MAPS)
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM
        await made.release(handle)
        assert (store / "new").read_bytes() == PHOTO
        await made.release(reader)


@on_trio
async def test_where_a_draft_finds_no_room_nothing_of_others_is_cut_off(store: Path, monkeypatch) -> None:
    """A program in the store appends to the file while room is reserved."""
    with parts(store, engine_of(DRAFTS)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        await made.sync.flush(handle)
        await made.write(handle, len(PHOTO), bytes(100))

        def no_room(fd: int, *arguments: int) -> None:
            append(store / "new.jpg", b"of others")
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(drafts.ranges, "allocate", no_room)
        assert await errno_of(made.sync.flush(handle)) == errno.ENOSPC
        assert (store / "new.jpg").read_bytes() == PHOTO + b"of others"
        monkeypatch.undo()
        await made.release(handle)


DRAFTS = REDACTED + '- {id: share, require: {no: [people]}, who: {app: camera}, paths: "/**"}\n'


@on_trio
async def test_a_draft_is_not_begun_with_what_another_app_writes_meanwhile(store: Path, monkeypatch) -> None:
    """While the file is copied into the draft its owner changes: nothing of it is read back."""
    with parts(store, engine_of(DRAFTS)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        await made.release(handle)
        mine = await made.open("/new.jpg", os.O_RDWR, CAMERA)
        copy_all = drafts.ranges.copy_all

        def copied(source: int, target: int, size: int) -> None:
            trio.from_thread.run(made.open, "/new.jpg", os.O_WRONLY, MAPS)
            copy_all(source, target, size)

        monkeypatch.setattr(drafts.ranges, "copy_all", copied)
        assert await errno_of(made.write(mine, 100, b"x")) == errno.EACCES
        assert mine.node.open.draft is None


@on_trio
async def test_a_file_that_somebody_has_emptied_stays_empty(store: Path) -> None:
    """The draft began as a copy of the whole file: it would bring back what was to go."""
    with parts(store, engine_of(OPEN + "- {id: no, require: {no: [people]}, paths: '/**'}\n")) as made:
        writer = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        assert await made.write(writer, len(PHOTO), bytes(10)) == 10
        os.truncate(store / "a.jpg", 0)
        assert await errno_of(made.sync.flush(writer)) == errno.EBUSY
        await made.release(writer)
    assert (store / "a.jpg").read_bytes() == b""


@on_trio
async def test_an_error_in_the_daemon_at_the_last_release_loses_no_bytes(store: Path, monkeypatch) -> None:
    """The error was swallowed: the draft went without a word, and the new file with it."""

    async def fails(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with parts(store, engine_of(DRAFTS)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        monkeypatch.setattr(drafts.Drafts, "settle", fails)
        with pytest.raises(RuntimeError, match="new thread"):
            await made.release(handle)
        waiting = made.whole.quarantine.stats().waiting
        assert (waiting, (store / "new.jpg").exists()) == (1, True)


@on_trio
async def test_a_draft_that_the_quarantine_keeps_is_not_called_dropped(store: Path, monkeypatch) -> None:
    """It was refused, a reload came, and then the disk was full."""

    async def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with parts(store, engine_of(DRAFTS)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, b"words")
        assert handle.node.open is not None
        draft = handle.node.open.draft
        assert draft is not None
        draft.refusal = Refusal(None, "refused before the reload", (), True, -1)
        monkeypatch.setattr(drafts.Drafts, "settle", full)
        await made.release(handle)
        assert made.whole.quarantine.stats().waiting == 1
        assert not any("dropped" in event.note for event in made.sink.events)


@on_trio
async def test_a_large_draft_is_cut_on_a_thread(store: Path, monkeypatch) -> None:
    """The kernel frees its bytes in that call: on the loop, all other requests would wait."""
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4095)
    on_loop: list[tuple[int, bool]] = []
    ftruncate = os.ftruncate

    def noted(fd: int, size: int) -> None:
        on_loop.append((size, threading.current_thread() is threading.main_thread()))
        ftruncate(fd, size)

    with parts(store, engine_of(DRAFTS)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO + bytes(64 * 1024))
        monkeypatch.setattr(os, "ftruncate", noted)
        await made.writer.truncate(handle, 50_000)
        await made.writer.truncate(handle, 60_000)
        other = await made.open("/new.jpg", os.O_WRONLY | os.O_TRUNC, CAMERA)
        assert on_loop == [(50_000, False), (60_000, True), (0, False)]
        await made.write(other, 0, PHOTO)
        assert await errno_of(made.sync.flush(other)) == 0
        for each in (handle, other):
            await made.release(each)
    assert (store / "new.jpg").read_bytes() == PHOTO


@on_trio
async def test_a_draft_counts_as_a_descriptor_of_its_app_until_it_ends(store: Path) -> None:
    """However it ends, and if it cannot begin: stored, refused, in place of an outdated one."""
    with parts(store, engine_of(DRAFTS)) as made:
        held = made.handles.descriptors
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        assert held.used == 1
        for number in range(2):
            await made.write(handle, 0, PHOTO)
            assert held.used == 2
            await made.sync.flush(handle)
            assert held.used == 2
            os.utime(store / "new.jpg", (5, number))
        held.take("camera", held.limit)
        assert await errno_of(made.write(handle, 0, PHOTO)) == errno.EMFILE
        held.give("camera", held.limit)
        assert held.used == 1
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        os.utime(store / "new.jpg", (5, 5))
        assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
        await made.release(handle)
        assert held.used == 0


NO = OPEN + "- {id: no, require: {no: [location]}, on_refused: quarantine, paths: '/**'}\n"


@on_trio
async def test_a_change_that_fails_is_none(store: Path) -> None:
    """The photo is another program's: a close judges it only after a change."""
    (store / "a.jpg").write_bytes(PHOTO)
    with parts(store, engine_of(NO)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        assert await errno_of(made.ranges.allocate(handle, 0, 1 << 50, 4096)) == errno.EFBIG
        assert await errno_of(made.write(handle, (1 << 63) - 5000, b"x")) == errno.EFBIG
        assert await errno_of(made.sync.flush(handle)) == 0
        await made.release(handle)
    assert (store / "a.jpg").read_bytes() == PHOTO


@on_trio
async def test_a_file_that_was_emptied_after_a_refusal_goes_to_no_quarantine(store: Path) -> None:
    """The refused bytes are gone. An empty file there would be no use."""
    before = (store / "a.jpg").read_bytes()
    with parts(store, engine_of(NO)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        await made.write(handle, 0, PHOTO)
        assert await errno_of(made.sync.flush(handle)) == errno.EPERM
        await made.writer.truncate(handle, 0)
        assert await errno_of(made.sync.flush(handle)) == errno.EPERM
        await made.release(handle)
        assert made.whole.quarantine.stats().waiting == 0
    assert (store / "a.jpg").read_bytes() == before

"""Rule 5: an app under redaction changes a part of a file only if all of it is its own."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.inodes.handles import Handle
from policyfs.store import ranges
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    GALLERY,
    MAPS,
    OPEN,
    PHOTO,
    REDACTED,
    TYPES,
    between,
    errno_of,
    sizes_after_steps,
)
from tests.support.samples import jpegs


@on_trio
async def test_who_loses_a_file_while_it_is_open_loses_the_right_to_change_parts_of_it(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        own = await made.open("/new.jpg", os.O_RDWR, CAMERA)  # as its owner, without emptying it
        other = await made.open("/new.jpg", os.O_RDWR | os.O_TRUNC, MAPS)
        await made.write(other, 0, PHOTO)
        for mine in (handle, own):
            assert await errno_of(made.write(mine, 0, b"words")) == errno.EACCES
            assert await errno_of(made.writer.truncate(mine, 100)) == errno.EACCES
        await made.release(other)
        assert await errno_of(made.write(own, 0, b"words")) == errno.EACCES
        await made.writer.truncate(own, 0)  # this is allowed to whoever may write
        await made.write(own, 0, b"words")
    assert (store / "new.jpg").read_bytes() == b"words"


@on_trio
async def test_who_owns_a_file_changes_parts_of_it_also_where_it_is_redacted_for_its_owner(
    store: Path,
) -> None:
    with parts(store, engine_of(REDACTED.replace(", unless: {owner: self}", ""))) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        await made.release(handle)
        for flags in (os.O_RDWR, os.O_RDWR | os.O_TRUNC):
            own = await made.open("/new.jpg", flags, CAMERA)
            assert await made.write(own, 0, PHOTO) == len(PHOTO)
            assert await made.write(own, 100, b"words") == 5
            other = await made.open("/new.jpg", os.O_RDWR | os.O_TRUNC, MAPS)
            assert await errno_of(made.write(own, 0, b"words")) == errno.EACCES, "it is not its own any more"
            await made.release(other)
            await made.release(own)
            (store / "new.jpg").unlink()
            handle, _ = await made.creator.create(
                made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA)
            )
            await made.write(handle, 0, PHOTO)
            await made.release(handle)


@on_trio
async def test_a_large_write_too_goes_by_who_owns_the_file_when_it_is_made(store: Path) -> None:
    """Nothing comes between the look at the owner and the write: no other task runs there."""
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        with sizes_after_steps(store / "new.jpg") as seen:
            assert await made.write(handle, 0, PHOTO + bytes(200_000)) == len(PHOTO) + 200_000
        assert seen == []
        await made.release(handle)


@on_trio
async def test_a_page_that_waits_to_be_written_back_goes_by_what_the_file_is_then(store: Path) -> None:
    """A write-back waits for the node's lock; what comes into the file meanwhile is not the app's own."""
    with parts(store, engine_of(REDACTED.replace(", unless: {owner: self}", ""))) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO)
        assert handle.node.open is not None
        errors = []

        async def back() -> None:
            page = made.writer.write(handle, 0, b"p" * 100, append=False, kill_priv=False, back=True)
            errors.append(await errno_of(page))

        async with trio.open_nursery() as nursery, handle.node.open.lock:
            nursery.start_soon(back)
            await trio.testing.wait_all_tasks_blocked()
            (store / "new.jpg").write_bytes(PHOTO[::-1])
        assert errors == [errno.EACCES]
        assert (store / "new.jpg").read_bytes() == PHOTO[::-1]
        await made.release(handle)


@on_trio
async def test_held_bytes_do_not_go_over_what_another_app_wrote(store: Path) -> None:
    with parts(store, engine_of(REDACTED + TYPES)) as made:
        mine = await made.open("/empty", os.O_RDWR, GALLERY)
        assert await made.write(mine, 0, b"\xff\xd8") == 2  # held: it may become a JPEG
        (store / "empty").write_bytes(PHOTO)
        assert await errno_of(made.sync.flush(mine)) == errno.EACCES
        await made.release(mine)
    assert (store / "empty").read_bytes() == PHOTO


@on_trio
async def test_what_is_written_while_a_write_is_judged_is_not_the_writers_own(store: Path) -> None:
    with parts(store, engine_of(REDACTED + TYPES)) as made:
        mine = await made.open("/empty", os.O_RDWR, GALLERY)
        await made.write(mine, 0, jpegs.plain(1, 64))

        async def other() -> None:
            (store / "empty").write_bytes(PHOTO)

        assert await between(made, made.write(mine, 10, b"x"), other) == errno.EACCES
        await made.release(mine)
    assert (store / "empty").read_bytes() == PHOTO


@on_trio
async def test_while_another_view_is_written_nothing_in_the_file_counts_as_ones_own(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        mine = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, GALLERY)
        other = await made.open("/a.jpg", os.O_RDWR, MAPS)
        assert await errno_of(made.write(mine, 0, b"words")) == errno.EACCES
        await made.release(other)
        assert await made.write(mine, 0, b"words") == 5
    assert (store / "a.jpg").read_bytes() == b"words"


@on_trio
async def test_other_apps_nodes_hear_of_each_change_and_its_own_does_not(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        mine = await made.open("/empty", os.O_RDWR, MAPS)
        other = await made.walk("/empty", GALLERY)
        other.lookups = 1
        assert other is not mine.node
        del made.notes.pages[:]
        await made.write(mine, 0, b"words")
        assert made.notes.pages == [other.nodeid]
        other.lookups = 0  # the kernel has forgotten it
        await made.write(mine, 0, b"words")
        assert made.notes.pages == [other.nodeid]
        await made.release(mine)


@on_trio
async def test_a_refusal_is_on_record_with_what_the_app_must_do(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        mine = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, GALLERY)
        (store / "a.jpg").write_bytes(PHOTO)
        assert await errno_of(made.write(mine, 1, b"x")) == errno.EACCES
        told = made.sink.events[-1]
        assert (told.errno, told.path) == (errno.EACCES, b"/a.jpg")
        assert "the app must empty the file first (O_TRUNC)" in told.note
        await made.release(mine)


@on_trio
async def test_emptying_counts_only_for_an_app_from_which_something_may_be_hidden(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        raw = await made.open("/a.jpg", os.O_RDWR, MAPS)
        await made.writer.truncate(raw, 0)
        assert not raw.emptied
        made.reload(engine_of(REDACTED + "\n"))
        await made.writer.truncate(raw, 0)
        assert raw.emptied, "the policy that came since may hide something"
        await made.release(raw)


@on_trio
async def test_nobody_comes_between_the_check_and_a_write_that_a_reload_has_made_subject_to_it(
    store: Path,
) -> None:
    """The handle is from before; then a policy comes that hides words from whoever is not the owner."""
    with parts(store, engine_of(OPEN)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        made.reload(engine_of(REDACTED))
        with sizes_after_steps(store / "new.jpg") as seen:
            await made.write(handle, 0, bytes(200_000))
        assert seen == []
        await made.release(handle)


@on_trio
@pytest.mark.parametrize(("app", "answer"), [(MAPS, 0), (GALLERY, errno.EACCES)])
async def test_after_a_reload_it_matters_from_whom_something_is_hidden(
    store: Path, app: int, answer: int
) -> None:
    (store / "from").write_bytes(b"words")
    with parts(store, engine_of(OPEN)) as made:
        handle, source = await made.open("/a.jpg", os.O_RDWR, app), await made.open("/from", os.O_RDONLY, app)
        assert await made.ranges.copy(source, 0, handle, 0, 5) == 5
        made.reload(engine_of(REDACTED))
        assert await errno_of(made.write(handle, 1, b"x")) == answer
        assert await errno_of(made.writer.copy_into(handle, source.fd, 0, 0, 5)) == answer
        await made.release(source)
        await made.release(handle)


HIDDEN = OPEN + "- {id: hide, require: {redact: location}, who: {app: gallery}, unless: {owner: self}}\n"


@on_trio
@pytest.mark.parametrize("rule", ["no: [location]", "clean: [location]"])
async def test_a_close_that_stores_nothing_makes_no_other_apps_bytes_ones_own(store: Path, rule: str) -> None:
    """The app emptied the file, and closes copies of its descriptor while another app saves a photo there."""
    rules = f"- {{id: check, require: {{{rule}}}, who: {{app: gallery}}, paths: '/**'}}\n"
    with parts(store, engine_of(HIDDEN + rules)) as made:
        mine = await made.open("/empty", os.O_RDWR | os.O_TRUNC, GALLERY)
        await made.write(mine, 0, jpegs.plain(1, 64))
        assert await errno_of(made.sync.flush(mine)) == 0
        await made.write(mine, 0, jpegs.plain(1, 64))  # a file that is all one's own is written on
        assert await errno_of(made.sync.flush(mine)) == 0
        other = await made.open("/empty", os.O_WRONLY | os.O_TRUNC, MAPS)
        await made.write(other, 0, PHOTO)
        await made.release(other)
        assert await errno_of(made.sync.flush(mine)) == 0
        assert await errno_of(made.write(mine, 0, b"x")) == errno.EACCES
        await made.release(mine)
    assert (store / "empty").read_bytes() == PHOTO


JPEG_ONLY = HIDDEN + "- {id: types, require: {content: [image/jpeg]}, who: {app: gallery}, paths: '/**'}\n"


@on_trio
async def test_a_change_of_held_bytes_makes_no_other_apps_bytes_ones_own(store: Path) -> None:
    """Another app writes the file while a worker finds the kind of the held bytes."""
    with parts(store, engine_of(JPEG_ONLY)) as made:
        mine = await made.open("/empty", os.O_RDWR | os.O_TRUNC, GALLERY)
        assert await made.write(mine, 0, b"\xff") == 1  # held: it may become a JPEG

        async def other() -> None:
            theirs = await made.open("/empty", os.O_WRONLY, MAPS)
            await made.write(theirs, 0, PHOTO)
            await made.release(theirs)

        assert await between(made, made.write(mine, 1, b"\xd8"), other) == 0
        assert await errno_of(made.sync.flush(mine)) == errno.EACCES
        assert await errno_of(made.write(mine, 0, b"x")) == errno.EACCES
        await made.release(mine)
    assert (store / "empty").read_bytes() == PHOTO


@on_trio
async def test_what_comes_right_after_a_truncation_is_not_ones_own(store: Path, monkeypatch) -> None:
    with parts(store, engine_of(JPEG_ONLY)) as made:
        mine = await made.open("/empty", os.O_RDWR | os.O_TRUNC, GALLERY)
        await made.write(mine, 0, jpegs.plain(1, 64))
        in_thread = ChangeLock.in_thread

        async def followed(self, *change):
            done = await in_thread(self, *change)
            (store / "empty").write_bytes(PHOTO)
            return done

        with monkeypatch.context() as patch:
            patch.setattr(ChangeLock, "in_thread", followed)
            await made.writer.truncate(mine, 0, by_path=True)
        assert await errno_of(made.write(mine, 1, b"x")) == errno.EACCES
        await made.writer.truncate(mine, 0)
        assert await made.write(mine, 0, jpegs.plain(1, 64)) == len(jpegs.plain(1, 64))
        assert await made.write(mine, 1, jpegs.plain(1, 64)[1:]) == len(jpegs.plain(1, 64)) - 1
        await made.release(mine)
    assert (store / "empty").read_bytes() == jpegs.plain(1, 64)


@on_trio
async def test_a_file_that_another_program_emptied_has_nobodys_bytes(store: Path) -> None:
    """The app's first byte is held, and the store's file is empty: what it writes is all its own."""
    with parts(store, engine_of(JPEG_ONLY)) as made:
        mine, photo = await made.open("/empty", os.O_RDWR | os.O_TRUNC, GALLERY), jpegs.plain(1, 64)
        assert await made.write(mine, 0, photo[:1]) == 1
        (store / "empty").write_bytes(PHOTO)
        assert await errno_of(made.write(mine, 1, photo[1:])) == errno.EACCES
        os.truncate(store / "empty", 0)
        assert await made.write(mine, 1, photo[1:]) == len(photo) - 1
        await made.release(mine)
    assert (store / "empty").read_bytes() == photo


@on_trio
async def test_what_comes_by_another_view_during_a_write_is_not_ones_own(store: Path, monkeypatch) -> None:
    """Another app opens and writes the file while a thread writes for the first one."""
    photo = jpegs.plain(1, 64)
    with parts(store, engine_of(JPEG_ONLY)) as made:
        mine = await made.open("/empty", os.O_RDWR | os.O_TRUNC, GALLERY)
        await made.write(mine, 0, photo)
        write, theirs = ranges.write, list[Handle]()

        async def other() -> None:
            theirs.append(await made.open("/empty", os.O_RDWR, MAPS))
            await made.write(theirs[0], 0, PHOTO)

        def followed(*arguments) -> int:
            monkeypatch.undo()
            written = write(*arguments)
            trio.from_thread.run(other)
            return written

        monkeypatch.setattr(ranges, "write", followed)
        assert await made.write(mine, len(photo), b"x") == 1
        await made.release(theirs[0])
        assert await errno_of(made.write(mine, 1, b"x")) == errno.EACCES
        await made.writer.truncate(mine, 0)
        assert await made.write(mine, 0, photo) == len(photo)
        assert await made.write(mine, 0, photo) == len(photo)
        await made.release(mine)
    assert (store / "empty").read_bytes() == photo


@on_trio
async def test_whoever_empties_a_file_that_another_view_has_open_may_write_it_later(store: Path) -> None:
    """Nobody has written an empty file."""
    with parts(store, engine_of(REDACTED)) as made:
        mine = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, GALLERY)
        other = await made.open("/a.jpg", os.O_RDWR, MAPS)
        await made.writer.truncate(mine, 0)
        await made.release(other)
        assert await made.write(mine, 0, b"words") == 5
        await made.release(mine)

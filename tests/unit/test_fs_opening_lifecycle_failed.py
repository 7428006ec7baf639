"""A last writer's release, while another app's open for writing is under way."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.fs.access.ledger import Ledger
from policyfs.fs.inodes.handles import Handle
from policyfs.journal.writing.ticket import Ticket
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, beside, errno_of

NO_PEOPLE = OPEN + '- {id: no, require: {no: [people]}, paths: "/**"}\n'
NO_PLACE = OPEN + '- {id: no, require: {no: [location]}, paths: "/**", on_refused: quarantine}\n'
LONG = PHOTO + b"\1" * (2 << 20)


async def released_beside_an_open(
    made: Parts, monkeypatch: pytest.MonkeyPatch, handle: Handle, *, fails: bool
) -> Handle | None:
    """Release a handle while an open of its file waits for its record. The new handle, unless it fails."""
    recorded, written, found = made.gate.recorder.recorded, trio.Event(), list[Handle]()

    async def late(*asked, **named):
        await written.wait()
        if fails:
            raise OSError(errno.EIO, "no room for records")
        return await recorded(*asked, **named)

    async def opens() -> None:
        found.append(await made.opener.open(handle.node, os.O_RDWR, made.caller(MAPS)))

    async def errs() -> None:
        assert await errno_of(opens()) == (errno.EIO if fails else 0)

    with monkeypatch.context() as patched:
        patched.setattr(made.gate.recorder, "recorded", late)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(errs)
            await trio.testing.wait_all_tasks_blocked()
            await made.release(handle)
            written.set()
    return found[0] if found else None


async def torn(made: Parts, store: Path, monkeypatch: pytest.MonkeyPatch) -> Handle:
    """A handle of a.jpg, of whose draft the store has only a part."""
    handle, pieces = await made.open("/a.jpg", os.O_RDWR, CAMERA), list[int]()

    def meanwhile() -> None:
        pieces.append(1)
        if len(pieces) > 1:
            with (store / "a.jpg").open("r+b") as file:
                file.write(b"%d" % len(pieces))

    assert await made.write(handle, len(PHOTO), LONG[len(PHOTO) :]) == len(LONG) - len(PHOTO)
    with monkeypatch.context() as patched:
        beside(patched, meanwhile)
        assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
    assert handle.node.open.draft.torn
    return handle


async def refused(made: Parts) -> Handle:
    """A handle of a new file, whose content was refused."""
    handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
    assert await made.write(handle, 0, PHOTO) == len(PHOTO)
    assert await errno_of(made.sync.flush(handle)) == errno.EPERM
    return handle


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("read", [True, False])
@on_trio
async def test_an_emptied_file_becomes_empty(store: Path, monkeypatch, read: bool, fails: bool) -> None:
    """close(2) has answered 0, so the old bytes must not come back."""
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        reader = await made.open("/a.jpg", os.O_RDONLY, CAMERA) if read else None
        assert await errno_of(made.sync.flush(handle)) == 0
        other = await released_beside_an_open(made, monkeypatch, handle, fails=fails)
        assert (store / "a.jpg").read_bytes() == b""
        if other is not None:
            assert await made.write(other, 0, PHOTO) == len(PHOTO)
            assert await errno_of(made.sync.flush(other)) == 0
            await made.release(other)
        if reader is not None:
            await made.release(reader)
        assert (store / "a.jpg").read_bytes() == (b"" if fails else PHOTO)


@on_trio
async def test_an_emptied_file_stays_empty_if_the_open_begins_again(store: Path, monkeypatch) -> None:
    """An app that is over its budget for records waits outside the open, which then begins again."""
    with parts(store, engine_of(NO_PEOPLE.replace('/**"', '/**", audit: required', 1))) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        assert await errno_of(made.sync.flush(handle)) == 0
        owners, admit = type(made.gate.facts.owners), made.sink.admit
        set_owner, paced, found = owners.set, list[int](), list[Handle]()

        def slow(self, *asked):
            time.sleep(0.1)
            return set_owner(self, *asked)

        def over(event, audit, *, paid=False):
            ticket = admit(event, audit, paid=paid)
            if ticket is None or paid:
                return ticket
            paced.append(1)
            return Ticket(event, 0.2)

        async def opens() -> None:
            node = await made.walk("/a.jpg", MAPS)
            with Ledger() as own:
                found.append(await made.opener.open(node, os.O_RDWR, made.caller(MAPS)))
                await own.settle()

        made.gate.facts.owners.set(handle.fd, made.tree.fstat(handle.fd), "camera")
        monkeypatch.setattr(owners, "set", slow)
        monkeypatch.setattr(made.sink, "admit", over)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opens)
            await trio.sleep(0.05)
            assert not found, "the open is under way"
            assert handle.node.open.writers == 2
            await made.release(handle)
        assert paced
        assert bytes(await made.reader.read(found[0], 0, 100)) == b""
        await made.release(found[0])
        assert (store / "a.jpg").read_bytes() == b""


@pytest.mark.parametrize("fails", [True, False])
@on_trio
async def test_a_torn_draft_goes_to_the_quarantine(store: Path, monkeypatch, fails: bool) -> None:
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await torn(made, store, monkeypatch)
        other = await released_beside_an_open(made, monkeypatch, handle, fails=fails)
        assert made.whole.quarantine.stats().waiting == 1
        if other is not None:
            await made.release(other)


@pytest.mark.parametrize("fails", [True, False])
@on_trio
async def test_a_refused_draft_goes_to_the_quarantine(store: Path, monkeypatch, fails: bool) -> None:
    """The file itself stays: nobody may remove a file that is being opened for writing."""
    plain = PHOTO[:2] + PHOTO[PHOTO.index(b"\xff\xdb") :]
    with parts(store, engine_of(NO_PLACE)) as made:
        handle = await refused(made)
        other = await released_beside_an_open(made, monkeypatch, handle, fails=fails)
        assert made.whole.quarantine.stats().waiting == 1
        assert (store / "new.jpg").read_bytes() == b""
        if other is not None:
            assert await made.write(other, 0, plain) == len(plain)
            assert await errno_of(made.sync.flush(other)) == 0
            await made.release(other)
            assert (store / "new.jpg").read_bytes() == plain


@on_trio
async def test_a_page_that_was_mapped_at_the_close_is_stored(store: Path, monkeypatch) -> None:
    (store / "a.jpg").write_bytes(bytes(len(PHOTO)))
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        assert await errno_of(made.sync.flush(handle)) == 0
        written = made.writer.write(handle, 0, PHOTO, append=False, kill_priv=False, back=True)
        assert await written == len(PHOTO)
        await released_beside_an_open(made, monkeypatch, handle, fails=True)
        assert (store / "a.jpg").read_bytes() == PHOTO


@pytest.mark.parametrize("what", ["torn", "refused", "emptied"])
@on_trio
async def test_a_cancelled_release_keeps_what_it_can(store: Path, monkeypatch, what: str) -> None:
    """The end of the daemon cancels a RELEASE that is under way. Nobody sends it again."""
    with parts(store, engine_of(NO_PLACE if what == "refused" else NO_PEOPLE)) as made:
        if what == "torn":
            handle = await torn(made, store, monkeypatch)
        elif what == "refused":
            handle = await refused(made)
        else:
            handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
            assert await errno_of(made.sync.flush(handle)) == 0
        with trio.CancelScope() as scope:
            scope.cancel()
            await made.release(handle)
        if what == "emptied":
            assert (store / "a.jpg").read_bytes() == b""
        else:
            assert made.whole.quarantine.stats().waiting == 1


@on_trio
async def test_a_torn_draft_is_kept_where_the_disk_fails_at_the_release(store: Path, monkeypatch) -> None:
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await torn(made, store, monkeypatch)

        def fails(self, fd):
            raise OSError(errno.EIO, "the disk")

        with monkeypatch.context() as patched:
            patched.setattr(type(made.tree), "fstat", fails)
            assert await errno_of(made.release(handle)) == errno.EIO
        assert made.whole.quarantine.stats().waiting == 1
        assert handle.node.open is None


@pytest.mark.parametrize("read", [True, False])
@on_trio
async def test_no_held_byte_is_dropped_without_a_record(store: Path, read: bool) -> None:
    """Whatever ended the handle before its bytes were stored."""
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        reader = await made.open("/a.jpg", os.O_RDONLY, CAMERA) if read else None
        node, state = handle.node, handle.node.open
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        assert state.unsaved
        assert state.mark is not None
        made.opener.close(handle)
        assert not state.unsaved
        assert state.mark is None
        notes = [event.note for event in made.sink.events if "not stored" in event.note]
        assert notes == [
            "the last bytes were not stored, and are dropped: the release, or the open, ended with an error"
        ]
        if reader is not None:
            await made.release(reader)
        assert node.open is None

"""The way of a draft into the store's file: piece by piece, and whatever others do to the file meanwhile."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from policyfs.domain import Decision
from policyfs.fs.checked import draft_storage
from policyfs.fs.checked.draft_storage import copy_cut
from policyfs.fs.inodes.handles import Handle, open_state
from policyfs.fs.inodes.pending_writes import Draft, KeptBytes
from policyfs.linux.statx import fstatx
from policyfs.store import ranges
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN, PHOTO, append, beside, errno_of

NO_PEOPLE = OPEN + "- {id: no, require: {no: [people]}, paths: '/**'}\n"
CLEAN_PLACE = OPEN + "- {id: clean, require: {clean: [location]}, paths: '/**'}\n"
NEW = PHOTO + b"\1" * (2 << 20)


async def written(made: Parts) -> Handle:
    """Return a handle whose draft has NEW in the place of PHOTO."""
    handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
    assert await made.write(handle, len(PHOTO), NEW[len(PHOTO) :]) == len(NEW) - len(PHOTO)
    return handle


def chmod(path: Path, number: int) -> None:
    time.sleep(0.011)  # before Linux 6.13 ctime may be as coarse as 10 ms
    path.chmod((0o644, 0o664)[number % 2])


def touch(path: Path, number: int) -> None:
    os.utime(path, ns=(number, number))


def write_at_the_end(path: Path, number: int) -> None:
    append(path, b".")
    os.utime(path, ns=(number, number))


def write_into(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        file.write(b"%d" % number)


@pytest.mark.parametrize(
    ("change", "begins", "said", "tries"),
    [
        (chmod, 0, errno.EBUSY, draft_storage._TRIES),
        (chmod, 1, 0, 3),
        (touch, 0, errno.EBUSY, 1),
        (touch, 1, 0, 2),
        (write_at_the_end, 1, errno.EBUSY, 2),
        (write_into, 1, errno.EBUSY, 2),
    ],
)
@on_trio
async def test_changes_before_each_piece(
    store: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, int], None], begins: int, said: int,
    tries: int,
) -> None:  # fmt: skip
    """begins: the piece from which on the file is changed. tries: calls on a thread, all pieces together."""
    done = list[int]()

    def meanwhile() -> None:
        done.append(len(done))
        if len(done) > begins:
            change(store / "a.jpg", len(done))

    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await written(made)
        beside(monkeypatch, meanwhile)
        assert await errno_of(made.sync.flush(handle)) == said
        assert len(done) == tries
        draft = open_state(handle).draft
        assert draft is not None
        assert bool(draft.torn) == bool(said and begins)
        if not said:
            assert (store / "a.jpg").read_bytes() == NEW
        elif not begins:
            assert (store / "a.jpg").read_bytes() == PHOTO, "no byte of the draft is there"
        if begins:
            monkeypatch.undo()
        await made.release(handle)
        assert not [event for event in made.sink.events if "dropped" in event.note]
        assert made.whole.quarantine.stats().waiting == bool(said), "its bytes are kept"


@pytest.mark.parametrize("longer", [0, 4 << 20])
@pytest.mark.parametrize("appended", [False, True])
@on_trio
async def test_times_that_are_set_just_when_a_piece_ends_leave_no_file_half_written(
    store: Path, monkeypatch: pytest.MonkeyPatch, longer: int, appended: bool
) -> None:
    """The event loop looked at the file while a thread wrote the piece, and told the draft of the new times
    when the thread was done. longer: of the old file, than the draft's new bytes."""
    old = PHOTO + bytes(longer)
    (store / "a.jpg").write_bytes(old)
    done = list[int]()
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await written(made)
        state = open_state(handle)

        def meanwhile() -> None:
            done.append(len(done))
            if len(done) == 2:
                if appended:
                    append(store / "a.jpg", b".")
                now = made.tree.fstat(handle.fd)
                os.utime(store / "a.jpg", ns=(5, 6))
                assert state.draft is not None
                state.draft.dated(now._replace(mtime_ns=now.mtime_ns - 1), made.tree.fstat(handle.fd))
                assert state.draft.base is None

        beside(monkeypatch, meanwhile)
        assert await errno_of(made.sync.flush(handle)) == (errno.EBUSY if appended else 0)
        monkeypatch.undo()
        if not appended:
            assert (store / "a.jpg").read_bytes() == NEW + old[len(NEW) :]
            assert (store / "a.jpg").stat().st_mtime_ns == 6
        await made.release(handle)


@on_trio
async def test_a_draft_that_found_no_rest_is_stored_later(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(10_000))
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await written(made)
        beside(monkeypatch, lambda: chmod(store / "a.jpg", next(numbers)))
        assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
        monkeypatch.undo()
        assert await errno_of(made.sync.flush(handle)) == 0
        assert (store / "a.jpg").read_bytes() == NEW
        await made.release(handle)


@on_trio
async def test_a_draft_of_which_a_part_is_stored_is_kept_whatever_fails_at_the_last_release(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last release finds no facts to decide on, and nothing of the store's file."""

    async def fails(*_: object) -> Decision:
        raise OSError(errno.EIO, "the disk")

    done = list[int]()

    def meanwhile() -> None:
        done.append(len(done))
        if len(done) > 1:
            write_into(store / "a.jpg", len(done))

    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await written(made)
        with monkeypatch.context() as patch:
            beside(patch, meanwhile)
            assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
        with monkeypatch.context() as patch:
            patch.setattr(type(made.gate), "handle", fails)
            assert await errno_of(made.release(handle)) == errno.EIO
        assert made.whole.quarantine.stats().waiting == 1
        assert not any("not stored" in event.note for event in made.sink.events)


@on_trio
async def test_what_is_lost_where_the_last_release_cannot_decide_is_on_record(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> Decision:
        raise OSError(errno.EIO, "the disk")

    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await written(made)
        with monkeypatch.context() as patch:
            patch.setattr(type(made.gate), "handle", fails)
            assert await errno_of(made.release(handle)) == errno.EIO
        assert (store / "a.jpg").read_bytes() == PHOTO
        [event] = [event for event in made.sink.events if "not stored" in event.note]
        assert (event.errno, event.path) == (errno.EIO, b"/a.jpg")


@on_trio
async def test_a_cleaning_is_on_record_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the policy is read again before its first byte is stored, or others change the file."""

    def cleanings() -> int:
        return sum(event.note.startswith("cleaned of") for event in made.sink.events)

    with parts(store, engine_of(CLEAN_PLACE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.write(handle, 0, PHOTO)
        done = list[int]()

        def reload() -> None:
            done.append(len(done))
            if len(done) <= 2:
                trio.from_thread.run_sync(made.reload, engine_of(CLEAN_PLACE))
            else:
                chmod(store / "a.jpg", len(done))

        with monkeypatch.context() as patch:
            beside(patch, reload)
            assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
        assert cleanings() == 1
        await made.sync.flush(handle)
        assert cleanings() == 1
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        await made.sync.flush(handle)
        assert cleanings() == 2
        await made.release(handle)
        assert cleanings() == 2


@on_trio
async def test_an_emptied_file_is_cut_once(store: Path) -> None:
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        assert (store / "a.jpg").read_bytes() == PHOTO
        await made.sync.flush(handle)
        assert (store / "a.jpg").read_bytes() == PHOTO, "a program may come that writes refused bytes"
        await made.release(handle)
        assert (store / "a.jpg").read_bytes() == b""


def shared(made: Parts, patch: pytest.MonkeyPatch, path: Path, meanwhile: Callable[[int], object]) -> None:
    """Let the store share blocks. meanwhile: called with the file's descriptor once it has the new blocks."""
    number = path.stat().st_ino

    def clone(target: int, request: int, source: int) -> None:
        assert request == ranges.FICLONE
        os.pwrite(target, os.pread(source, 1 << 24, 0), 0)
        if os.fstat(target).st_ino == number:
            meanwhile(target)

    made.whole.drafts._storage._shares_blocks = True
    patch.setattr(ranges.fcntl, "ioctl", clone)


def no_room(fd: int) -> None:
    """Keep only half of the new blocks, as xfs on a full disk."""
    half = len(NEW) // 2
    os.pwrite(fd, b"\2" * half, half)
    raise OSError(errno.ENOSPC, "no room")


@pytest.mark.parametrize(("fails", "longer"), [("share", 0), ("share", 4 << 20), ("cut", 4 << 20)])
@on_trio
async def test_a_draft_is_kept_whose_blocks_are_in_the_file_in_part(
    store: Path, monkeypatch: pytest.MonkeyPatch, fails: str, longer: int
) -> None:
    """longer: of the old file, than the draft."""
    path = store / "a.jpg"
    path.write_bytes(PHOTO + b"\2" * (len(NEW) - len(PHOTO) + longer))
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        await made.write(handle, 0, NEW)

        def cut(_fd: int, _size: int) -> None:
            raise OSError(errno.ENOSPC, "no room")

        with monkeypatch.context() as patch:
            shared(made, patch, path, no_room if fails == "share" else lambda _: None)
            if fails == "cut":
                patch.setattr(type(made.tree), "truncate_fd", staticmethod(cut))
            assert await errno_of(made.sync.flush(handle)) == errno.ENOSPC
            draft = open_state(handle).draft
            assert draft is not None
            assert draft.torn
            await made.release(handle)
        assert path.read_bytes() != NEW
        assert made.whole.quarantine.stats().waiting == 1


@pytest.mark.parametrize("longer", [0, 4 << 20])
@on_trio
async def test_a_draft_whose_blocks_found_no_room_is_stored_later(
    store: Path, monkeypatch: pytest.MonkeyPatch, longer: int
) -> None:
    path = store / "a.jpg"
    path.write_bytes(PHOTO + b"\2" * longer)
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        await made.write(handle, 0, NEW)
        with monkeypatch.context() as patch:
            shared(made, patch, path, no_room)
            assert await errno_of(made.sync.flush(handle)) == errno.ENOSPC
        with monkeypatch.context() as patch:
            shared(made, patch, path, lambda _: None)
            await made.release(handle)
        assert path.read_bytes() == NEW
        assert made.whole.quarantine.stats().waiting == 0


@on_trio
async def test_a_draft_is_not_torn_where_blocks_cannot_be_shared(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EINVAL, "cannot")

    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await written(made)
        made.whole.drafts._storage._shares_blocks = True
        monkeypatch.setattr(ranges.fcntl, "ioctl", refused)
        with monkeypatch.context() as patch:
            patch.setattr(ranges, "allocate", refused)
            assert await errno_of(made.sync.flush(handle)) == errno.EINVAL
        draft = open_state(handle).draft
        assert draft is not None
        assert not draft.torn
        assert await errno_of(made.sync.flush(handle)) == 0
        assert (store / "a.jpg").read_bytes() == NEW
        await made.release(handle)


@pytest.mark.parametrize("old", [len(PHOTO), len(NEW), len(NEW) + 200_000])
@on_trio
async def test_what_another_program_appends_right_after_the_blocks_are_shared_stays(
    store: Path, monkeypatch: pytest.MonkeyPatch, old: int
) -> None:
    """It has waited for the file's lock. old: the old file's size."""
    path = store / "a.jpg"
    path.write_bytes(PHOTO + b"\2" * (old - len(PHOTO)))
    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR | os.O_TRUNC, CAMERA)
        await made.write(handle, 0, NEW)
        with monkeypatch.context() as patch:
            shared(made, patch, path, lambda _: append(path, b"of others"))
            assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
        assert await errno_of(made.sync.flush(handle)) == errno.EBUSY, "nor does a later try cut them"
        await made.release(handle)
        assert path.read_bytes().endswith(b"of others")
        assert made.whole.quarantine.stats().waiting == 1


@on_trio
async def test_a_file_that_is_not_too_long_is_not_cut(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may append after the last look at the file's length."""

    def cut(_fd: int, _size: int) -> None:
        raise AssertionError

    with parts(store, engine_of(NO_PEOPLE)) as made:
        handle = await written(made)
        with monkeypatch.context() as patch:
            patch.setattr(type(made.tree), "truncate_fd", staticmethod(cut))
            assert await errno_of(made.sync.flush(handle)) == 0
        assert (store / "a.jpg").read_bytes() == NEW
        await made.release(handle)


_PIECE = 1 << 20
BYTES = os.urandom(_PIECE + 100)


def draft_with(path: Path, data: bytes, released: Callable[[], object] = lambda: None) -> Draft:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    return Draft(fd, fstatx(fd), created=True, released=released)


@pytest.mark.parametrize("size", [0, 1, _PIECE, _PIECE + 99, _PIECE + 1000])
@on_trio
async def test_a_copy_has_the_drafts_bytes_up_to_its_size_and_zeros_behind(tmp_path: Path, size: int) -> None:
    draft, copy = draft_with(tmp_path / "draft", BYTES), draft_with(tmp_path / "copy", b"")
    draft.kept = KeptBytes(len(BYTES))
    draft.kept.drop(10, 20)
    await copy_cut(draft, copy, size)
    assert (tmp_path / "copy").read_bytes() == BYTES[:size].ljust(size, b"\0")
    assert (tmp_path / "draft").read_bytes() == BYTES
    assert (copy.base, copy.began_empty, copy.created, copy.changed) == (draft.base, False, True, True)
    assert list(draft.kept.ranges()) == [(0, 10), (20, len(BYTES))]
    assert sum(end - start for start, end in copy.kept.ranges()) == {0: 0, 1: 1}.get(
        size, min(size, len(BYTES)) - 10
    )
    for each in (draft, copy):
        each.close()


@on_trio
async def test_a_copy_that_the_store_refuses_is_closed(tmp_path: Path) -> None:
    draft, closed = draft_with(tmp_path / "draft", BYTES), list[bool]()
    copy = draft_with(tmp_path / "copy", b"", lambda: closed.append(True))
    assert await errno_of(copy_cut(draft, copy, 2**63 - 1)) == errno.EFBIG
    assert (closed, copy.fd) == ([True], -1)
    assert not draft.changed
    draft.close()

"""How a change comes into the store's file: at once, by its head, or by a draft."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from policyfs.domain import OWNER_NONE
from policyfs.fs.checked.change_lock import ChangeLock
from policyfs.fs.checked.head import HEAD_BYTES
from policyfs.fs.inodes.handles import Handle
from policyfs.store import freeing
from policyfs.store.ranges import KEEP_SIZE, PUNCH_HOLE
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    GALLERY,
    MAPS,
    OPEN,
    PHOTO,
    REDACTED,
    TYPES,
    errno_of,
    racing,
    truncations,
)

OWN = OPEN + "- {id: hide, require: {redact: location}, who: {app: gallery}, unless: {owner: self}}\n"


@on_trio
async def test_a_page_that_is_written_back_late_brings_nothing_back_that_was_cut_off(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/empty", os.O_RDWR, CAMERA)
        assert await made.write(handle, 0, b"x" * 5000) == 5000
        await made.writer.truncate(handle, 100)
        page = b"y" * 4096
        assert await made.writer.write(handle, 0, page, append=False, kill_priv=False, back=True) == 4096
        assert await made.writer.write(handle, 4096, page, append=False, kill_priv=False, back=True) == 4096
        assert (store / "empty").read_bytes() == b"y" * 100


@on_trio
async def test_what_comes_far_behind_a_held_head_is_written_where_it_belongs(store: Path) -> None:
    """A head of zeros as long as a head can be (truncate made it), then a write behind it."""
    anything = OPEN + "- {id: types, require: {content: [application/octet-stream]}, paths: '/**'}\n"
    with parts(store, engine_of(anything)) as made:
        handle = await made.open("/empty", os.O_RDWR, CAMERA)
        await made.writer.truncate(handle, HEAD_BYTES)
        assert await made.write(handle, 100_000, b"behind") == 6
        await made.release(handle)
    assert (store / "empty").read_bytes() == bytes(100_000) + b"behind"


@on_trio
async def test_an_o_trunc_that_waits_empties_the_draft_that_began_meanwhile(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        first, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        opened = []

        async def empty() -> None:
            opened.append(await made.open("/new", os.O_RDWR | os.O_TRUNC, MAPS))

        assert await racing(made, first, made.write(first, len(PHOTO), bytes(HEAD_BYTES)), empty()) == [0, 0]
        assert await made.write(opened[0], 0, PHOTO) == len(PHOTO)
        for handle in (first, *opened):
            assert await errno_of(made.sync.flush(handle)) == 0
            await made.release(handle)
    assert (store / "new").read_bytes() == PHOTO


@on_trio
async def test_a_draft_ends_once_the_beginning_is_in_the_store(store: Path) -> None:
    """A program that reserves a file's length and calls fsync often does not copy the file each time."""
    photo = PHOTO + bytes(2 * HEAD_BYTES)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(MAPS))
        await made.writer.allocate(handle, 0, 0, len(photo))
        assert await errno_of(made.sync.fsync(handle, datasync=False)) == errno.EPERM
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        await made.sync.fsync(handle, datasync=False)
        assert (store / "new").read_bytes() == photo
        assert await made.write(handle, HEAD_BYTES, b"a block") == 7
        assert (store / "new").read_bytes()[HEAD_BYTES : HEAD_BYTES + 7] == b"a block"
        assert await errno_of(made.write(handle, 0, b"words")) == errno.EPERM, "told at once"
        await made.release(handle)
    assert (store / "new").read_bytes().startswith(PHOTO)


@on_trio
async def test_a_large_truncation_runs_on_a_thread_a_small_one_on_the_loop(store: Path, monkeypatch) -> None:
    """The kernel frees the pages in the call: on the loop, all other requests wait."""
    (store / "large").write_bytes(bytes(64 * 1024))
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/large", os.O_RDWR, CAMERA)
        monkeypatch.setattr(freeing, "LARGE_BYTES", 32 * 1024)
        cuts = truncations(monkeypatch, made)
        await made.writer.truncate(handle, 100)
        assert cuts == [False]
        await made.writer.truncate(handle, 10)
        assert cuts == [False, True]
        assert (store / "large").stat().st_size == 10


@on_trio
async def test_a_large_truncation_under_redaction_runs_on_a_thread(store: Path, monkeypatch) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO + bytes(64 * 1024))
        monkeypatch.setattr(freeing, "LARGE_BYTES", 32 * 1024)
        cuts = truncations(monkeypatch, made)
        await made.writer.truncate(handle, 0)
        assert cuts == [False]
        assert handle.emptied
        assert await made.write(handle, 0, PHOTO) == len(PHOTO)
        assert await made.write(handle, 4, PHOTO[4:]) == len(PHOTO) - 4


def _written_before_the_thread(monkeypatch, path: Path, data: bytes) -> list[bool]:
    """Another program writes *data* between each check and the thread's change. Each try appends True to the
    result if the thread changed the file."""
    in_thread, changed = ChangeLock.in_thread, []

    async def late(self, fd: int, fence: Callable[[], None], change: Callable[[], Any]) -> Any:
        def fenced() -> None:
            fence()
            path.write_bytes(data)

        done = await in_thread(self, fd, fenced, change)
        changed.append(done is not None)
        return done

    monkeypatch.setattr(ChangeLock, "in_thread", late)
    return changed


def _change(made: Parts, handle: Handle, what: str) -> Awaitable[None]:
    if what == "truncate":
        return made.writer.truncate(handle, 100)
    return made.ranges.allocate(handle, PUNCH_HOLE | KEEP_SIZE, 100, 1000)


@pytest.mark.parametrize("what", ["truncate", "punch"])
@on_trio
async def test_what_is_written_before_the_threads_change_is_not_changed(
    store: Path, monkeypatch, what: str
) -> None:
    """Rule 5: the app may change a part of the file only while all of the file is its own."""
    theirs = PHOTO + bytes(80 * 1024)
    with parts(store, engine_of(REDACTED)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(GALLERY))
        made.owners.set(handle.fd, made.tree.fstat(handle.fd), OWNER_NONE)
        await made.writer.truncate(handle, 0)
        await made.write(handle, 0, PHOTO + bytes(64 * 1024))
        monkeypatch.setattr(freeing, "LARGE_BYTES", 32 * 1024)
        changed = _written_before_the_thread(monkeypatch, store / "new.jpg", theirs)
        assert await errno_of(_change(made, handle, what)) == errno.EACCES
        assert changed == [False]
        assert (store / "new.jpg").read_bytes() == theirs
        await made.release(handle)


@pytest.mark.parametrize("what", ["truncate", "punch"])
@on_trio
async def test_an_app_that_may_change_the_file_is_not_refused_because_others_write_it(
    store: Path, monkeypatch, what: str
) -> None:
    with parts(store, engine_of(OWN)) as made:
        handle, _ = await made.creator.create(made.root, b"new.jpg", 0o644, os.O_RDWR, made.caller(GALLERY))
        await made.write(handle, 0, PHOTO + bytes(64 * 1024))
        monkeypatch.setattr(freeing, "LARGE_BYTES", 32 * 1024)
        changed = _written_before_the_thread(monkeypatch, store / "new.jpg", b"x" * (80 * 1024))
        await _change(made, handle, what)
        assert changed == [False] * 3
        left = (store / "new.jpg").read_bytes()
        assert left == (b"x" * 100 if what == "truncate" else b"x" * 100 + bytes(1000) + b"x" * 80820)
        await made.release(handle)


@on_trio
async def test_a_policy_that_comes_during_a_large_truncation_makes_no_bytes_the_apps_own(
    store: Path, monkeypatch
) -> None:
    """Another app may have written since the truncation: the file is not empty any more."""
    (store / "large.jpg").write_bytes(PHOTO + bytes(64 * 1024))
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/large.jpg", os.O_RDWR, CAMERA)
        monkeypatch.setattr(freeing, "LARGE_BYTES", 32 * 1024)
        cut = type(made.tree).truncate_fd

        def cut_and_reload(self, fd: int, size: int) -> None:
            cut(self, fd, size)
            (store / "large.jpg").write_bytes(PHOTO)
            trio.from_thread.run_sync(made.reload, engine_of(REDACTED))

        monkeypatch.setattr(type(made.tree), "truncate_fd", cut_and_reload)
        await made.writer.truncate(handle, 0)
        assert not handle.emptied
        assert await errno_of(made.write(handle, 4, b"mine")) == errno.EACCES
        assert (store / "large.jpg").read_bytes() == PHOTO

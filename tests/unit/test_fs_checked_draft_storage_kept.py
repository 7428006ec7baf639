"""Bytes that an app has not written: no draft overwrites them where another program has changed them."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.fs.checked import draft_storage
from policyfs.store import ranges
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN, errno_of
from tests.support.samples import jpegs

NO_PLACE = OPEN + "- {id: no, require: {no: [location]}, paths: '/**'}\n"
PLAIN = jpegs.plain(3, 64)
FILE = PLAIN + b"\1" * 16384
THERE = 12000
"""An offset in FILE that the app does not write."""


def sharing(made: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store share blocks."""

    def clone(target: int, request: int, source: int) -> None:
        assert request == ranges.FICLONE
        os.pwrite(target, os.pread(source, 1 << 24, 0), 0)

    made.whole.drafts._storage._shares_blocks = True
    monkeypatch.setattr(ranges.fcntl, "ioctl", clone)


@pytest.mark.parametrize("shares", [False, True])
@on_trio
async def test_stores_to_a_mapping_of_another_program_stay(
    store: Path, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    """The page is dirty already, so mtime does not tell."""
    path = store / "a.jpg"
    path.write_bytes(FILE)
    with (
        parts(store, engine_of(NO_PLACE)) as made,
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as mapping,
    ):
        if shares:
            sharing(made, monkeypatch)
        mapping[THERE : THERE + 1] = b"\1"
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.write(handle, len(FILE), b"\1\1\1\1")
        mapping[THERE : THERE + 4] = b"\2\2\2\2"
        assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
        await made.release(handle)
        data = path.read_bytes()
        assert data == FILE[:THERE] + b"\2\2\2\2" + FILE[THERE + 4 :]
        (kept,) = made.whole.quarantine._waiting
        assert os.pread(kept.fd, 1 << 20, 0) == FILE + b"\1\1\1\1", "the app's version"
        assert "another program has changed the file" in kept.refusal.reason


@pytest.mark.parametrize("shares", [False, True])
@on_trio
async def test_a_change_that_keeps_size_and_mtime_stays(
    store: Path, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    """As `touch -r` leaves it. The draft was stored before, and goes on."""
    path = store / "a.jpg"
    path.write_bytes(FILE)
    with parts(store, engine_of(NO_PLACE)) as made:
        if shares:
            sharing(made, monkeypatch)
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.write(handle, len(FILE), b"\1\1\1\1")
        assert await errno_of(made.sync.flush(handle)) == 0
        was = path.stat()
        with path.open("r+b") as file:
            file.seek(THERE)
            file.write(b"\2\2\2\2")
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        await made.write(handle, len(FILE) + 4, b"\1\1\1\1")
        assert await errno_of(made.sync.flush(handle)) == errno.EBUSY
        await made.release(handle)
        assert path.read_bytes() == FILE[:THERE] + b"\2\2\2\2" + FILE[THERE + 4 :] + b"\1\1\1\1"


@on_trio
async def test_a_change_of_what_the_app_overwrites_itself_does_not_matter(store: Path) -> None:
    path = store / "a.jpg"
    path.write_bytes(FILE)
    with parts(store, engine_of(NO_PLACE)) as made, path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0) as mapping:
            mapping[THERE : THERE + 1] = b"\1"
            handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
            await made.write(handle, THERE, b"\3\3\3\3")
            mapping[THERE : THERE + 4] = b"\2\2\2\2"
        assert await errno_of(made.sync.flush(handle)) == 0
        await made.release(handle)
        assert path.read_bytes() == FILE[:THERE] + b"\3\3\3\3" + FILE[THERE + 4 :]


@on_trio
async def test_a_copy_writes_only_what_the_app_has_written(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing is lost that another program changes after the comparison."""
    path = store / "a.jpg"
    path.write_bytes(FILE)
    written = list[tuple[int, bytes]]()
    put = draft_storage.put_all
    with parts(store, engine_of(NO_PLACE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.write(handle, 5000, b"\3\3\3\3")
        await made.write(handle, 9000, b"\4\4")
        await made.write(handle, len(FILE), b"\5")

        def put_all(fd: int, data: bytes, at: int) -> None:
            written.append((at, data))
            put(fd, data, at)

        monkeypatch.setattr(draft_storage, "put_all", put_all)
        assert await errno_of(made.sync.flush(handle)) == 0
        assert written == [(5000, b"\3\3\3\3"), (9000, b"\4\4"), (len(FILE), b"\5")]
        written.clear()
        await made.write(handle, 100, FILE[100:200])
        assert await errno_of(made.sync.flush(handle)) == 0
        assert written == [(100, FILE[100:200])]
        await made.release(handle)
    new = FILE[:5000] + b"\3\3\3\3" + FILE[5004:9000] + b"\4\4" + FILE[9002:] + b"\5"
    assert path.read_bytes() == new


async def cut_and_write(made: Parts, handle) -> None:
    await made.writer.truncate(handle, 6000)
    await made.write(handle, 9000, b"\3\3")


async def extend(made: Parts, handle) -> None:
    await made.writer.truncate(handle, 6000)
    await made.writer.truncate(handle, len(FILE) + 5000)


async def punch(made: Parts, handle) -> None:
    await made.writer.allocate(handle, ranges.PUNCH_HOLE | ranges.KEEP_SIZE, 5000, 6000)


async def zero(made: Parts, handle) -> None:
    await made.writer.allocate(handle, ranges.ZERO_RANGE, 9000, len(FILE))


async def reserve(made: Parts, handle) -> None:
    await made.writer.allocate(handle, 0, 9000, len(FILE))


async def same_size(made: Parts, handle) -> None:
    await made.writer.truncate(handle, len(FILE))


async def empty_and_write(made: Parts, handle) -> None:
    await made.writer.truncate(handle, 0)
    await made.write(handle, 0, PLAIN)


MODEL: dict[Callable, bytes] = {
    cut_and_write: FILE[:6000] + bytes(3000) + b"\3\3",
    extend: FILE[:6000] + bytes(len(FILE) - 1000),
    punch: FILE[:5000] + bytes(6000) + FILE[11000:],
    zero: FILE[:9000] + bytes(len(FILE)),
    reserve: FILE + bytes(9000),
    same_size: FILE,
    empty_and_write: PLAIN,
}


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("change", MODEL)
@on_trio
async def test_each_change_of_a_draft_gets_into_the_file(
    store: Path, monkeypatch: pytest.MonkeyPatch, change: Callable, shares: bool
) -> None:
    path = store / "a.jpg"
    path.write_bytes(FILE)
    os.utime(path, ns=(5, 5))
    with parts(store, engine_of(NO_PLACE)) as made:
        if shares:
            sharing(made, monkeypatch)
            monkeypatch.setattr(ranges, "_UNNAMED", os.O_TMPFILE | os.O_RDWR)
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await change(made, handle)
        assert await errno_of(made.sync.flush(handle)) == 0
        assert path.read_bytes() == MODEL[change]
        assert path.stat().st_mtime_ns != 5
        await made.write(handle, 0, PLAIN[:2])  # the draft goes on
        assert await errno_of(made.sync.flush(handle)) == 0
        await made.release(handle)
    assert path.read_bytes() == MODEL[change]


@on_trio
async def test_a_file_that_another_program_has_emptied_gets_the_whole_draft(store: Path) -> None:
    """Where the draft began empty, nothing can be lost."""
    path = store / "a.jpg"
    path.write_bytes(b"")
    with parts(store, engine_of(NO_PLACE)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.write(handle, 0, FILE)
        assert await errno_of(made.sync.flush(handle)) == 0
        await made.write(handle, 5000, b"\3")
        os.truncate(path, 0)
        assert await errno_of(made.sync.flush(handle)) == 0
        await made.release(handle)
    assert path.read_bytes() == FILE[:5000] + b"\3" + FILE[5001:]

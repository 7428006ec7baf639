"""Tests of windows of films: an app gets the very bytes at which a worker has looked."""

from __future__ import annotations

import errno
import gc
import os
from array import array
from collections.abc import Hashable, Iterator
from pathlib import Path

import pytest
import trio

from policyfs.content import whole_plans
from policyfs.domain import Patch
from policyfs.fs.redacted import windows
from policyfs.fs.redacted.windows import FilmFrames, WindowRoom
from policyfs.redact.core.frame_table import FrameForm, FrameTable
from policyfs.redact.core.values import Outcome, Plan
from policyfs.store.frozen import new_memfd
from tests.support.mount.file_system import on_trio

WORDS = frozenset({"location"})
FRAMES = ((10, 20), (20, 40), (60, 70), (70, 80))
SECRET = b"SECRET"


class Looker:
    """A worker that blanks the secret in frames, and notes what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, list[tuple[int, int]]]] = []
        self.lanes: list[Hashable] = []
        self.refuses = False
        self.odd = b"(odd)"
        self.gate: trio.Event | None = None
        self.writes = ""

    async def look(
        self, fd: int, kind: str, what: frozenset[str], frames: FrameTable, *, lane: Hashable = None
    ) -> Plan:
        assert (kind, what) == ("video/mp4", WORDS)
        data = os.pread(fd, 1 << 20, 0)
        self.seen.append((data, list(zip(frames.starts, frames.ends, strict=True))))
        self.lanes.append(lane)
        try:
            os.pwrite(fd, b"x", 0)
        except OSError as error:
            self.writes = errno.errorcode[error.errno or 0]
        if self.gate is not None:
            await self.gate.wait()
        if self.refuses or self.odd in data:
            return Plan(Outcome.REFUSE, reason="too odd")
        inside = [data.find(SECRET, start, end) for start, end in self.seen[-1][1]]
        patches = tuple(Patch(at, zeros=len(SECRET)) for at in inside if at >= 0)
        return Plan(Outcome.PATCH if patches else Outcome.CLEAN, patches)


class Film:
    def __init__(self, path: Path) -> None:
        self.path = path
        data = bytearray(b"." * 100)
        data[12:18] = data[30:36] = data[72:78] = SECRET
        path.write_bytes(data)
        self.fd = os.open(path, os.O_RDONLY)
        self.looker = Looker()
        starts, ends = zip(*FRAMES, strict=True)
        self.table = FrameTable(
            array("Q", starts), array("Q", ends), array("H", [0] * len(FRAMES)), (FrameForm("H.264", 4),)
        )
        self.room = WindowRoom()
        self.frames = FilmFrames(self.looker, self.room, self.table, "video/mp4", WORDS)

    async def read(self, offset: int, size: int, lane: Hashable = "app") -> bytes:
        data, why = await self.frames.read(self.fd, offset, size, lane)
        assert not why
        return bytes(data)


@pytest.fixture
def film(tmp_path: Path) -> Iterator[Film]:
    made = Film(tmp_path / "a.mp4")
    yield made
    os.close(made.fd)


@on_trio
async def test_each_read_shows_what_a_look_at_its_frames_left(film: Film) -> None:
    shown = film.path.read_bytes().replace(SECRET, bytes(len(SECRET)))
    for offset in range(100):
        for size in (1, 3, 17, 200):
            assert await film.read(offset, size) == shown[offset : offset + size]


@on_trio
async def test_the_frames_of_a_window_are_seen_whole_and_no_others(film: Film) -> None:
    await film.read(33, 30)
    data, frames = film.looker.seen[-1]
    assert data == film.path.read_bytes()[20:70]
    assert frames == [(0, 20), (40, 50)]
    film.looker.seen.clear()
    assert await film.read(45, 10) == b"." * 10
    assert film.looker.seen == []


@on_trio
async def test_bytes_that_change_after_the_look_are_not_shown(film: Film) -> None:
    """The window was read before; what a program writes meanwhile is in the next one, and is looked at."""
    film.looker.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        read: list[bytes] = []

        async def reads() -> None:
            read.append(await film.read(60, 10))

        nursery.start_soon(reads)
        await trio.testing.wait_all_tasks_blocked()
        while not film.looker.seen:
            await trio.testing.wait_all_tasks_blocked()
        with film.path.open("r+b") as file:
            file.seek(61)
            file.write(SECRET)
        film.looker.gate.set()
    assert read == [b"." * 10]
    assert SECRET not in await film.read(60, 10)


@on_trio
async def test_reads_in_order_share_a_look_of_their_lane(film: Film) -> None:
    shown = film.path.read_bytes().replace(SECRET, bytes(len(SECRET)))
    parts = [await film.read(at, 4) for at in range(8, 100, 4)]
    assert b"".join(parts) == shown[8:]
    assert [frames for _, frames in film.looker.seen] == [[(2, 12)], [(0, 10), (10, 30), (50, 60), (60, 70)]]
    film.looker.seen.clear()
    assert await film.read(62, 20) == shown[62:82]
    assert film.looker.seen == [], "it was looked at before"
    assert await film.read(62, 20, "other") == shown[62:82]
    assert film.looker.lanes[-1] == "other"
    newer = FilmFrames(film.looker, film.room, film.table, "video/mp4", WORDS)
    with film.path.open("r+b") as file:
        file.seek(62)
        file.write(b"new")
    assert bytes((await newer.read(film.fd, 62, 3, "app"))[0]) == b"new", "of another lease"


@on_trio
async def test_reads_at_the_same_time_wait_for_one_look(film: Film) -> None:
    await film.read(8, 4)
    film.looker.gate = trio.Event()
    film.looker.seen.clear()
    async with trio.open_nursery() as nursery:
        for at in (12, 16, 20):
            nursery.start_soon(film.read, at, 4)
            await trio.testing.wait_all_tasks_blocked(0.01)
        film.looker.gate.set()
    assert len(film.looker.seen) == 1


@on_trio
async def test_what_cannot_be_shown_ahead_refuses_only_its_own_reads(film: Film) -> None:
    with film.path.open("r+b") as file:
        file.seek(63)
        file.write(film.looker.odd)
    assert await film.read(8, 4) == b"." * 4
    assert await film.read(12, 8) == bytes(6) + b".."
    data, why = await film.frames.read(film.fd, 60, 10, "app")
    assert (bytes(data), why) == (b"", "cannot be redacted: too odd")


@on_trio
async def test_a_read_that_is_cancelled_leaves_the_others_their_own_look(film: Film) -> None:
    await film.read(8, 4)
    film.looker.gate = trio.Event()
    with trio.move_on_after(0.01):
        await film.read(12, 8)
    film.looker.gate = None
    assert await film.read(12, 8) == bytes(6) + b".."


@on_trio
async def test_windows_are_kept_up_to_a_limit(film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3 * windows.KEPT_WINDOWS):
        for at in (8, 12):
            await film.read(at, 4, number)
    assert len(film.room.kept) == windows.KEPT_WINDOWS
    monkeypatch.setattr(windows, "AHEAD_BYTES", 3)
    film.room.kept.clear()
    await film.read(8, 4)
    assert await film.read(12, 8) == bytes(6) + b".."
    assert not film.room.kept, "its frames are too long to be kept"


@pytest.fixture
def short(film: Film, monkeypatch: pytest.MonkeyPatch) -> Film:
    """The film, with windows of 30 bytes for several reads."""
    monkeypatch.setattr(windows, "AHEAD_BYTES", 30)
    return film


async def in_order(film: Film, *, step: int = 4, start: int = 8, end: int = 100) -> bytes:
    parts = []
    for at in range(start, end, step):
        parts.append(await film.read(at, min(step, end - at)))
        for ahead in list(film.room.kept):
            await ahead.done.wait()
    return b"".join(parts)


@on_trio
async def test_the_next_window_is_looked_at_while_one_is_read(short: Film) -> None:
    shown = short.path.read_bytes().replace(SECRET, bytes(len(SECRET)))
    assert await in_order(short, end=20) == shown[8:20]
    assert [len(data) for data, _ in short.looker.seen[1:]] == [32, 38], "[10, 42) and [42, 80)"
    for step in (4, 5, 7):
        short.looker.seen.clear()
        short.room.kept.clear()
        assert await in_order(short, step=step) == shown[8:]
        assert len(short.looker.seen) == 4, "a read over the end of a window needs no look of its own"


@on_trio
async def test_a_look_ahead_that_fails_is_made_again_by_the_read(
    short: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = short.path.read_bytes().replace(SECRET, bytes(len(SECRET)))
    for name, broken, error in ((windows, "read_all", errno.EIO), (os, "dup", errno.EMFILE)):
        short.room.kept.clear()
        assert await in_order(short, end=16) == shown[8:16]

        def fails(*_: object, error: int = error) -> int:
            raise OSError(error, "")

        with monkeypatch.context() as patched:
            patched.setattr(name, broken, fails)
            assert await in_order(short, start=16, end=20) == shown[16:20]
        assert await in_order(short, start=20) == shown[20:]


@on_trio
async def test_memory_is_used_again_for_the_same_lane_and_ends_with_the_film(
    film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    def memories() -> int:
        places = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum("memfd:" in os.readlink(place) for place in places if place.is_symlink())

    gc.collect()  # films of other tests
    before = memories()
    made: list[int] = []

    def counted() -> int:
        made.append(new_memfd())
        return made[-1]

    monkeypatch.setattr(windows, "new_memfd", counted)
    for lane in ("app", "other"):
        for size in (90, 1, 40):
            await film.read(12, size, lane)
            assert film.looker.seen[-1][0] in film.path.read_bytes(), "and nothing of the window before"
    assert len(made) == 2
    for lane in range(10):
        await film.read(12, 1, lane)
    assert memories() < before + 10
    film.frames = FilmFrames(film.looker, film.room, film.table, "video/mp4", WORDS)
    assert memories() == before


@on_trio
async def test_windows_end_with_their_film(film: Film) -> None:
    other = FilmFrames(film.looker, film.room, film.table, "video/mp4", WORDS)
    for at in (8, 12):
        await film.read(at, 4)
        await other.read(film.fd, at, 4, "app")
    assert len(film.room.kept) == 2
    del film.frames
    assert [one.film() for one in film.room.kept] == [other]


@on_trio
async def test_a_checksum_is_the_same_in_each_read_whatever_is_read_first(
    film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one covers a secret, in the second batch of frames alone; the second one covers none."""
    monkeypatch.setattr(whole_plans, "BATCH_BYTES", 10)
    film.table.sums.extend((0, 50))
    film.table.covered.extend((50, 70))
    shown = bytearray(film.path.read_bytes().replace(SECRET, bytes(len(SECRET))))
    shown[:6] = b"\xec\x84" + bytes(4)
    for offset in [*range(55, 40, -1), *range(100)]:
        for size in (1, 3, 17, 200):
            assert await film.read(offset, size) == shown[offset : offset + size]
    film.looker.seen.clear()
    assert await film.read(0, 6) == shown[:6]
    assert film.looker.seen == [], "it was looked at before"


@on_trio
async def test_a_checksum_is_not_shown_if_its_frames_cannot_be_looked_at(film: Film) -> None:
    film.table.sums.append(50)
    film.table.covered.append(70)
    film.looker.refuses = True
    data, why = await film.frames.read(film.fd, 50, 1, "app")
    assert (bytes(data), why) == (b"", "cannot be redacted: too odd")
    film.looker.refuses = False
    assert await film.read(50, 6) == b"." * 6


@on_trio
async def test_a_worker_cannot_write_into_a_window(film: Film) -> None:
    await film.read(10, 10)
    assert film.looker.writes == "EBADF"


@on_trio
async def test_frames_that_are_refused_show_nothing(film: Film) -> None:
    film.looker.refuses = True
    data, why = await film.frames.read(film.fd, 10, 10, "app")
    assert (bytes(data), why) == (b"", "cannot be redacted: too odd")
    assert await film.read(0, 10) == b"." * 10


@on_trio
async def test_a_film_that_has_shrunk_shows_nothing_of_its_last_frames(film: Film) -> None:
    os.truncate(film.path, 75)
    data, why = await film.frames.read(film.fd, 65, 30, "app")
    assert (bytes(data), why) == (b"", "the film has shrunk")
    assert await film.read(80, 30) == b""


@on_trio
async def test_bytes_without_proof_are_not_shown(film: Film) -> None:
    proved: list[bool] = []

    async def proof(fd: int) -> bool:
        assert fd == film.fd
        return proved.pop()

    film.frames = FilmFrames(film.looker, film.room, film.table, "video/mp4", WORDS, proof)
    for offset, shown in ((0, b"." * 10), (10, b".." + bytes(6) + b"..")):
        proved.append(True)
        assert await film.read(offset, 10) == shown
        proved.append(False)
        data, why = await film.frames.read(film.fd, offset, 10, "app")
        assert (bytes(data), why) == (b"", "the film has changed")


@on_trio
async def test_a_window_is_bounded(film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_WINDOW_BYTES", 1 << 20)
    assert await film.read(10, 10)
    monkeypatch.setattr(windows, "MAX_WINDOW_BYTES", 19)
    assert await film.read(10, 10)
    data, why = await film.frames.read(film.fd, 25, 1, "app")
    assert bytes(data) == b""
    assert why


@on_trio
async def test_an_app_has_few_windows_at_once_and_keeps_no_other_app_out(film: Film) -> None:
    film.looker.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(film.read, 60, 10, "hog")
        nursery.start_soon(film.read, 60, 10, "honest")
        with trio.fail_after(10):
            while len(film.looker.lanes) < windows.WINDOWS_AT_ONCE + 1:  # noqa: ASYNC110 # windows are threads'
                await trio.sleep(0.001)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert sorted(map(str, film.looker.lanes)) == ["hog"] * windows.WINDOWS_AT_ONCE + ["honest"]
        film.looker.gate.set()

"""The room of what is kept: ages, and each app's share."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from policyfs.store.kept.bins import Bins, Kept, day_of, new_name
from policyfs.store.kept.record import Record
from policyfs.store.kept.room import NoRoomError, Room
from policyfs.trail.lines.line import iso_time

DAY_S, BLOCK = 86_400, 4096
NOW_NS = time.time_ns()


def keep(bins: Bins, app: str, days_ago: float, blocks: int, age_days: int = 30) -> str:
    """Keep a file that was lost so many days ago."""
    at = NOW_NS - int(days_ago * DAY_S * 10**9)
    until_s = at // 10**9 + age_days * DAY_S
    where = bins.of(app, until_s)
    name = new_name(at)
    where.append(Record(at, "unlink", b"/a", until_s, kept=name))
    path = f"/proc/self/fd/{where.fd}/{name}"
    Path(path).write_bytes(b"x" * BLOCK * blocks)
    return name


@pytest.fixture
def bins(tmp_path: Path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    made = Bins(fd, "machine")
    yield made
    made.close()
    os.close(fd)


def names(bins: Bins, app: str) -> list[str]:
    return [name for day in bins.days(app) for name in bins.names(app, day)]


def test_what_is_old_enough_goes_and_no_younger(bins: Bins, tmp_path: Path) -> None:
    keep(bins, "sync", 32, 1)
    young = keep(bins, "sync", 29, 1)
    Room(os.open(tmp_path, os.O_RDONLY)).tend(bins)
    assert names(bins, "sync") == [young]
    assert day_of(NOW_NS // 10**9 - 2 * DAY_S) not in bins.days("sync")


def test_the_oldest_of_the_app_with_most_goes_first(bins: Bins, tmp_path: Path) -> None:
    """One app that loses much pushes out nothing of another, and nothing of the last day."""
    others = keep(bins, "camera", 20, 2)
    keep(bins, "sync", 10, 10)
    older, new = keep(bins, "sync", 9, 10), keep(bins, "sync", 0, 10)
    room = Room(os.open(tmp_path, os.O_RDONLY), 28 * BLOCK)
    room.tend(bins)
    assert (names(bins, "camera"), names(bins, "sync")) == ([others], [older, new])
    assert (room.files, room.lost) == (3, 1)


def test_a_full_share_refuses_its_app_alone(bins: Bins, tmp_path: Path) -> None:
    room = Room(os.open(tmp_path, os.O_RDONLY), 10 * BLOCK)
    room.took("sync", 9 * BLOCK)
    room.took("camera", 1)
    with pytest.raises(NoRoomError, match="--keep-size"):
        room.check("sync", BLOCK)
    room.check("camera", 2 * BLOCK)


def test_a_copy_under_way_counts(bins: Bins, tmp_path: Path) -> None:
    """Many copies at once fill no more than one after the other."""
    room = Room(os.open(tmp_path, os.O_RDONLY), 10 * BLOCK)
    room.check("sync", 6 * BLOCK, reserve=True)
    with pytest.raises(NoRoomError):
        room.check("sync", 6 * BLOCK, reserve=True)


def test_memory_does_not_grow_with_what_is_kept(bins: Bins, tmp_path: Path) -> None:
    """Neither that of a daemon, which counts all and removes some, nor of a list of the last hour."""
    for number in range(3000):
        keep(bins, "sync", 1 + number / 1000, 0)
    new = keep(bins, "sync", 0, 1)
    room = Room(os.open(tmp_path, os.O_RDONLY), 1 << 30)
    since_ns = NOW_NS - 3600 * 10**9
    for _ in range(2):  # the first time imports
        tracemalloc.start()
        room.tend(bins)
        found = [record.kept for _, record in bins.records("sync", since_ns)]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (found, room.files) == ([new], 3001)
    assert peak < 200_000, peak


def test_after_a_removal_the_oldest_that_is_left_is_told(bins: Bins, tmp_path: Path) -> None:
    for days_ago in range(12, 2, -1):
        keep(bins, "sync", days_ago, 1)
    room = Room(os.open(tmp_path, os.O_RDONLY), 10 * BLOCK)
    room.tend(bins)
    (oldest, *_) = left = names(bins, "sync")
    assert (room.files, room.lost) == (len(left), 10 - len(left))
    assert room.lost > 0
    assert room.report()["oldest"] == iso_time(int(oldest[:16], 16))


@pytest.mark.parametrize("name", ["\0", "/etc/passwd", "../records", 7])
def test_a_forged_name_is_nothing_that_is_kept(bins: Bins, name: str) -> None:
    day = day_of(NOW_NS // 10**9 + 30 * DAY_S)
    there = keep(bins, "sync", 0, 1)
    assert bins.is_there(Kept("machine", "sync", day, there))
    assert not bins.is_there(Kept("machine", "sync", day, name))

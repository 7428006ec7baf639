"""The room of what is kept: ages, and each app's share."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from policyfs.store.kept.bins import Bins, day_of, new_name
from policyfs.store.kept.record import Record
from policyfs.store.kept.room import NoRoomError, Room

DAY_S, BLOCK = 86_400, 4096
NOW_NS = time.time_ns()


def keep(bins: Bins, app: str, days_ago: int, blocks: int, age_days: int = 30) -> str:
    """Keep a file that was lost so many days ago."""
    at = NOW_NS - days_ago * DAY_S * 10**9
    where = bins.of(app, at // 10**9 + age_days * DAY_S)
    name = new_name(at)
    where.append(Record(at, "unlink", b"/a", 0, kept=name))
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

"""Locks of open file descriptions, as the kernel has them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from policyfs.store.locking.ofd import RDLCK, UNLCK, WRLCK, Asked, Blocker, Owner, find_blocker, set_lock
from policyfs.store.spans import LAST_BYTE

FLOCK, RANGES = Owner(1, True), Owner(1, False)


@pytest.fixture
def two(tmp_path) -> Iterator[tuple[int, int]]:
    """Two open file descriptions of one file."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    fds = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield fds
    for fd in fds:
        os.close(fd)


def asked(start: int, end: int, kind: int = WRLCK) -> Asked:
    return Asked(start, end, kind, 7)


@pytest.mark.parametrize(
    ("mine", "its", "free"),
    [
        (asked(0, 9), asked(10, 19), True),
        (asked(0, 9), asked(9, 19), False),
        (asked(10, 19), asked(0, 9), True),
        (asked(10, 19), asked(0, 10), False),
        (asked(5, 5), asked(5, 5), False),
        (asked(5, LAST_BYTE), asked(1 << 40, 1 << 40), False),
        (asked(5, LAST_BYTE), asked(0, 4), True),
        (asked(0, 9, RDLCK), asked(0, 9, RDLCK), True),
        (asked(0, 9, RDLCK), asked(0, 9, WRLCK), False),
    ],
)
def test_ranges_are_inclusive(two, mine, its, free):
    one, other = two
    assert set_lock(one, RANGES, mine)
    assert (find_blocker(other, its) is None) is free
    assert set_lock(other, RANGES, its) is free
    assert set_lock(one, RANGES, asked(0, LAST_BYTE, UNLCK))
    assert set_lock(other, RANGES, its)


@pytest.mark.parametrize("end", [9, LAST_BYTE])
def test_a_blocker_is_told_as_it_was_set(two, end):
    one, other = two
    assert set_lock(one, RANGES, asked(3, end, RDLCK))
    assert find_blocker(other, asked(0, 5)) == Blocker(3, end, RDLCK, 0)
    assert find_blocker(one, asked(0, 5)) is None


def test_whole_files(two):
    one, other = two
    assert set_lock(one, FLOCK, asked(0, 0, RDLCK))
    assert set_lock(other, FLOCK, asked(0, 0, RDLCK))
    assert not set_lock(other, FLOCK, asked(0, 0, WRLCK))
    assert set_lock(one, FLOCK, asked(0, 0, UNLCK))
    assert set_lock(other, FLOCK, asked(0, 0, WRLCK))
    assert not set_lock(one, FLOCK, asked(0, 0, RDLCK))


def test_other_errors_are_errors(two, tmp_path):
    reader = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            set_lock(reader, RANGES, asked(0, 0, WRLCK))
    finally:
        os.close(reader)

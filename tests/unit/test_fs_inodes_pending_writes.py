"""Bytes that are not in the store yet: a held head, and a draft in an unnamed file."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.fs.inodes import pending_writes
from policyfs.fs.inodes.handles import HandleTable
from policyfs.fs.inodes.open_state import OpenState
from policyfs.fs.inodes.pending_writes import Draft, Head, KeptBytes, base_of
from policyfs.linux.statx import Stat


def stat(size: int = 0, mtime_ns: int = 5, atime_ns: int = 4) -> Stat:
    return Stat(2, 1, 0o100644, 1, 0, 0, size, 0, 4096, atime_ns, mtime_ns, 0, 7)


@pytest.fixture
def draft(tmp_path: Path) -> Iterator[Draft]:
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    made = Draft(fd, stat(10), created=False)
    yield made
    made.close()


def test_a_head_is_held_only_of_a_file_that_was_empty() -> None:
    assert Head(0).held == b""
    assert Head(1).held is None
    head = Head(0)
    assert head.size(0) == 0
    head.held = b"12345"
    assert (head.size(0), head.size(3), head.size(9)) == (5, 5, 9)
    head.held = None
    assert head.size(3) == 3


def test_all_heads_together_hold_no_more_than_their_limit() -> None:
    shares, piece = HandleTable().held_bytes, bytes(1 << 20)
    states: list[OpenState] = []
    heads: list[Head] = []

    def hold(holder: str) -> int:
        """Hold as much as an app gets. Return the number of its heads."""
        for number in range(100):
            heads.append(Head(0))
            states.append(OpenState())
            states[-1].head = heads[-1]
            if not heads[-1].has_room_for(piece, holder, shares):
                return number
            heads[-1].held = piece
        return 100

    assert hold("greedy") in {31, 32}, "one app gets half"
    assert heads[0].has_room_for(piece[1:], "greedy", shares)
    assert not heads[0].has_room_for(piece + piece, "greedy", shares)
    assert hold("honest") in {15, 16}, "the next one gets half of the rest, however greedy the first is"
    assert heads[0].has_room_for(piece, "greedy", shares), "no more than before"
    assert Head(0).has_room_for(piece, "third", shares)
    for number, state in enumerate(states):
        if number % 2:
            state.drop_held()
        else:
            state.head = Head(0)
    assert shares.used == 0
    assert shares.held("greedy") == 0


def test_a_write_makes_a_draft_changed_and_its_times_and_refusal_old(draft: Draft) -> None:
    assert not draft.changed
    draft.times_ns, draft.unchanged = (1, 2), True
    draft.touch()
    assert (draft.changed, draft.unchanged, draft.times_ns) == (True, False, None)


def test_new_times_go_along_unless_another_writer_was_there(draft: Draft) -> None:
    assert draft.base == base_of(stat(10)) == (10, 5)
    draft.dated(stat(10), stat(10, mtime_ns=99, atime_ns=98))
    assert (draft.base, draft.times_ns) == ((10, 99), (98, 99))
    draft.dated(stat(11, mtime_ns=99), stat(11, mtime_ns=200))
    assert draft.base is None, "the times do not hide the other's change"
    draft.dated(stat(11, mtime_ns=200), stat(11, mtime_ns=300))
    assert draft.base is None, "nor do later ones"


def test_the_access_time_alone_leaves_the_file_the_time_of_the_last_write(draft: Draft) -> None:
    draft.dated(stat(10), stat(10, atime_ns=98), modified=False)
    assert draft.times_ns == (98, 5), "nothing was written"
    draft.touch()
    os.pwrite(draft.fd, b"abc", 0)
    written_ns = os.fstat(draft.fd).st_mtime_ns
    for time_ns in (97, 96):
        draft.dated(stat(10), stat(10, atime_ns=time_ns), modified=False)
        assert draft.times_ns == (time_ns, written_ns)
    draft.put_off(stat(10))
    assert draft.times_ns == (96, written_ns)


def test_a_draft_has_the_size_of_its_own_file(draft: Draft) -> None:
    assert draft.size == 0
    os.pwrite(draft.fd, b"abc", 4)
    assert draft.size == 7


def test_a_descriptor_that_was_given_away_is_not_closed(draft: Draft) -> None:
    fd = draft.give()
    draft.close()
    os.fstat(fd)
    os.close(fd)


def test_a_draft_is_closed_once(draft: Draft) -> None:
    fd = draft.fd
    draft.close()
    again = os.open("/dev/null", os.O_RDONLY)
    assert again == fd, "the number is free again"
    draft.close()
    os.fstat(again)
    os.close(again)


def test_what_is_written_or_cut_off_is_not_kept() -> None:
    kept = KeptBytes(100)
    assert list(kept.ranges()) == [(0, 100)]
    kept.drop(10, 20)
    kept.drop(90, 120)
    kept.drop(30, 30)
    assert list(kept.ranges()) == [(0, 10), (20, 90)]
    kept.cut(50)
    kept.cut(200)
    kept.drop(150, 160)
    assert list(kept.ranges()) == [(0, 10), (20, 50)], "bytes behind the end do not come back"
    kept.cut(0)
    assert not kept.ranges()


def test_a_new_file_has_nothing_to_keep() -> None:
    kept = KeptBytes()
    kept.drop(0, 10)
    assert not kept.ranges()


@pytest.mark.parametrize("most", [3, 8, 1000])
@pytest.mark.parametrize("seed", range(20))
def test_no_written_byte_is_kept_however_many_writes_there_are(monkeypatch, seed: int, most: int) -> None:
    monkeypatch.setattr(pending_writes, "_MOST_WRITES", most)
    chance = random.Random(seed)
    kept, model = KeptBytes(300), set(range(300))
    for _ in range(200):
        at = chance.randrange(320)
        if chance.random() < 0.02:
            kept.cut(at)
            model -= set(range(at, 300))
        else:
            end = at + chance.randrange(4)
            kept.drop(at, end)
            model -= set(range(at, end))
        found = {byte for start, end in kept.ranges() for byte in range(start, end)}
        assert found <= model
        assert most < 1000 or found == model
        assert len(list(kept.ranges())) <= most + most // 2 + 1

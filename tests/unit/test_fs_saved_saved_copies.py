"""The copies that outlive a daemon: a record is of what was saved, or there is none."""

from __future__ import annotations

import os

from policyfs.domain import Ranges
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.saved_copies import SavedCopy, inode_of

COPY = SavedCopy(
    7, 0, (3, 4), 2**70, tuple(range(14)), (10, 20, 30), frozenset({"location", "time"}), ("app", 1000),
    "image/jpeg", frozenset({"location"}), Ranges(((5, 6), (9, 2)), 2, 8), True, 1.5, False, True, "memfd",
    10,
)  # fmt: skip


def test_a_copy_is_read_as_it_was_saved() -> None:
    state = SavedState(4)
    several = [COPY, COPY._replace(lane=None, kind=None), COPY._replace(lane=1000, is_film=False)]
    for serial, copy in enumerate(several):
        state.copies.put(serial, copy)
    state.copies.backed(1, 5)
    state.copies.backed(9, 6)
    state.copies.closing(2)
    found = state.copies.read()
    assert list(found.values()) == [COPY, several[1]._replace(backing_id=5)]
    first, second = found
    state.copies.keep(first, 77)
    state.copies.drop(second)
    state.copies.closing(77)
    assert state.copies.read() == {}


def test_a_record_has_the_first_ranges_and_no_broken_one_counts() -> None:
    state, many = SavedState(4), tuple((number, 1) for number in range(100))
    state.copies.put(1, COPY._replace(ranges=Ranges(many, 100, 100)))
    (copy,) = state.copies.read().values()
    assert copy.ranges == Ranges(many[:16], 100, 100)
    state.copies.put(2, COPY._replace(kind="k" * 2000))  # no room: it is not saved
    state.copies.put(3, COPY._replace(stat=()))
    state.copies.put(4, COPY._replace(ranges=Ranges(((1, 2),), "x", 3)))  # type: ignore[arg-type]
    assert len(state.copies.read()) == 3
    for fields in (b"", b"[]", b"{", b"[1, 2, 3]", b"[1, 2, 3, 4, 5, 6, 7, 8]"):
        slot = state.copies._table.take()
        assert slot is not None
        state.copies._table.put(slot, b"x" * 24 + fields)
    assert len(state.copies.read()) == 3


def test_the_inode_behind_a_descriptor() -> None:
    one, other = os.memfd_create("one"), os.memfd_create("other")
    assert inode_of(one) != inode_of(other)
    os.close(one)
    os.close(other)

"""Streams in pieces: where each byte lies in the file."""

from __future__ import annotations

from policyfs.domain import Patch
from policyfs.redact.core.cleaners import Found, Note
from policyfs.redact.mpeg.gathered import Gathered


def gathered() -> Gathered:
    pieces = Gathered()
    pieces.add(b"abc", 10)
    pieces.add_pieces([b"de", b"fg"], range(20, 40, 10))
    pieces.add(b"", 99)
    return pieces


def test_patches_are_cut_at_pieces():
    pieces = gathered()
    assert (pieces.join(), len(pieces)) == (b"abcdefg", 7)
    assert list(pieces.placed([Patch(2, b"XYZ"), Patch(5, zeros=2)])) == [
        *(Patch(12, b"X"), Patch(20, b"YZ"), Patch(30, zeros=2))
    ]
    assert pieces.ranges(0, 4) == [(10, 13), (20, 21)]
    into = Found()
    pieces.put(Found([Patch(3, b"D")], [Note(3, 1, "x", "y")]), into)
    assert into.patches == [Patch(20, b"D")]
    assert into.notes[0].offset == 20


def test_what_is_dropped_moves_the_rest():
    pieces = gathered()
    pieces.drop(4)
    assert pieces.join() == b"efg"
    assert pieces.ranges(0, 3) == [(21, 22), (30, 32)]
    pieces.add(b"h", 50)
    pieces.drop(1)
    assert (pieces.join(), pieces.place(2)) == (b"fgh", 50)
    pieces.drop(3)
    pieces.add(b"i", 60)
    assert (pieces.join(), pieces.place(0), len(pieces)) == (b"i", 60, 1)

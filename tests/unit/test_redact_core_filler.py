"""Filler: what says nothing, and what says too much to be filler."""

from __future__ import annotations

import time

import pytest

from policyfs.redact.core.filler import is_word, leftovers, names_a_muxer, range_says_nothing, says_nothing
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.exif.empty_values import value_says_nothing
from tests.support.samples.jpegs import ASCII, LONG, RATIONAL, SHORT, UNDEFINED, pack

SAYS_NOTHING = [
    b"",
    b"\0" * 99,
    b" " * 40,
    b"\xff" * 5,
    b"abc",
    b"\0\0\0\x08wide",
    b"\0\0\0\x08wide\0\0\0\0mdat",
    b"NHW_0001",
    b"II*\0\x08\0\0\0",
    b"\0\0\0\0II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"\0\0\x07\0\0\0",
    b"\0a\0\0",
]
SAYS_SOMETHING = [
    b"abcd",
    b"47.8",
    b"\0\x2f\0\0\0\x0d\0\0",
    b"wide",
    b"\0\0\0\x09wide",
    b"\0\0\0\x08wide\0\0\x2f\x50mdat",
    b"NHW_4780",
    b"II*\0\x2f\x0d\0\0",
    b"MM\0*47.8",
    b"    47",
    bytes(9) + b"Linz",
]


@pytest.mark.parametrize("data", SAYS_NOTHING)
def test_filler_says_nothing(data):
    assert says_nothing(data)
    assert range_says_nothing(MemorySource(b"Linz" + data + b"Graz"), 4, 4 + len(data))


@pytest.mark.parametrize("data", SAYS_SOMETHING)
def test_four_bytes_beside_zeros_may_say_something(data):
    assert not says_nothing(data)
    assert not range_says_nothing(MemorySource(data), 0, len(data))


@pytest.mark.parametrize("size", [300, 70_000, (1 << 20) + 5])
def test_long_runs_are_filler_if_nothing_stands_in_them(size):
    assert range_says_nothing(MemorySource(b"\xff" * size), 0, size)
    for at in (299, size - 4):
        run = bytearray(b"\xff" * size)
        run[at : at + 4] = b"47.8"[: size - at]
        assert not range_says_nothing(MemorySource(bytes(run)), 0, size)


def test_looking_at_zeros_takes_no_longer_than_reading_them():
    """A pattern over raw zeros would try each of them as a start."""
    source = MemorySource(bytes(8 << 20) + b"Linz, 47.8")
    begin = time.perf_counter()
    assert not range_says_nothing(source, 0, source.size)
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (LONG, 1, pack("II", 200)),
        (SHORT, 1, b"\x07\0\0\0"),
        (UNDEFINED, 40, bytes(40)),
        (SHORT, 3, b"\xff" * 6),
        (ASCII, 5, b"AUTO\0"),
        (ASCII, 4, b"---\0"),
        (LONG, 1, pack("II", 0xFFFFFFFF)),
        (UNDEFINED, 4, b"\0\0\0\x03"),
        (UNDEFINED, 4, b"\x03\0\0\0"),
    ],
)
def test_values_of_unnamed_tags_that_say_nothing(kind, count, value):
    assert value_says_nothing(kind, count, value, "<")


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (LONG, 1, pack("II", 478045)),
        (SHORT, 2, b"\x2f\0\x0d\0"),  # whole degrees
        (SHORT, 1, b"\x07\0\x2f\x0d"),  # something behind the value
        (RATIONAL, 1, pack("II", 47, 1)),
        (ASCII, 3, b"AT\0"),  # a country
        (ASCII, 3, b"NO\0"),  # another, and no word for "no value"
        (ASCII, 3, b"ON\0"),  # Ontario
        (ASCII, 4, b"NO \0"),
        (ASCII, 5, b"Linz\0"),
        (UNDEFINED, 4, b"Graz"),
        (UNDEFINED, 4, b"\x2f\0\0\x0d"),
        (UNDEFINED, 2, b"\x2f\x0d"),
        (UNDEFINED, 4, b"\0\x2f\x0d\0"),
        (LONG, 2, pack("II", 47, 13)),
    ],
)
def test_values_of_unnamed_tags_that_may_tell_a_place(kind, count, value):
    assert not value_says_nothing(kind, count, value, "<")


def test_words_and_writers():
    assert is_word(b"{}\0")
    assert is_word(b"Auto    ")
    assert is_word(b"No\0")
    assert is_word(b"off")
    assert not is_word(b"u26n7")
    line = b"IsoMedia File Produced with Google, 5-11-2011"
    assert names_a_muxer(line + b"\0")
    assert not names_a_muxer(line[:28] + b"47.80453, 13.04229")
    assert not names_a_muxer(b"Produced in Linz")


@pytest.mark.parametrize("run", [b"\xff" * 9, b" " * 70_000, b"ab"])
@pytest.mark.parametrize("before", [0, 12, 300])
@pytest.mark.parametrize("behind", [0, 4, (1 << 20) + 3])
def test_zeros_around_filler_change_nothing(run, before, behind):
    data = bytes(before) + run + bytes(behind)
    assert range_says_nothing(MemorySource(data), 0, len(data))
    spoiled = data + b"Linz"
    assert not range_says_nothing(MemorySource(spoiled), 0, len(spoiled))


def marked(marks: str, signs: str) -> Extents:
    return Extents((at, at + 1) for at, mark in enumerate(marks) if mark in signs)


@pytest.mark.parametrize(
    ("block", "marks", "expected"),
    [
        # c: claimed, g: claimed and gone, .: not claimed
        (b"head" + b"Zirbelstadt", "cccc...........", [(4, 15, False)]),
        (b"Zirbelstadt" + b"tail", "...........cccc", [(0, 11, False)]),
        (b"head" + b"abc" + b"tail", "cccc...cccc", [(4, 7, True)]),
        (b"head" + b"abcd" + b"tail", "cccc....cccc", [(4, 8, False)]),
        (b"head" + b"abc" + b"tail", "cccg...cccc", [(4, 7, False)]),
        (b"head" + b"abc" + b"tail", "cccc...gccc", [(4, 7, False)]),
        (b"head" + b"abc" + b"tail", "ccgc...cgcc", [(4, 7, True)]),
        (b"head" + bytes(3) + b"tail", "cccg...cccc", []),
        (b"a" + b"xy" + b"b" + b"Zirbelstadt", "c..c...........", [(1, 3, True), (4, 15, False)]),
        (b"all claimed", "ccccccccccc", []),
        (b"", "", []),
        (b"abc", "...", [(0, 3, True)]),
    ],
)
def test_what_says_nothing_stays_unless_it_is_beside_what_goes(block, marks, expected):
    found = leftovers(block, marked(marks, "cg"), marked(marks, "g"))
    assert [tuple(one) for one in found] == expected

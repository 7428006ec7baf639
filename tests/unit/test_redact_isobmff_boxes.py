"""Boxes: every form of a size, and sizes that lie."""

from __future__ import annotations

import pytest

from policyfs.redact.core.cleaners import MAX_PARTS, Budget, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.isobmff.boxes import Box, freed, full_box, read_box, read_boxes
from tests.support.samples.movies import box as make_box


def boxes(data: bytes, *, to_end: bool = False, parts: int = MAX_PARTS):
    return read_boxes(MemorySource(data), 0, len(data), Budget(parts, 0), to_end=to_end)


def test_small_large_and_extended_boxes():
    large = b"\0\0\0\1mdat" + (18).to_bytes(8) + b"ab"
    extended = (27).to_bytes(4) + b"uuid" + bytes(range(16)) + b"xyz"
    found = boxes(make_box(b"\xa9xyz", b"!") + large + extended)
    assert found.boxes == (
        Box(b"\xa9xyz", 0, 8, 9),
        Box(b"mdat", 9, 25, 27),
        Box(b"uuid", 27, 51, 54, bytes(range(16))),
    )
    assert found.rest == 54
    assert found.first(b"mdat") == found.boxes[1]
    assert found.first(b"moov") is None
    assert [box.size for box in found] == [9, 18, 27]


@pytest.mark.parametrize("behind", [b"", make_box(b"moov", b"")])
def test_a_box_of_an_unlikely_type_leads_to_another_one_or_to_the_end(behind):
    odd = make_box(b"\1\xff\3\4", b"47.80453, 13.04229")
    assert boxes(odd + behind).boxes[0].end == len(odd)
    assert not boxes(odd + b"\0\0\0\x09\xff\xff\xff\xff").boxes


@pytest.mark.parametrize(
    "junk",
    [
        b"\0\0\0\7free",  # smaller than its header
        b"\0\0\0\1mdat" + (15).to_bytes(8),
        b"\0\0\0\x17uuid" + bytes(15),
        b"\0\0\0\1mdat\0\0\0",  # no room for the large size
        b"\0\0\0",
        b"\0\0\0\x0b\x01\x02\x03\x04abcd",  # a type that is none, and a size that leads nowhere
        b"\0\0\0\0mdat",  # to the end: not in a container
    ],
)
def test_what_is_no_box_ends_the_list(junk):
    found = boxes(make_box(b"free", b"") + junk)
    assert len(found.boxes) == 1
    assert found.rest == 8


def test_a_size_that_lies_is_cut():
    found = boxes(make_box(b"free", b"") + b"\0\1\0\0moov1234")
    assert found.boxes[1] == Box(b"moov", 8, 16, 20, cut=True)
    large = boxes(b"\0\0\0\1mdat" + b"\xff" * 8 + b"1")
    assert large.boxes == (Box(b"mdat", 0, 16, 17, cut=True),)


def test_to_the_end_only_where_it_is_allowed():
    assert boxes(b"\0\0\0\0mdat123", to_end=True).boxes == (Box(b"mdat", 0, 8, 11, to_end=True),)
    assert read_box(MemorySource(b"\0\0\0\0mdat123"), 0, 11) is None


def test_end_of_a_quicktime_list():
    found = boxes(make_box(b"name", b"x") + bytes(4))
    assert (found.rest, found.ended) == (9, True)
    assert not boxes(make_box(b"name", b"x") + b"\0\0\0\1").ended


def test_many_boxes_are_too_many():
    with pytest.raises(TooMuchError):
        boxes(make_box(b"free", b"") * 11, parts=10)


def test_freed_keeps_the_form_of_the_size():
    assert freed(make_box(b"uuid", b"secret")) == make_box(b"free", bytes(6))
    large = b"\0\0\0\1loci" + (18).to_bytes(8) + b"ab"
    assert freed(large) == b"\0\0\0\1free" + (18).to_bytes(8) + b"\0\0"


def test_full_box():
    assert full_box(b"\1\0\0\7rest") == (1, 7)
    with pytest.raises(ValueError, match="too short"):
        full_box(b"\1\0\0")

"""The walk from marker to marker: where an image ends, and what is no part of it."""

from __future__ import annotations

import pytest

from policyfs.redact.core.cleaners import Budget, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.jpeg.markers import (
    COM,
    FIRST_CHUNK_BYTES,
    MAX_FILL_BYTES,
    SOS,
    Image,
    Segment,
    is_soi,
    walk_image,
    well_formed,
)
from tests.support.samples import jpegs
from tests.support.samples.jpegs import segment

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF0 = segment(0xC0, b"\x08\0\1\0\1\1\1\x11\0")
SCAN = segment(SOS, b"\1\1\0\0\x3f\0")
BODY = SOF0 + SCAN + b"data"


def walk(data: bytes, start: int = 0, *, to_scan: bool = False) -> Image:
    return walk_image(MemorySource(data), start, Budget(100, 1 << 20), to_scan=to_scan)


@pytest.mark.parametrize("behind", [b"", b"behind", SOI + BODY + EOI])
def test_an_image_ends_with_its_end_marker(behind):
    for before in (b"", b"before"):
        data = before + SOI + segment(COM, b"hello") + BODY + EOI + behind
        image = walk(data, len(before))
        assert image.complete
        assert image.is_picture
        assert data[image.end :] == behind
        assert image.segments == [Segment(COM, len(before) + 6, 5)]
        assert image.junk == []
        assert (image.frames, image.frame, image.scans) == (1, 0xC0, 1)
        assert data[image.scan_from : image.scan_from + 4] == b"data"


@pytest.mark.parametrize("cut", range(1, len(BODY) + 2))
def test_an_image_cut_off_is_not_complete(cut):
    data = (SOI + BODY + EOI)[:-cut]
    image = walk(data)
    assert not image.complete
    assert image.end <= len(data)
    assert image.is_picture == (cut <= 6)


def test_a_segment_cut_off_is_no_part():
    data = SOI + segment(COM, b"hello")[:-1]
    image = walk(data)
    assert image.end == 2
    assert image.segments == []


@pytest.mark.parametrize("code", [0x01, *range(0xD0, 0xD8)])
def test_markers_that_stand_alone_have_no_length(code):
    image = walk(SOI + bytes((0xFF, code)) + BODY + EOI)
    assert image.complete


def test_restarts_and_zeros_belong_to_the_scan():
    scan = b"a\xff\0b\xff\xd0c\xff\xff"
    image = walk(SOI + SOF0 + SCAN + scan + EOI)
    assert image.complete
    assert image.junk == []


@pytest.mark.parametrize("code", [0x02, 0xBF, 0xC8, 0xDE, 0xDF, 0xF0, 0xFD])
def test_other_markers_end_an_image(code):
    data = SOI + SOF0 + segment(code, b"x" * 9) + SCAN + EOI
    image = walk(data)
    assert not image.complete
    assert image.end == len(SOI + SOF0)


@pytest.mark.parametrize(
    ("fill", "junk"),
    [
        (b"\xff", 0),
        (b"\xff" * MAX_FILL_BYTES, 0),
        (b"\xff" * (MAX_FILL_BYTES + 3), 3),
        (b"ab", 2),
        (b"\xff\0a", 2),
    ],
)
def test_fill_bytes_stay_and_others_are_junk(fill, junk):
    data = SOI + SOF0 + fill + SCAN + EOI
    image = walk(data)
    assert image.complete
    assert sum(end - start for start, end in image.junk) == junk


def test_what_follows_a_scan_up_to_a_marker_is_the_scan():
    image = walk(SOI + SOF0 + SCAN + b"Zirbelstadt" + segment(COM, b"x") + b"junk" + EOI)
    assert [end - start for start, end in image.junk] == [4]


@pytest.mark.parametrize("length", [0, 1])
def test_an_impossible_length(length):
    """Of metadata: it is empty then; of a part that is needed: the image ends."""
    bad = b"\xff\xfe" + length.to_bytes(2)
    image = walk(SOI + bad + BODY + EOI)
    assert image.bad_lengths == [4]
    assert image.segments == [Segment(COM, 6, 0)]
    assert image.complete
    for code in (0xC0, SOS):
        image = walk(SOI + bytes((0xFF, code)) + length.to_bytes(2) + BODY + EOI)
        assert image.end == 2
    image = walk(SOI + b"\xff\xdb" + length.to_bytes(2) + BODY + EOI)
    assert image.bad_lengths == [4]
    assert image.segments == []


@pytest.mark.parametrize(
    "at", [FIRST_CHUNK_BYTES - 1, FIRST_CHUNK_BYTES, 3 * FIRST_CHUNK_BYTES, 1 << 18, 1 << 19]
)
def test_a_marker_is_found_wherever_it_lies(at):
    data = SOI + SOF0 + SCAN + b"a" * at + EOI + b"behind"
    image = walk(data)
    assert image.complete
    assert image.end == len(data) - 6


def test_a_scan_ends_where_a_file_of_boxes_begins():
    video = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
    data = SOI + SOF0 + SCAN + b"scan" + video + b"\xff\xd9"
    assert walk(data).end <= data.index(video) + len(video)
    assert not walk(data).complete


def test_the_header_alone():
    data = SOI + segment(COM, b"x") + SOF0 + SCAN + b"data"
    image = walk(data, to_scan=True)
    assert image.end == len(data) - 4
    assert image.is_picture


def test_segments_are_paid_for():
    data = SOI + segment(COM, b"") * 100 + BODY + EOI
    with pytest.raises(TooMuchError):
        walk(data)


def test_zeros_without_a_marker_cost_twice():
    with pytest.raises(TooMuchError):
        walk_image(MemorySource(SOI + SOF0 + SCAN + bytes(1000)), 0, Budget(100, 1500))
    walk_image(MemorySource(SOI + SOF0 + SCAN + bytes(1000)), 0, Budget(100, 2200))


def test_what_lies_behind_a_cut_is_forgotten():
    image = Image(
        0, segments=[Segment(COM, 4, 6), Segment(COM, 14, 6)], junk=[(10, 12), (20, 25)], bad_lengths=[9, 20]
    )
    image.cut(20)
    assert image.segments == [Segment(COM, 4, 6), Segment(COM, 14, 6)]
    assert image.junk == [(10, 12)]
    assert image.bad_lengths == [9]
    image.cut(19)
    assert image.segments == [Segment(COM, 4, 6)]


@pytest.mark.parametrize(
    ("data", "starts"), [(b"\xff\xd8\xff", True), (b"\xff\xd8", False), (b"\xff\xd8\0", False)]
)
def test_soi(data, starts):
    assert is_soi(MemorySource(b"ab" + data), 2) is starts


TABLE = b"\0" + bytes((0, 1, *14 * [0])) + b"a"
PLACE = b"47.80453, 13.04229"


@pytest.mark.parametrize(
    ("code", "payload", "good"),
    [
        (0xC0, SOF0[4:], True),
        (0xC2, SOF0[4:] + b"x", False),
        (0xC0, SOF0[4:-1], False),
        (0xC0, b"\x08\0\1\0\1", False),
        (SOS, SCAN[4:], True),
        (SOS, SCAN[4:] + b"x", False),
        (SOS, b"", False),
        (0xDD, b"ab", True),
        (0xDD, b"abc", False),
        (0xDC, b"a", False),
        (0xCC, b"", True),
        (0xCC, b"\x00\x10\x13\x05", True),
        (0xCC, b"\x00\x10\x13", False),
        (0xCC, b"\x20\x10", False),
        (0xCC, b"\x04\x10", False),
        (0xCC, PLACE, False),
        (0xDB, b"\0" + bytes(64), True),
        (0xDB, b"\3" + bytes(64) + b"\x10" + bytes(128), True),
        (0xDB, b"\0" + bytes(63), False),
        (0xDB, b"\4" + bytes(64), False),
        (0xDB, b"\x20" + bytes(64), False),
        (0xDB, b"\x10" + bytes(64), False),
        (0xDB, b"\0" + bytes(64) + PLACE, False),
        (0xC4, TABLE, True),
        (0xC4, TABLE + TABLE, True),
        (0xC4, TABLE[:-1], False),
        (0xC4, TABLE + b"x", False),
        (0xC4, b"\0" + bytes((255, 1, *14 * [0])) + bytes(256), True),
        (0xC4, b"\0" + bytes((255, 2, *14 * [0])) + bytes(257), False),
        (0xC4, b"\0", False),
    ],
)
def test_the_shape_of_what_decoding_needs(code, payload, good):
    assert well_formed(code, payload) is good


def test_a_real_photo_has_no_junk():
    image = walk(jpegs.plain())
    assert image.complete
    assert image.junk == []
    assert image.end == len(jpegs.plain())

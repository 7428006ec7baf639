"""Segments of a JPEG: each kind alone, and blocks that span several of them."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Note
from policyfs.redact.jpeg.markers import APP0, COM, Segment
from policyfs.redact.jpeg.segments import (
    APP1,
    APP2,
    APP12,
    APP13,
    APP14,
    DUCKY_HEADER,
    EXIF_HEADER,
    GAIN_MAP_HEADER,
    ICC_HEADER,
    LOOKED_INTO,
    MPF_HEADER,
    PHOTOSHOP_HEADER,
    XMP_HEADER,
    Loaded,
    clean_segments,
    mpf_offsets,
)
from tests.support.samples import jpegs
from tests.support.samples.inners import PLACES, Plain

PLACE = b"at 47.804531, 13.042287"


class Blocks(Plain):
    """Blanks the word PLACE in every block; does not understand one that is broken."""

    def tiff(self, data: bytes) -> Cleaned | None:
        return None if b"broken" in data else self._blank(data)

    def xmp(self, data: bytes) -> Cleaned:
        return self._blank(data)

    def irb(self, data: bytes) -> Cleaned | None:
        return None if b"broken" in data else self._blank(data)

    def jpeg(self, data: bytes) -> Cleaned | None:
        return None if b"broken" in data else self._blank(data)

    def _blank(self, data: bytes) -> Cleaned:
        at = data.find(b"PLACE")
        notes = (Note(at, 5, "block", "place", Tells.LOCATION),) if at >= 0 else ()
        return Cleaned(data.replace(b"PLACE", b"     "), notes)


def clean(*segments: tuple[int, bytes], inner: Plain | None = None) -> list[Loaded]:
    """The segments as if they were one behind the other in a file."""
    at, placed = 2, []
    for code, payload in segments:
        placed.append(Segment(code, at + 4, len(payload)))
        at += 4 + len(payload)
    done = clean_segments(placed, [payload for _, payload in segments], inner or Blocks())
    assert all(len(segment.new) == len(segment.old) for segment in done)
    return done


def one(code: int, payload: bytes, inner: Plain | None = None) -> bytes:
    (segment,) = clean((code, payload), inner=inner)
    assert bool(segment.notes) == (segment.new.strip(b"\0") != segment.old.strip(b"\0"))
    return segment.new


@pytest.mark.parametrize("code", [APP0 + n for n in range(16)])
def test_a_segment_that_nobody_knows_becomes_zeros(code: int) -> None:
    (segment,) = clean((code, b"what " + PLACE))
    assert segment.new == bytes(5 + len(PLACE))
    assert [(note.container, note.tells) for note in segment.notes] == [(f"APP{code - APP0}", UNKNOWN)]
    assert (code in LOOKED_INTO) == (code in (APP0, APP1, APP2, APP12, APP13, APP14))


@pytest.mark.parametrize(
    ("text", "hide", "stays"),
    [
        (b"a quince", Tells.LOCATION, True),
        (PLACE, Tells.LOCATION, False),
        (PLACE, Tells.TIME, True),
        (b"a quince", Tells.PEOPLE, False),
        (b"\0\1\2\3 no prose", Tells.TIME, False),
    ],
)
def test_comments(text: bytes, hide: Tells, stays: bool) -> None:
    assert one(COM, text, Plain(hide)) == (text if stays else bytes(len(text)))


def test_a_comment_beyond_the_budget_goes_unread() -> None:
    inner = Plain()
    inner._budget.texts = 7
    assert one(COM, b"quince", inner) == b"quince"
    assert one(COM, b"quince", inner) == bytes(6)


def test_the_numbers_of_a_gain_map_beyond_the_budget_go_unread() -> None:
    inner = Plain()
    inner._budget.texts = 60
    numbers = GAIN_MAP_HEADER + b"7" * 34
    assert one(APP2, numbers, inner) == numbers
    assert one(APP2, numbers, inner) == bytes(len(numbers))


JFIF = b"JFIF\0\1\2\0\0\1\0\1"


@pytest.mark.parametrize(
    ("payload", "hide", "left"),
    [
        (JFIF + b"\0\0", UNKNOWN, JFIF + b"\0\0"),
        (JFIF + b"\0\0secret", Tells.LOCATION, JFIF + bytes(8)),
        (JFIF + b"\1\2picturesecret", Tells.LOCATION, JFIF + b"\1\2pictur" + bytes(7)),
        (JFIF + b"\1\2pictur", Tells.OTHER, JFIF + bytes(8)),
        (JFIF + b"\1", Tells.LOCATION, bytes(13)),
        (b"JFXX\0\x10photo PLACE", Tells.LOCATION, b"JFXX\0\x10photo      "),
        (b"JFXX\0\x10photo PLACE", Tells.OTHER, bytes(17)),
        (b"JFXX\0\x10broken", Tells.LOCATION, bytes(12)),
        (b"JFXX\0\x11photo", Tells.LOCATION, bytes(11)),
        (b"AVI1abcdefghijsecret", Tells.LOCATION, b"AVI1abcdefghij" + bytes(6)),
    ],
)
def test_the_first_segment_of_a_picture(payload: bytes, hide: Tells, left: bytes) -> None:
    assert one(APP0, payload, Blocks(hide)) == left


def ducky(*values: tuple[int, bytes], end: bytes = b"\0\0") -> bytes:
    return DUCKY_HEADER + b"".join(tag.to_bytes(2) + len(v).to_bytes(2) + v for tag, v in values) + end


def test_texts_of_save_for_web_go_one_by_one() -> None:
    data = ducky((1, b"\0\0\0\x3c"), (2, PLACE), (3, b"a quince"))
    assert one(APP12, data, Plain()) == ducky((1, b"\0\0\0\x3c"), (3, b"a quince")).ljust(len(data), b"\0")
    assert one(APP12, data, Plain(Tells.PEOPLE)) == ducky((1, b"\0\0\0\x3c")).ljust(len(data), b"\0")
    assert not any(one(APP13, data, Plain())), "in no other segment"
    for broken in (ducky((1, b"abcd"))[:-4], ducky((4, b"abcd")), ducky((1, b"quince")), ducky((1, b""))):
        assert not any(one(APP12, broken, Plain()))


PHOTOSHOP_6 = bytes.fromhex("41646f62650064400000000103001003020306") + bytes(12)


@pytest.mark.parametrize(
    ("code", "payload", "left"),
    [
        (APP14, b"Adobe\0\x64\0\0\0\0\1", b"Adobe\0\x64\0\0\0\0\1"),
        (APP14, b"Adobe\0\x64\0\0\0\0\1secret", b"Adobe\0\x64\0\0\0\0\1" + bytes(6)),
        (APP14, b"Adobe\0\x64\0\0\0\0", bytes(11)),
        (APP14, PHOTOSHOP_6, PHOTOSHOP_6),
        (APP14, PHOTOSHOP_6[:-1] + b"\1", PHOTOSHOP_6[:12] + bytes(19)),
        (APP13, b"Adobe_CM\0\1\2", b"Adobe_CM\0\1\2"),
        (APP13, b"Adobe_CM\0\1\2x", bytes(12)),
        *(
            (APP2, GAIN_MAP_HEADER + bytes(n), GAIN_MAP_HEADER + bytes(n))
            for n in (4, 34, 37, 58, 61, 74, 77, 138, 141)
        ),
        (APP2, GAIN_MAP_HEADER + bytes(4) + b"a quince", bytes(len(GAIN_MAP_HEADER) + 12)),
        (APP2, GAIN_MAP_HEADER + bytes(61 - len(PLACE)) + PLACE, bytes(len(GAIN_MAP_HEADER) + 61)),
        (APP1, XMP_HEADER + b"<PLACE/>", XMP_HEADER + b"<     />"),
    ],
)
def test_segments_of_numbers_stay_and_nothing_behind_them(code: int, payload: bytes, left: bytes) -> None:
    assert one(code, payload) == left


@pytest.mark.parametrize("head", [b"Exif\0\0", b"Exif\0\xff", b"eXIF\0\0", b"abExif\0\0", b"abcdExif\0\0"])
def test_exif_is_cleaned_under_every_header_that_lax_readers_take(head: bytes) -> None:
    out = one(APP1, head + b"II*\0 PLACE ")
    assert out == bytes(len(head) - 6) + head[-6:] + b"II*\0       "
    assert one(APP1, b"abcdeExif\0\0II*\0 PLACE ") == bytes(22)


def test_exif_may_continue_in_the_next_segment() -> None:
    first, second = clean((APP1, EXIF_HEADER + b"II*\0 PL"), (APP1, EXIF_HEADER + b"ACE and"))
    assert (first.new, second.new) == (EXIF_HEADER + b"II*\0   ", EXIF_HEADER + b"    and")
    assert [(note.offset, note.length) for note in first.notes] == [(11, 2)]
    apart = clean((APP1, EXIF_HEADER + b"II*\0 PL"), (COM, b"a"), (APP1, EXIF_HEADER + b"ACE and"))
    assert apart[0].new == EXIF_HEADER + b"II*\0 PL"
    again = clean((APP1, EXIF_HEADER + b"II*\0 PL"), (APP1, EXIF_HEADER + b"II*\0 PLACE"))
    assert again[1].new == EXIF_HEADER + b"II*\0      "
    broken = clean((APP1, EXIF_HEADER + b"II*\0 bro"), (APP1, EXIF_HEADER + b"ken"))
    assert [any(segment.new) for segment in broken] == [False, False]
    assert all(note.broken for segment in broken for note in segment.notes)


class Zeros(Blocks):
    """Writes zeros over the word PLACE."""

    def tiff(self, data: bytes) -> Cleaned:
        return Cleaned(data.replace(b"PLACE", bytes(5)))


@pytest.mark.parametrize("end", [b"II*PLACE", b"MMPLACE*"])
def test_exif_whose_second_part_would_become_a_structure_of_its_own_is_removed(end: bytes) -> None:
    """Otherwise a reader of the redacted file would no longer join the two parts."""
    parts = clean((APP1, EXIF_HEADER + b"II*\0 and"), (APP1, EXIF_HEADER + end), inner=Zeros())
    if end.startswith(b"MM"):
        assert parts[1].new == EXIF_HEADER + b"MM\0\0\0\0\0*"
    else:
        assert [any(part.new) for part in parts] == [False, False]
        assert all(note.broken for part in parts for note in part.notes)


def test_resources_of_photoshop_may_continue_in_the_next_segment() -> None:
    parts = clean((APP13, PHOTOSHOP_HEADER + b"8BIM PL"), (APP13, PHOTOSHOP_HEADER + b"ACE and"))
    assert [part.new for part in parts] == [PHOTOSHOP_HEADER + b"8BIM   ", PHOTOSHOP_HEADER + b"    and"]
    gone = clean((APP13, PHOTOSHOP_HEADER + b"8BIM bro"), (APP13, PHOTOSHOP_HEADER + b"ken"))
    assert not any(any(part.new) for part in gone)


PROFILE = (200).to_bytes(4) + bytes(32) + b"acsp" + b"p" * 160


def icc(number: int, total: int, data: bytes) -> tuple[int, bytes]:
    return APP2, ICC_HEADER + bytes([number, total]) + data


def test_a_profile_stays_if_it_is_whole() -> None:
    halves = icc(1, 2, PROFILE[:99]), icc(2, 2, PROFILE[99:])
    assert [part.new for part in clean(*halves)] == [payload for _, payload in halves]
    assert [part.new for part in clean(*halves[::-1])] == [payload for _, payload in halves[::-1]]
    assert one(*icc(1, 1, PROFILE + b"secret")) == icc(1, 1, PROFILE + bytes(6))[1]


@pytest.mark.parametrize(
    "parts",
    [
        [icc(1, 2, PROFILE)],
        [icc(0, 1, PROFILE)],
        [icc(1, 1, PROFILE[:-1])],
        [icc(1, 1, PROFILE.replace(b"acsp", b"acsq"))],
        [icc(1, 2, PROFILE[:99]), icc(2, 3, PROFILE[99:])],
        [icc(1, 2, PROFILE[:99]), icc(1, 2, PROFILE[99:])],
        [icc(1, 1, (100).to_bytes(4) + PROFILE[4:])],
        [(APP2, ICC_HEADER)],
    ],
)
def test_a_profile_that_is_none_goes(parts: list[tuple[int, bytes]]) -> None:
    for part in clean(*parts):
        assert not any(part.new)
        assert [note.broken for note in part.notes] == [True]


def test_places_of_the_images_in_a_multi_picture_directory() -> None:
    entries = b"".join(n.to_bytes(4) for n in (0, 100, 0, 0, 0, 100, 5000, 0))
    directory = jpegs.ifd("MM", 8, [(0xB002, 7, len(entries), entries)])
    block = MPF_HEADER + jpegs.tiff("MM", (8, directory))
    segments = [Segment(APP1, 6, 3), Segment(APP2, 50, len(block))]
    done = clean_segments(segments, [b"abc", block], PLACES)
    assert list(mpf_offsets(segments, done)) == [50 + len(MPF_HEADER) + 5000]
    assert list(mpf_offsets(segments[:1], done[:1])) == []

"""Metadata blocks in containers of pictures: found where writers put them, blank if not understood."""

from __future__ import annotations

import zlib

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, Cleaned, Note, TooMuchError
from policyfs.redact.exif.containers import (
    EXIF_MARK,
    MAX_BLOCK_BYTES,
    XMP_MARK,
    clean_exif_block,
    clean_tiff_block,
    clean_xmp_block,
    empty_tiff,
)
from policyfs.redact.exif.exif import clean_tiff
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.jpegs import exif

TIFF = exif("II", place=False)
SEGMENT = b"\xff\xe1\x38\x26" + EXIF_MARK


class Lost(Plain):
    """Understands no block."""

    def tiff(self, data: bytes) -> Cleaned | None:
        return None


class Packets(Plain):
    """Takes a place out of a packet, as the cleaner of XMP does: blanks in its stead."""

    def xmp(self, data: bytes) -> Cleaned:
        at = data.find(b"PLACE")
        if at < 0:
            return Cleaned(data if data.strip(b"\0") else b"<x/>".ljust(len(data)))
        return Cleaned(data.replace(b"PLACE", b"     "), (Note(at, 5, "XMP", "place", Tells.LOCATION),))


def test_an_empty_tiff_is_one_that_says_nothing() -> None:
    made = empty_tiff(100)
    assert len(made) == 100
    assert clean_tiff(made, Plain(UNKNOWN)) == Cleaned(made)

    for size in (0, 5, 25):
        assert empty_tiff(size) == bytes(size)
    assert any(empty_tiff(26))


def test_a_tiff_that_is_not_understood_becomes_an_empty_one_with_a_broken_note() -> None:
    cleaned = clean_tiff_block(TIFF, Lost(), "box")
    assert cleaned == Cleaned(
        empty_tiff(len(TIFF)), (Note(0, len(TIFF), "box", "Exif", UNKNOWN, broken=True),)
    )
    assert clean_tiff_block(cleaned.data, Lost(), "box") == Cleaned(cleaned.data)


def test_a_tiff_costs_parts_and_bytes() -> None:
    for budget in (Budget(7, 1 << 20), Budget(8, len(TIFF) - 1)):
        inner = Plain()
        inner._budget = budget
        with pytest.raises(TooMuchError):
            clean_tiff_block(TIFF, inner, "box")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (bytes(4), bytes(4)),
        (b"\0\0\0\6" + EXIF_MARK, b"\0\0\0\6" + EXIF_MARK),
        (EXIF_MARK, EXIF_MARK),
        (b"", b""),
        (b"\0\0\0\x0a" + SEGMENT, b"\0\0\0\x0a" + SEGMENT),  # Xiaomi's phones
        (SEGMENT, SEGMENT),
        (b"\0\0\0\x0cabcdef" + EXIF_MARK, b"\0\0\0\x0c" + bytes(6) + EXIF_MARK),
        (b"\0\0\0\7abcdefg", b"\0\0\0\7" + bytes(7)),  # bytes between that nobody knows
        (b"\0\0\0\x63" + EXIF_MARK, b"\0\0\0\6" + EXIF_MARK),  # a wrong offset
        (b"xyz", bytes(3)),
        (b"\0\0\0\x08II*\0abcd", b"\0\0\0\x08" + bytes(8)),  # the stated header counts, not the first
    ],
)
def test_the_bytes_before_the_header_are_put_right(before: bytes, after: bytes) -> None:
    cleaned = clean_exif_block(before + TIFF, PLACES)
    assert cleaned.data == after + TIFF
    assert clean_exif_block(cleaned.data, PLACES).data == cleaned.data


def test_notes_of_exif_count_from_the_blocks_start() -> None:
    head = b"\0\0\0\6" + EXIF_MARK
    cleaned = clean_exif_block(head + TIFF, Lost())
    assert [(note.offset, note.length) for note in cleaned.notes] == [(len(head), len(TIFF))]


@pytest.mark.parametrize(
    "data", [b"no header at all" * 30, b"\0\0\0\0II*\0short", b"x" * 256 + b"II*\0" + bytes(99)]
)
def test_exif_without_a_header_or_without_room_for_an_empty_one_goes_whole(data: bytes) -> None:
    cleaned = clean_exif_block(data, Lost())
    assert cleaned == Cleaned(bytes(len(data)), (Note(0, len(data), "EXIF", "Exif", UNKNOWN, broken=True),))
    assert clean_exif_block(cleaned.data, Lost()) == Cleaned(cleaned.data)


def test_a_packet_may_be_behind_the_mark_of_jpeg() -> None:
    cleaned = clean_xmp_block(XMP_MARK + b"<PLACE/>", Packets())
    assert cleaned.data == XMP_MARK + b"<     />"
    assert [note.offset for note in cleaned.notes] == [len(XMP_MARK) + 1]
    assert clean_xmp_block(b"<PLACE/>", Packets()).data == b"<     />"


def test_a_deflated_packet_is_cleaned_and_fits_its_room() -> None:
    plain = b"<x>" + b"rather like itself " * 20 + b"PLACE</x>"
    packed = zlib.compress(plain)
    cleaned = clean_xmp_block(packed + bytes(10), Packets(), b"deflate")
    assert len(cleaned.data) == len(packed) + 10
    assert b"PLACE" not in zlib.decompressobj().decompress(cleaned.data)
    assert cleaned.notes == (Note(0, len(packed) + 10, "XMP", "place", Tells.LOCATION),)


def test_bytes_behind_a_deflated_packet_that_stays_become_zeros() -> None:
    packed = zlib.compress(b"<x>plain</x>")
    assert clean_xmp_block(packed + b"secret", Packets(), b"deflate") == Cleaned(packed + bytes(6))


@pytest.mark.parametrize(("data", "encoding"), [(b"not a stream", b"deflate"), (b"<x>PLACE</x>", b"gzip")])
def test_a_packed_packet_that_cannot_be_read_goes_whole(data: bytes, encoding: bytes) -> None:
    gone = Cleaned(bytes(len(data)), (Note(0, len(data), "XMP", "packed", UNKNOWN, broken=True),))
    assert clean_xmp_block(data, Packets(), encoding) == gone
    assert clean_xmp_block(gone.data, Packets(), encoding) == Cleaned(gone.data)


def test_text_beyond_the_budget_goes_unread() -> None:
    inner = Packets()
    inner._budget = Budget(9, 1 << 20, texts=1)
    assert clean_xmp_block(b"x" * 31, inner).data == b"x" * 31
    cleaned = clean_xmp_block(b"x" * 32, inner)
    assert (cleaned.data, cleaned.notes[0].tag, cleaned.notes[0].broken) == (bytes(32), "too long", True)
    inner._budget = Budget(9, 39, texts=9)
    with pytest.raises(TooMuchError):
        clean_xmp_block(b"x" * 10, inner)


def test_a_stream_that_inflates_to_more_than_a_block_goes() -> None:
    data = zlib.compress(bytes(MAX_BLOCK_BYTES + 1))
    assert clean_xmp_block(data, Packets(), b"deflate").notes[0].tag == "packed"

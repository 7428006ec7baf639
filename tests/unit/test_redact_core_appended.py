"""Data that is no coded data: found among any number of coded bytes, and never by chance."""

from __future__ import annotations

import random

import pytest

from policyfs.redact.core.appended import OVERLAP_BYTES, find_appended
from policyfs.redact.core.cleaners import MAX_PARTS, Budget, TooMuchError, budget_for
from policyfs.redact.core.patches import CHUNK_BYTES, MemorySource
from tests.support.samples import jpegs, movies, pngs, sounds

CODED = random.Random(3).randbytes(CHUNK_BYTES)
PLACE = b"47.80453, 13.04229"
APPENDED = {
    "EXIF": b"Exif\0\0" + jpegs.exif("MM"),
    "TIFF": jpegs.exif("II"),
    "JPEG": jpegs.photo_with(jpegs.exif("MM")),
    "PNG": pngs.plain(pngs.text("Comment", "a")),
    "film": movies.movie(head=movies.ftyp(b"iso5")),
    "XMP": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    "ID3": sounds.id3(sounds.user(b"place", b"a")),
    "APE": sounds.ape((b"place", b"a")),
    "JUMBF": movies.box(b"jumb", movies.box(b"jumd", bytes(20))),
    "archive": b"PK\3\4\x14\0\0\0",
    "text": b"taken at " + PLACE,
}


def find(data: bytes, budget: Budget | None = None) -> int | None:
    return find_appended(MemorySource(data), 0, len(data), budget or Budget(MAX_PARTS, 1 << 30))


@pytest.mark.parametrize("before", [1, CHUNK_BYTES - 3, CHUNK_BYTES - OVERLAP_BYTES + 1, 2 * CHUNK_BYTES - 5])
@pytest.mark.parametrize("name", APPENDED)
def test_appended_data_is_found_wherever_pieces_of_reading_meet(name, before):
    coded = (CODED * 2)[: before - 1] + b"\x80"
    at = find(coded + APPENDED[name] + CODED[:99])
    assert at is not None
    assert before - 8 <= at <= before + 8  # bytes before it may belong to it


def test_coded_data_and_text_without_a_place_are_none():
    assert find(CODED) is None
    assert find(CODED[:99] + b"\x80encoder 3.1, high quality\x80" + CODED[:99]) is None
    assert find(b"U" * 5000) is None


def test_short_starts_by_chance_cost_work():
    with pytest.raises(TooMuchError):
        find(b"\xff\xd8\xff\x80" * 9000, Budget(MAX_PARTS, 100_000))


def test_text_beyond_the_budget_counts_as_a_place():
    assert find(b"\x80" + b"some words 1" * 40 + b"\x80", Budget(MAX_PARTS, 1 << 20, texts=100)) == 1


def test_a_range_that_ends_behind_the_source() -> None:
    """The table of channels of an Opus header may be cut off: a search of its range did not end."""
    for size in (0, 9, 40):
        source = MemorySource(b"\x81" * size)
        assert find_appended(source, 19, 60, budget_for(source)) is None

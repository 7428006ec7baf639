"""Samples of tracks: what is prose stays, what may be telemetry is unknown."""

from __future__ import annotations

import struct

import pytest

from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.isobmff.boxes import Box
from policyfs.redact.isobmff.samples import (
    _METADATA,
    MAX_TEXT_BYTES,
    MAX_TEXT_SAMPLES,
    clean_pictures,
    is_text,
    prose_tells,
    sample_tells,
)
from policyfs.redact.isobmff.stsd import NO_ENTRIES, TEXT
from policyfs.redact.isobmff.tracks import Track
from tests.support.samples.inners import Plain
from tests.support.samples.movies import u16, u32

LOCATION, TIME, PEOPLE = Tells.LOCATION, Tells.TIME, Tells.PEOPLE
SECRET = "47.804531, 13.042287"
LINK = u16(0, 8) + b"\x31http://example.org/?%s\0\0\0\0\0\0"


def track(handler: bytes, *formats: bytes, samples: tuple[bytes, ...] = ()) -> tuple[Track, MemorySource]:
    """A track of these samples, one behind the other, and its file."""
    made = Track(Box(b"trak", 0, 8, 8), 1, handler, NO_ENTRIES._replace(formats=formats))
    sizes = [len(sample) for sample in samples]
    for kind, numbers in (
        (b"stsz", (0, 0, len(sizes), *sizes)),
        (b"stsc", (0, 1, 1, len(sizes), 1)),
        (b"stco", (0, 1, 0)),
    ):
        made.table.keep(kind, memoryview(u32(*numbers)))
    return made, MemorySource(b"".join(samples))


def tells(handler: bytes, *formats: bytes, samples: tuple[bytes, ...] = ()) -> Tells:
    return sample_tells(*track(handler, *formats, samples=samples))


def timed(text: bytes, behind: bytes = b"") -> bytes:
    """A text sample of 3GPP or QuickTime."""
    return u16(len(text)) + text + behind


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A quince, said she.", NOTHING),
        ("Line one\r\n\tline two", NOTHING),
        (f"at {SECRET}", LOCATION),
        ("on 2024-05-17", TIME),
        ("17.05.2024 again", TIME),
        ("17-05-2024 again", TIME),
        ("May 17, 2024", TIME),
        ("12:34:56 and on", TIME),
        ("see 12:34:56", NOTHING),
        ("escape \x1b[0m", UNKNOWN),
        ("\0", UNKNOWN),
        ("1234567890 abc", UNKNOWN),
        ("12345678", NOTHING),
        ("123456789 abcdefghij", NOTHING),
        ("", NOTHING),
    ],
)
def test_a_line_of_a_subtitle(text: str, told: Tells) -> None:
    assert prose_tells(text) == told


@pytest.mark.parametrize("handler", [b"vide", b"soun", b"hint"])
def test_pictures_sounds_and_hints_tell_nothing_unless_their_format_is_metadata(handler: bytes) -> None:
    assert tells(handler, b"avc1") == NOTHING
    assert tells(handler, b"avc1", b"gpmd") == UNKNOWN
    assert tells(handler, b"camm") == LOCATION | TIME | Tells.OTHER


@pytest.mark.parametrize("kind", sorted(_METADATA))
def test_a_format_of_metadata_is_one_under_any_handler(kind: bytes) -> None:
    assert len(kind) == 4
    for handler in (b"vide", b"soun", b"hint"):
        assert tells(handler, b"avc1", kind) != NOTHING


def test_other_tracks_tell_what_their_formats_do() -> None:
    assert tells(b"tmcd", b"tmcd") == TIME
    assert tells(b"meta", b"c608") == NOTHING
    assert tells(b"meta", b"c608", b"what") == UNKNOWN
    assert tells(b"meta") == UNKNOWN
    made, source = track(b"meta", b"mebx")
    made.entries = made.entries._replace(tells=PEOPLE)
    assert sample_tells(made, source) == PEOPLE


def test_telemetry_of_gopro_counts_as_other_where_its_values_are_cleaned() -> None:
    made, source = track(b"meta", b"gpmd", samples=(b"abcd",))
    assert sample_tells(made, source) == UNKNOWN
    assert sample_tells(made, source, sorted_out=True) == Tells.OTHER
    for handler, formats in ((b"vide", (b"gpmd",)), (b"meta", (b"gpmd", b"gpmd"))):
        other, source = track(handler, *formats, samples=(b"abcd",))
        assert sample_tells(other, source, sorted_out=True) == UNKNOWN


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (timed(b"A quince"), NOTHING),
        (timed("A quince".encode("utf-16")), NOTHING),
        (timed(b"A quince", u32(12) + b"styl" + bytes(4)), NOTHING),
        (timed(b"A quince", u32(12) + b"styl" + bytes(4) + u32(8) + b"hlit"), NOTHING),
        (timed(b"A quince", bytes(9)), NOTHING),
        (timed(b"A quince", u32(12) + b"what" + b"abcd"), UNKNOWN),
        (timed(b"A quince", u32(7) + b"styl" + b"abcd"), UNKNOWN),
        (timed(b"A quince", b"tail"), UNKNOWN),
        (timed(b"A quince", u32(65) + b"href" + LINK % b"q=47.80453,13.04229&zoom=1"), LOCATION),
        (timed(b"A quince", u32(65) + b"href" + LINK % b"d=2024-05-17&number=123456"), TIME),
        (timed(b"A quince", u32(65) + b"href" + LINK % b"q=quinces and other apples"), NOTHING),
        (u16(99) + b"too short", UNKNOWN),
        (timed(f"at {SECRET}".encode()), LOCATION),
    ],
)
@pytest.mark.parametrize("format_", [b"tx3g", b"text"])
def test_a_text_sample_with_its_modifiers(sample: bytes, told: Tells, format_: bytes) -> None:
    assert tells(b"sbtl", format_, samples=(sample, timed(b"and so on"))) == PEOPLE | told


def test_markup_is_searched_for_places_and_dates() -> None:
    assert tells(b"sbtl", b"wvtt", samples=(b"<b>1234567890</b>\x1b",)) == PEOPLE
    assert tells(b"sbtl", b"wvtt", samples=(f"<b>{SECRET}</b>".encode(),)) == PEOPLE | LOCATION
    assert tells(b"subt", b"stpp", samples=(b"<p>2024-05-17 11:22:33</p>",)) == PEOPLE | TIME


@pytest.mark.parametrize("handler", sorted(TEXT))
@pytest.mark.parametrize("kind", sorted(_METADATA - {b"text", b"tx3g", b"mebx"} | {b"what"}))
def test_telemetry_that_states_to_be_a_text_is_telemetry(handler: bytes, kind: bytes) -> None:
    position = struct.pack("<HHddd", 0, 5, 47.804531, 13.042287, 402.0)
    assert tells(handler, kind, samples=(position,)) & LOCATION
    assert tells(handler, b"tx3g", kind, samples=(timed(b"and so on"), position)) & LOCATION


def test_samples_that_nobody_can_read_are_unknown() -> None:
    assert tells(b"sbtl", b"tx3g", samples=(bytes(10), bytes(5))) == UNKNOWN, "zeros: redaction made them so"
    assert tells(b"sbtl", b"tx3g") == UNKNOWN
    line = timed(b"and so on")
    page = b"x" * (MAX_TEXT_BYTES // 16)
    assert tells(b"sbtl", b"wvtt", samples=(page,) * 16) == PEOPLE
    assert tells(b"sbtl", b"wvtt", samples=(page,) * 16 + (b"x",)) == UNKNOWN
    assert tells(b"sbtl", b"tx3g", samples=(line,) * (MAX_TEXT_SAMPLES + 1)) == UNKNOWN
    broken, source = track(b"sbtl", b"tx3g", samples=(line,))
    broken.table.stsc = memoryview(u32(0, 2, 5, 1, 1, 2, 1, 1))
    assert sample_tells(broken, source) == UNKNOWN


def test_a_text_track_is_one_by_its_handler_or_its_first_format() -> None:
    assert is_text(track(b"sbtl", b"wvtt")[0])
    assert not is_text(track(b"sbtl", b"what")[0])
    assert not is_text(track(b"sbtl", b"tx3g", b"camm")[0])
    assert not is_text(track(b"sbtl")[0])
    assert is_text(track(b"meta", b"text")[0])
    assert is_text(track(b"vide", b"tx3g")[0])
    assert not is_text(track(b"meta", b"camm", b"text")[0])
    assert not is_text(track(b"meta")[0])


class Photos(Plain):
    """Takes the place out of each photo."""

    def image(self, data: bytes) -> Cleaned | None:
        return Cleaned(data.replace(b"PLACE", b"     "))


def test_frames_that_are_photos_are_cleaned_in_tracks_of_pictures() -> None:
    samples = (b"\xff\xd8\xff one", b"\xff\xd8\xff PLACE", b"junk PLACE")
    for form in (b"jpeg", b"mp4v", b"drmi"):
        found = clean_pictures(*track(b"vide", form, samples=samples), Photos())
        assert found.patches == [Patch(11, b"     ")]
    assert clean_pictures(*track(b"soun", b"jpeg", samples=samples), Photos()).patches == []

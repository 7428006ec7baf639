"""Sample entries: what is in none, or not whole, is nothing that a second look would find there."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.isobmff.udta import XMP_UUID
from policyfs.redact.registry import locate_in
from tests.support.samples.heifs import hvcc, obu, vvcc
from tests.support.samples.movies import (
    AVCC,
    CITY,
    PLACE,
    SLICE,
    Track,
    box,
    full,
    loci,
    movie,
    sei,
    u16,
    u32,
    uuid,
)

TELEMETRY = CITY * 3


def read(file: bytes, *words: str) -> bytes:
    """What a reader gets, in which nothing is found again."""
    hide = hidden_by(words or ("location",))
    out = apply(file, in_order(locate_in("video/mp4", MemorySource(file), hide).patches, len(file)))
    assert not locate_in("video/mp4", MemorySource(out), hide).patches
    return out


def cut_short(file: bytes, format_: bytes, by: int) -> bytes:
    """The last of a track's sample entries ends sooner; what was its end is in no entry."""
    at = file.index(format_) - 4
    size = int.from_bytes(file[at : at + 4])
    return file[:at] + u32(size - by) + file[at + 4 :]


def test_samples_go_by_the_type_of_an_entry_that_is_too_short():
    """Two tracks have the same samples: if one of them came to be media, metadata would lie in it."""
    hint = Track(b"hint", b"gpmd", (TELEMETRY,), number=2)
    file = movie(Track(), hint, Track(b"meta", b"what", (TELEMETRY,), number=3))
    first, second = file.index(TELEMETRY), file.rindex(TELEMETRY)
    file = file.replace(full(b"stco", u32(1, second)), full(b"stco", u32(1, first)))
    assert CITY not in read(cut_short(file, b"gpmd", 2))


@pytest.mark.parametrize(("kind", "format_", "by"), [(b"vide", b"test", 40), (b"soun", b"twos", 10)])
def test_an_entry_that_is_too_short_holds_nothing(kind, format_, by):
    track = Track(kind, format_)
    whole = movie(track)
    at = whole.index(format_, whole.index(b"stsd")) + 12
    file = whole[:at] + CITY + whole[at + len(CITY) :]
    assert CITY not in read(cut_short(file, format_, by))


def test_the_settings_of_windows_sound_stay_without_a_place() -> None:
    """PIFF stores a WAVEFORMATEX in a box of its own."""
    for settings, stays in ((b"\x61\1\2\0\x44\xac\0\0" + bytes(10), True), (b"47.80453, 13.04229", False)):
        file = movie(Track(b"soun", b"wma ", entry=box(b"wfex", settings)))
        assert (box(b"wfex", settings) in read(file)) is stays


def test_the_extended_type_of_an_entry_goes():
    assert CITY not in read(movie(Track(b"meta", b"uuid", entry=bytes(30) + CITY)))


def test_what_is_behind_the_entries_is_no_entry():
    """It would be one of an unknown type, by which the samples would have to go."""
    name = box(b"keyd", b"mdtacom.apple.quicktime.still-image-time")
    junk = b"\0\0\0\3junk, more of it"
    still = Track(b"meta", b"mebx", (TELEMETRY,), entry=box(b"keys", box(u32(1), name)) + junk, number=2)
    file = cut_short(movie(Track(), still), b"mebx", len(junk))
    out = read(file)
    assert TELEMETRY in out
    assert b"junk" not in out


def test_how_frames_are_coded_is_not_read_from_what_goes():
    """Behind the compressor's name are zeros in the end; what is left says that lengths take 4 bytes."""
    wrong = b"\0" + AVCC[4:8] + b"\1\x42\0\x1e\xfc"
    frames = [sei(5, bytes(range(16)) + CITY) + SLICE] * 3
    file = movie(Track(format=b"avc1", entry=box(b"glbl", AVCC), samples=frames))
    name = b"\x0bLavc encode".ljust(32, b"\0")
    assert name in file
    assert CITY not in read(file.replace(name, wrong.ljust(32, b"\0")))


@pytest.mark.parametrize("junk", [CITY, b"\0\0\0\3" + CITY, box(b"abcd", CITY)])
@pytest.mark.parametrize("holders", [(b"sinf", b"schi"), (b"sinf",), (b"wave",), (b"sv3d",)])
def test_codec_parameters_hold_known_boxes_only(holders, junk):
    """Also what looks like the start of a box that is longer than what holds it."""
    entry = junk
    for holder in reversed(holders):
        entry = box(holder, entry)
    assert CITY not in read(movie(Track(entry=entry)))


MESSAGE = b"\5\x1a" + bytes(range(16)) + CITY[:10] + b"\x80"


@pytest.mark.parametrize(
    ("form", "entry"),
    [
        (b"hvc1", hvcc((33, b"abc"), (39, MESSAGE))),
        (b"hvc1", hvcc((33, b"abc"), (39, MESSAGE)).replace(b"\xa7\0\1", b"\xa1\0\1")),
        (b"lhv1", box(b"lhvC", hvcc((33, b"abc"), (39, MESSAGE))[25:])),
        (b"vvc1", vvcc((15, b"abc"), (23, MESSAGE))),
        (b"hvc1", hvcc((33, b"abc"))[:-5] + hvcc((33, b"abc"))[-5:]),
    ],
)
def test_messages_among_parameters_go(form: bytes, entry: bytes):
    out = read(movie(Track(format=form, entry=entry)))
    assert CITY[:10] not in out
    assert b"abc" in out


def test_bytes_behind_the_arrays_of_a_configuration_go():
    entry = hvcc((33, b"abc"))
    out = read(movie(Track(format=b"hvc1", entry=box(b"hvcC", entry[8:] + CITY))))
    assert CITY not in out
    assert entry[8:] in out


@pytest.mark.parametrize("kind", [b"esds", b"glbl", b"alac", b"avcC", b"hvcC", b"dvcC"])
def test_a_box_of_parameters_with_a_place_goes(kind: bytes):
    file = movie(Track(entry=box(kind, b"\0\0" + PLACE)))
    assert PLACE in file
    assert PLACE not in read(file)
    assert PLACE in read(file, "device")


@pytest.mark.parametrize(
    "entry",
    [
        box(b"wave", box(b"frma", b"test"), box(b"chan", bytes(4), PLACE), bytes(4)),
        box(b"sinf", box(b"frma", b"avc1"), box(b"schm", bytes(12), PLACE)),
        box(b"sinf", box(b"schi", box(b"priv", bytes(4), PLACE))),
    ],
)
def test_parameters_within_a_box_with_a_place_go(entry: bytes):
    out = read(movie(Track(entry=entry)))
    assert PLACE not in out
    assert entry[4:8] in out


@pytest.mark.parametrize("kind", [b"esds", b"glbl"])
def test_settings_that_are_too_long_to_be_cleaned_go(kind: bytes):
    entry = box(kind, b"\0\0\1\x20\1\2\0\0\1\xb2" + CITY + bytes(1 << 16))
    assert CITY not in read(movie(Track(format=b"mp4v", entry=entry)))


def test_parameters_without_a_place_stay():
    entries = box(b"esds", bytes(range(60))), AVCC, hvcc((33, b"abc"), (34, b"def")), vvcc((15, b"abc"))
    entries += (hvcc((33, b"\xfe0\xb01\xfe")),)  # a digit, a degree sign and a digit by chance
    for entry in entries:
        file = movie(Track(entry=entry))
        assert read(file) == file


def test_user_data_in_the_settings_of_mpeg_goes():
    info = b"\0\0\1\x20\1\2\0\0\1\xb2" + CITY
    out = read(movie(Track(format=b"mp4v", entry=box(b"glbl", info))))
    assert CITY not in out
    assert b"glbl" in out


def test_metadata_in_the_settings_of_av1_goes():
    head, unit = b"\x81\0\0\0", obu(5, b"\x1f" + CITY)
    entry = box(b"av1C", head + obu(1, b"\1\2\3") + unit)
    out = read(movie(Track(format=b"av01", entry=entry)))
    assert CITY not in out
    assert head + obu(1, b"\1\2\3") in out


def test_settings_of_av1_that_are_no_units_go():
    assert CITY not in read(movie(Track(format=b"av01", entry=box(b"av1C", bytes(4) + b"\x80" + CITY))))


def test_a_unit_of_no_known_type_in_a_configuration_becomes_zeros():
    entry = hvcc((33, b"abc"), (45, CITY))
    out = read(movie(Track(format=b"hvc1", entry=entry)))
    assert CITY not in out
    assert b"abc" in out


DATED = b"cut on 05/17/2024"
SOURCE = box(b"sv3d", box(b"svhd", bytes(4) + DATED), box(b"proj"))


@pytest.mark.parametrize(
    "track",
    [
        Track(format=b"avc1", entry=SOURCE),
        Track(b"meta", b"mett", entry=b"\0" + DATED + b"\0"),
        Track(b"text", b"tx3g", entry=bytes(30) + box(b"ftab", b"\0\1\0\1" + DATED)),
    ],
)
def test_names_in_an_entry_hold_no_date(track: Track):
    file = movie(track)
    assert DATED in file
    assert DATED not in read(file, "time")
    assert DATED in read(file, "location")


@pytest.mark.parametrize(("name", "word"), [(DATED, "time"), (b"+47.8045+013.0423/", "location")])
def test_the_name_of_a_compressor_is_searched(name: bytes, word: str):
    usual = b"\x0bLavc encode".ljust(32, b"\0")
    plain = movie(Track(format=b"avc1"))
    file = plain.replace(usual, (bytes([len(name)]) + name).ljust(32, b"\0"))
    assert name not in read(file, word)
    assert name in read(file, "people")
    assert usual in read(plain, word)


HIDDEN = box(b"udta", loci(b""))
SOUND = bytes(4) + u16(2, 16, 0, 0) + u32(44100 << 16)
PICTURE = bytes(16) + u16(64, 48) + bytes(12) + u16(1) + bytes(32)
QUICKTIME_2 = bytes(4) + u16(3, 16, 0xFFFE, 0) + u32(0x10000)
SAID = u32(0x40E58880, 0, 1, 0x7F000000, 16, 12, 2, 1)


class Described(Track):
    """A track whose sample entry is given whole."""

    def description(self) -> bytes:
        return box(self.format, bytes(6), u16(1), self.entry)


@pytest.mark.parametrize(
    "track",
    [
        Described(b"soun", b"lpcm", entry=u16(2, 0) + QUICKTIME_2 + u32(1 << 31) + SAID + HIDDEN),
        Described(b"soun", b"lpcm", entry=u16(2, 0) + QUICKTIME_2 + u32(72 + len(HIDDEN)) + SAID + HIDDEN),
        Described(b"soun", b"sowt", entry=u16(2, 0) + SOUND + HIDDEN + bytes(40)),
        Described(b"soun", b"sowt", entry=u16(1, 0) + SOUND + box(b"alac", bytes(8), HIDDEN)),
        Described(entry=PICTURE + u16(8, 0) + u32(0) + u16(0, 300) + HIDDEN + bytes(2500)),
        Described(entry=PICTURE + u16(8, 0) + u32(200) + u16(0, 100) + HIDDEN + bytes(900)),
        Described(b"pict", b"mp4a", entry=(bytes(20) + HIDDEN).ljust(70, b"\0")),
        Described(b"auxv", b"mp4a", entry=(bytes(20) + HIDDEN).ljust(70, b"\0")),
        Described(b"MPEG", b"mp4a", entry=(bytes(20) + HIDDEN).ljust(70, b"\0")),
        Described(b"hint", b"mp4a", entry=bytes(8) + box(b"alac", bytes(4), HIDDEN)),
        Track(entry=box(b"alac", uuid(XMP_UUID, b"<loci/>"))),
        Track(entry=uuid(XMP_UUID, b"<loci/>")),
    ],
)
def test_metadata_hidden_among_numbers_goes(track: Track):
    """Where ffmpeg looks for boxes, and what is there is a number to us, or another box's."""
    file = movie(track)
    assert b"loci" in file
    assert b"loci" not in read(file)


def test_samples_whose_entries_hide_metadata_go():
    """Their formats are unknown then."""
    hiding = Described(b"hint", b"gpmd", (TELEMETRY,), entry=bytes(8) + box(b"alac", HIDDEN), number=2)
    out = read(movie(Track(), hiding))
    assert CITY not in out
    assert b"stsd" in out


def test_sound_and_palettes_stay():
    colours = bytes(range(64)) * 32
    for track in (
        Described(b"soun", b"lpcm", entry=u16(2, 0) + QUICKTIME_2 + u32(72) + SAID + box(b"chan", bytes(12))),
        Described(entry=PICTURE + u16(8, 0) + u32(0) + u16(0, 255) + colours + box(b"pasp", u32(1, 1))),
        Described(entry=PICTURE + u16(4, 0) + u32(0) + u16(0, 15) + colours[:128] + box(b"pasp", u32(1, 1))),
    ):
        file = movie(track)
        assert read(file) == file

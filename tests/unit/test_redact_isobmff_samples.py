"""Samples of tracks: what is prose stays, what may be telemetry is unknown."""

from __future__ import annotations

import struct

import pytest

from policyfs.content.plans import pack_plan, unpack_plan
from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.isobmff import tracks
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
from policyfs.redact.plan import Outcome, locate
from tests.support.samples.heifs import obu, vvcc
from tests.support.samples.inners import Plain
from tests.support.samples.jpegs import exif, leaks, photo_with, plain, segment, with_segments
from tests.support.samples.movies import (
    AVCC,
    CITY,
    PLACE,
    SLICE,
    Track,
    box,
    fragmented,
    movie,
    sei,
    u16,
    u32,
)
from tests.unit.test_redact_isobmff_mp4 import read, secret

LOCATION, TIME, PEOPLE = Tells.LOCATION, Tells.TIME, Tells.PEOPLE
SECRET = "47.804531, 13.042287"
LINK = u16(0, 8) + b"\x31http://example.org/?%s\0\0\0\0\0\0"


def track(handler: bytes, *formats: bytes, samples=()) -> tuple[tracks.Track, MemorySource]:
    """A track of these samples, one behind the other, and its file."""
    made = tracks.Track(Box(b"trak", 0, 8, 8), 1, handler, NO_ENTRIES._replace(formats=formats))
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


@pytest.mark.parametrize(
    ("payload", "words", "goes"),
    [
        (bytes(range(16, 32)) + CITY, ["location"], True),
        (b"MISPmicrosectime" + CITY, ["location"], False),
        (b"MISPmicrosectime" + CITY, ["time"], True),
        (bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef") + CITY, ["device"], True),
        (bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef") + CITY, ["location"], False),
        (bytes(range(16, 32)) + b"\0\0\3\1" + CITY + b"\0\0\3\0\0\3\2", ["location"], True),
    ],
)
def test_user_data_of_h264(payload, words, goes):
    frames = [sei(5, payload) + SLICE for _ in range(30)]
    file = movie(Track(format=b"avc1", entry=AVCC, samples=frames))
    out = read(file, *words)
    assert (CITY not in out) is goes
    assert out.count(SLICE) == 30
    assert b"\0\0\0" not in out[out.index(b"mdat") + 8 :][: len(frames[0]) - 4 - len(SLICE)]


@pytest.mark.parametrize(
    ("kind", "payload", "words", "goes"),
    [
        (136, CITY, ["time"], True),  # a time code
        (136, CITY, ["location"], False),
        (133, CITY, ["location"], True),  # messages within a message
        (77, CITY, ["location"], True),  # of no standard that is known here
        (144, CITY[:4], ["location", "time", "device"], False),  # brightness
        (144, CITY * 40, ["location"], True),  # too long to be that
    ],
)
def test_messages_of_movies_go_by_the_same_list_as_those_of_pictures(kind, payload, words, goes):
    def unit(text: bytes) -> bytes:
        sizes = b"\xff" * (len(text) // 255) + bytes([len(text) % 255])
        body = b"\x06" + bytes([kind]) + sizes + text + b"\x80"
        return len(body).to_bytes(4, "big") + body

    file = movie(Track(format=b"avc1", entry=AVCC, samples=[unit(payload) + SLICE] * 3))
    out = read(file, *words)
    assert (payload not in out) is goes
    assert out.count(SLICE) == 3


def test_captions_of_h264_stay():
    captions = b"\xb5\0\x31GA94\3\xc2\xff\xfcAB\xfcCD\xff"
    file = movie(Track(format=b"avc1", entry=AVCC, samples=[sei(4, captions) + SLICE]))
    assert read(file) == file
    file = movie(Track(format=b"avc1", entry=AVCC, samples=[sei(4, captions + CITY) + SLICE]))
    assert CITY not in read(file)


def test_messages_too_long_to_be_understood_become_zeros():
    long = b"\x06\5" + b"\xff" * 260 + b"\0" + bytes(range(16, 32)) + CITY * 7000 + b"\x80"
    file = movie(Track(format=b"avc1", entry=AVCC, samples=[u32(len(long)) + long + SLICE]))
    out = read(file)
    assert CITY not in out
    assert SLICE in out


def test_user_data_behind_start_codes_where_lengths_should_be():
    code = b"\0\0\0\1"
    frame = code + b"\x09\xf0" + code + sei(5, bytes(range(16, 32)) + CITY)[4:] + code + SLICE[4:]
    out = read(movie(Track(format=b"avc1", entry=AVCC, samples=[frame] * 30)))
    assert CITY not in out
    assert out.count(code + SLICE[4:]) == 30


VVC = b"\0\xb9\5" + bytes([16 + len(CITY)]) + bytes(range(16, 32)) + CITY + b"\x80"
VVC_SLICE = u32(10) + b"\0\x01slice123"


def test_user_data_of_h266():
    frames = [u32(len(VVC)) + VVC + VVC_SLICE] * 30
    out = read(movie(Track(format=b"vvc1", entry=vvcc((15, b"abc")), samples=frames)))
    assert CITY not in out
    assert out.count(VVC_SLICE) == 30


@pytest.mark.parametrize("kind", [b"avc1", b"avc3"])
@pytest.mark.parametrize("code", [b"", b"\0\0\0\1", b"\0\0\1"])
def test_user_data_without_a_decoder_configuration(kind: bytes, code: bytes):
    message = sei(5, bytes(range(16, 32)) + CITY)
    frame = code + message[4:] + code + SLICE[4:] if code else message + SLICE
    out = read(movie(Track(format=kind, samples=[frame] * 30)))
    assert CITY not in out
    assert out.count(SLICE[4:]) == 30


def test_user_data_in_fragments():
    frame = sei(5, bytes(range(16, 32)) + CITY) + SLICE
    file = fragmented(0x20000, entry=(b"avc1", AVCC), samples=(frame, frame))
    out = read(file)
    assert not secret(out)
    assert out.count(SLICE) == 2


@pytest.mark.parametrize("name", [b"\x0bLavc encode\0hvcC", b"\x04hvcC"])
def test_what_frames_are_cut_by_is_said_by_a_box_not_by_a_name(name):
    frames = [sei(5, bytes(range(16, 32)) + CITY) + SLICE for _ in range(6)]
    file = movie(Track(format=b"avc1", entry=AVCC, samples=frames))
    assert CITY not in read(file.replace(b"\x0bLavc encode".ljust(32, b"\0"), name.ljust(32, b"\0")))


def test_frames_that_are_coded_in_two_ways_are_refused():
    file = movie(Track(format=b"avc1", entry=AVCC + AVCC.replace(b"\x1e\xff", b"\x1e\xfc")))
    with pytest.raises(NotThisKindError, match="have several codecs, or length fields"):
        read(file)


MESSAGE = sei(5, bytes(range(16, 32)) + CITY)


@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_user_data_in_clear_in_protected_frames_goes(padding):
    frame = sei(5, bytes(range(16, 32)) + CITY) + SLICE + padding
    out = read(movie(Track(format=b"drmi", entry=AVCC, samples=[frame] * 3)))
    assert CITY not in out
    assert out.count(SLICE + padding) == 3


def test_metadata_of_av1_in_clear_in_protected_frames_goes():
    frame = obu(5, b"\x1f" + CITY) + obu(6, b"slice123")
    entry = box(b"sinf", box(b"frma", b"av01"))
    assert CITY not in read(movie(Track(format=b"drmi", entry=entry, samples=[frame] * 3)))


@pytest.mark.parametrize("rest", [b"\x80\0\0\0", b"what", bytes(99)])
def test_a_message_in_clear_before_encrypted_bytes_goes(rest):
    out = read(movie(Track(format=b"drmi", entry=AVCC, samples=[MESSAGE + rest])))
    assert CITY not in out
    assert rest in out


@pytest.mark.parametrize(
    "frame",
    [MESSAGE[:-1] + b"\x40" + SLICE, b"\0\0\0\x14\x18" + CITY * 2, b"\x7f\xff\xff\xff\x18" + CITY],
)
def test_frames_that_are_encrypted_as_a_whole_and_encrypted_messages_stay(frame):
    file = movie(Track(format=b"drmi", entry=AVCC, samples=[frame]))
    assert read(file) == file
    file = fragmented(0x20000, telemetry=b"", entry=(b"drmi", AVCC), samples=(frame, frame))
    assert CITY in read(file)


@pytest.mark.parametrize(("handler", "code"), [(b"vide", b"encv"), (b"soun", b"enca"), (b"text", b"enct")])
def test_tracks_of_common_encryption_are_refused(handler, code):
    file = movie(Track(), Track(handler, code, number=2))
    with pytest.raises(NotThisKindError, match="is encrypted"):
        read(file)


@pytest.mark.parametrize("code", [b"ai5p", b"AVin", b"xalg", b"dva1", b"rv64", b"H264", b"X264", b"INMC"])
def test_user_data_of_h264_under_its_other_codes(code):
    message = sei(5, bytes(range(16, 32)) + CITY)
    frame = b"".join(b"\0\0\0\1" + unit[4:] for unit in (message, SLICE))
    out = read(movie(Track(format=code, samples=[frame] * 30)))
    assert CITY not in out
    assert out.count(SLICE[4:]) == 30


@pytest.mark.parametrize("settings", [b"", AVCC[8:]])
def test_a_number_in_the_settings_tells_the_codec_of_mp4v(settings):
    """0x21 is H.264, and FFmpeg decodes it so."""
    decoder = b"\x21\x11" + bytes(11) + (b"\5" + bytes([len(settings)]) + settings if settings else b"")
    descriptor = b"\0\1\0\4" + bytes([len(decoder)]) + decoder
    entry = box(b"esds", bytes(4), b"\3" + bytes([len(descriptor)]), descriptor)
    units = (MESSAGE, SLICE) if settings else (b"\0\0\0\1" + MESSAGE[4:], b"\0\0\0\1" + SLICE[4:])
    out = read(movie(Track(format=b"mp4v", entry=entry, samples=[b"".join(units)] * 3)))
    assert CITY not in out
    assert out.count(SLICE[4:]) == 3


@pytest.mark.parametrize("code", [b"HEVC", b"X265", b"VVC1", b"AV01", b"dav1"])
def test_user_data_of_newer_codecs_under_their_other_codes(code):
    payload = b"\5" + bytes([16 + len(CITY)]) + bytes(range(16, 32)) + CITY + b"\x80"
    frame = b"\0\0\1" + (b"\0\xb9" if code == b"VVC1" else b"\x4e\1") + payload
    if code in (b"AV01", b"dav1"):
        frame = obu(5, b"\x1f" + CITY) + obu(6, b"slice")
    assert CITY not in read(movie(Track(format=code, samples=[frame] * 3)))


@pytest.mark.parametrize("behind", [b"\0", b"\0\0\0\0", b"what is this?", b"\0\0\0\x09"])
def test_an_odd_end_of_a_frame_in_a_fragment_ends_no_search(behind):
    frames = (SLICE + behind, sei(5, bytes(range(16, 32)) + CITY) + SLICE, SLICE)
    out = read(fragmented(0x20000, entry=(b"avc1", AVCC), samples=frames))
    assert not secret(out)
    assert out.count(SLICE) == 3


def test_frames_of_av1_in_fragments_may_end_with_a_unit_without_a_size():
    last = bytes([6 << 3]) + b"slice123"
    out = read(fragmented(0x20000, entry=(b"av01", b""), samples=(last, obu(5, b"\x1f" + CITY) + last)))
    assert not secret(out)
    assert out.count(last) == 2


@pytest.mark.parametrize("head", [b"\x09\xf0", b"\x67\x42\0\x1e", b"\x06\0\x50"])
def test_start_codes_in_a_unit_with_a_length_begin_units(head):
    """No such unit is legal, but FFmpeg reads it so. 0x06: a message as long as the next unit."""
    message = sei(5, bytes(range(16, 32)) + CITY)
    unit = head + b"".join(b"\0\0\0\1" + inner[4:] for inner in (message, SLICE))
    out = read(movie(Track(format=b"avc1", entry=AVCC, samples=[u32(len(unit)) + unit] * 3)))
    assert CITY not in out
    assert out.count(head) >= 3
    assert out.count(SLICE[4:]) == 3


def test_lengths_before_start_codes_are_refused_without_a_decoder_configuration():
    unit = b"\0\0\0\1" + sei(5, bytes(range(16, 32)) + CITY)[4:]
    with pytest.raises(NotThisKindError, match="start codes"):
        read(movie(Track(format=b"avc1", samples=[u32(2) + b"\x09\xf0" + unit + b"\0\0\0\1" + SLICE[4:]])))


def test_frames_are_read_as_players_read_them_when_the_decoder_configuration_goes():
    """Without it, FFmpeg looks for start codes, also within a slice."""
    message = b"\0\0\0\1" + sei(5, bytes(range(16, 32)) + CITY)[4:]
    unit = SLICE[4:] + message + b"\0\0\0\1" + SLICE[4:]
    frames = [u32(len(unit)) + unit] * 3
    removed = box(b"avcC", AVCC[8:] + PLACE)
    out = read(movie(Track(format=b"avc1", entry=removed, samples=frames)))
    assert not secret(out)
    assert out.count(SLICE[4:]) == 6
    cut = u32(len(unit) - 1) + unit
    with pytest.raises(NotThisKindError, match="start codes"):
        read(movie(Track(format=b"avc1", entry=removed, samples=[cut] * 3)))


@pytest.mark.parametrize("version", [0, 1, 2, 255])
def test_messages_within_a_slice_go_whatever_the_decoder_configuration_is(version):
    """FFmpeg looks for start codes within a slice. If it does not know the version, it reads no lengths."""
    unit = SLICE[4:] + b"\0\0\0\1" + sei(5, bytes(range(16, 32)) + CITY)[4:] + b"\0\0\0\1" + SLICE[4:]
    entry = box(b"avcC", bytes([version]) + AVCC[9:])
    out = read(movie(Track(format=b"avc1", entry=entry, samples=[u32(len(unit)) + unit] * 3)))
    assert not secret(out)
    assert out.count(SLICE[4:]) == 6


@pytest.mark.parametrize("name", [bytes(range(16, 32)), bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")])
@pytest.mark.parametrize("at", [0, 777, 1099])
@pytest.mark.parametrize("in_fragments", [False, True])
def test_a_message_in_any_one_frame_goes(name, at, in_fragments):
    frames = [sei(5, name + CITY) + SLICE if number == at else SLICE for number in range(1100)]
    if in_fragments:
        file = fragmented(0x20000, telemetry=b"", entry=(b"avc1", AVCC), samples=frames)
    else:
        file = movie(Track(format=b"avc1", entry=AVCC, samples=frames, per_chunk=100))
    out = read(file, "location" if name[0] == 16 else "device")
    assert not secret(out)
    assert out.count(SLICE) == 1100


@pytest.mark.parametrize("kind", [b"jpeg", b"mp4v", b"what"])
@pytest.mark.parametrize("in_fragments", [False, True])
def test_metadata_of_any_one_photo_goes(kind, in_fragments):
    photos = [plain(), photo_with(exif("MM")), with_segments(plain(), segment(0xFE, PLACE)), plain()]
    samples = photos[:1] * 700 + photos
    if in_fragments:
        file = fragmented(0x20000, telemetry=b"", entry=(kind, b""), samples=samples)
    else:
        file = movie(Track(format=kind, samples=samples))
    out = read(file)
    assert not leaks(out)
    assert PLACE not in out
    assert out.count(plain()[-40:]) == 704


def test_frames_that_are_the_same_bytes():
    frame = sei(5, bytes(range(16, 32)) + CITY) + SLICE
    file = bytearray(movie(Track(format=b"avc1", entry=AVCC, samples=[frame, frame])))
    at = file.index(b"stco") + 16
    file[at : at + 4] = file[at - 4 : at]
    assert not secret(read(bytes(file)))


def test_frames_in_one_another_are_refused():
    inner = sei(5, bytes(range(16, 32)) + CITY)
    outer = sei(5, bytes(range(48, 64)) + inner + CITY) + SLICE
    file = bytearray(movie(Track(format=b"avc1", entry=AVCC, samples=[outer, inner])))
    at = file.index(b"stco") + 16
    file[at : at + 4] = u32(file.index(inner))
    with pytest.raises(NotThisKindError, match="overlap other frames"):
        read(bytes(file))


@pytest.mark.parametrize("uuid_start", ["0387f44e", "b9edb930", "e958f491"])
def test_encoders_marks_in_frames(uuid_start):
    name = bytes.fromhex(uuid_start) + bytes(range(12))

    def file(payload: bytes) -> bytes:
        return movie(Track(format=b"avc1", entry=AVCC, samples=[sei(5, name + payload) + SLICE] * 9))

    assert read(file(b"\1")) == file(b"\1")
    assert read(file(b"\1"), "device") != file(b"\1")
    assert CITY not in read(file(CITY))


USER_DATA = b"\0\0\1\xb2" + CITY
MPEG_FRAME = b"\0\0\1\xb3\1\2\3" + USER_DATA + b"\0\0\1\0slice123"


@pytest.mark.parametrize("kind", [b"mp4v", b"m2v1", b"hdv3", b"xd59", b"mx5p"])
def test_user_data_of_mpeg_goes(kind):
    frames = [MPEG_FRAME] * 30
    out = read(movie(Track(format=kind, samples=frames)))
    assert CITY not in out
    assert out.count(b"\0\0\1\0slice123") == 30


def test_names_of_encoders_in_mpeg_go_only_with_the_device():
    data = MPEG_FRAME.replace(CITY, b"MPEG encoder 5")
    file = movie(Track(format=b"mp4v", samples=[data] * 30))
    assert read(file) == file
    assert b"MPEG encoder" not in read(file, "device")


def test_what_looks_like_user_data_in_photos_is_picture():
    """Motion JPEG as "mp4v": a start code in the coded picture is none."""
    photo = plain().replace(b"\xff\xd9", USER_DATA + b"\xff\xd9")
    file = movie(Track(format=b"mp4v", samples=[photo] * 3))
    assert read(file) == file


def test_photos_are_cleaned_also_if_they_are_called_mpeg():
    photo = photo_with(exif("MM"))
    assert leaks(photo) and not leaks(read(movie(Track(format=b"mp4v", samples=[photo] * 3))))


@pytest.mark.parametrize("cut", [0, 3])
def test_metadata_of_av1_goes(cut):
    message = obu(5, b"\4\xb5\0\x99" + CITY + b"\x80")
    range_ = obu(5, b"\4\xb5\0\x3c\0\1HDR\x80")
    frame = obu(1, b"\1\2\3\4") + message + range_ + obu(6, b"slice123")
    out = read(movie(Track(format=b"av01", samples=[frame[: len(frame) - cut]] * 30)))
    assert CITY not in out
    assert out.count(range_) == 30
    assert out.count(b"slice") == 30


def test_an_end_of_what_is_no_obu_ends_the_search_of_a_frame():
    frame = obu(1, b"\1\2\3\4") + b"\x80" + obu(5, b"\4" + CITY)
    file = movie(Track(format=b"av01", samples=[frame] * 3))
    assert read(file) == file


def test_metadata_of_av1_in_fragments_goes():
    frame = obu(5, b"\x1f" + CITY) + obu(6, b"slice123")
    out = read(fragmented(0x20000, entry=(b"av01", b""), samples=(frame, frame)))
    assert not secret(out)
    assert out.count(b"slice123") == 2


@pytest.mark.parametrize(
    ("kind", "unit", "goes"),
    [
        (b"avc1", b"\x18" + CITY, True),  # 24: no meaning in the standard
        (b"avc1", b"\x11" + CITY, True),  # 17: reserved
        (b"avc1", b"\x12" + CITY, True),
        (b"avc1", b"\x0c" + CITY, True),  # 12: filler
        (b"avc1", b"\x0c" + b"\xff" * 9 + b"\x80", False),
        (b"avc1", b"\x7c\x19" + CITY, False),  # 28: Dolby Vision
        (b"vvc1", b"\0\xe1" + CITY, True),  # 28
        (b"vvc1", b"\0\x21" + CITY, True),  # 4: a reserved slice
    ],
)
def test_units_without_a_meaning_become_filler(kind, unit, goes):
    frame = u32(len(unit)) + unit + (SLICE if kind == b"avc1" else VVC_SLICE)
    entry = AVCC if kind == b"avc1" else vvcc((15, b"abc"))
    file = movie(Track(format=kind, entry=entry, samples=[frame] * 30))
    out = read(file)
    assert (unit not in out) is goes
    assert out.count(b"slice123") == 30
    assert read(file, "time") != file or not goes


_ZEROS_WITHIN = bytes(range(16, 32)) + b"MDPM\x02\x70\0\0\3\1\2\x71\0\0\3\0\5" + b"\0\0\3\1" * 2


@pytest.mark.parametrize(
    ("kind", "entry", "frame"),
    [
        (b"avc1", AVCC, sei(5, _ZEROS_WITHIN) + SLICE),
        (b"avc1", AVCC, u32(9) + b"\x18a quince" + SLICE),
        (b"mp4v", b"", USER_DATA + b"\0\0\1\0slice123"),
        (b"mp4v", b"", b"\0\0\1\xb2a quince\0TMPGEXS\0in a village in the north\0\0\1\0slice123"),
    ],
)
def test_messages_in_each_frame_of_a_film_add_few_bytes_to_a_plan(kind, entry, frame):
    """A worker may send few bytes that are not in the file: blanks do not count, but what is among them."""
    source = MemorySource(movie(Track(format=kind, entry=entry, samples=[frame] * 5000)))
    plan = locate("video/mp4", frozenset({"location"}), source)
    _, sent = unpack_plan(pack_plan("video/mp4", plan, source.read, source.size), source.size, source.read)
    assert sent.outcome is Outcome.PATCH, sent.reason
    assert sent.patches == plan.patches


def test_a_recording_of_hours_in_fragments_with_an_encoder_s_name():
    name = sei(5, bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef") + b"x264")
    data = fragmented(0x20000, entry=(b"avc1", AVCC), samples=(name + SLICE, *[SLICE] * 400_000))
    assert locate("video/mp4", frozenset({"device"}), MemorySource(data)).outcome is Outcome.PATCH


def test_a_film_of_too_many_frames_is_refused():
    track = Track(format=b"avc1", entry=AVCC, samples=[b"x"])
    sizes, chunks = u32(0, 0, 1), u32(0, 1, 1, 1, 1)
    data = movie(track)
    data = data.replace(sizes, u32(0, 1, (1 << 22) + 1)).replace(chunks, u32(0, 1, 1, (1 << 22) + 1, 1))
    with pytest.raises(TooMuchError, match="4,194,304 frames"):
        read(data)

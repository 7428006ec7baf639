"""Settings of decoders in Matroska: which may hold more than numbers, and what becomes of it."""

from __future__ import annotations

import time
from typing import Final

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.cleaners import TooMuchError
from policyfs.redact.matroska.codec_private import clean_private
from tests.support.samples.heifs import hvcc, obu, vvcc
from tests.support.samples.inners import Plain
from tests.support.samples.sounds import comments

SCRIPT: Final = (
    b"[Script Info]\r\nScriptType: v4.00+\r\nPlayResX: 384  \r\n\r\n"
    b"[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize\r\n"
    b"Style: Default,Arial,20,&H00FFFFFF,100,100,0\r\n[Events]\r\n"
)
WORDS = ("location", "device", "time", "people", "all-metadata")
HEVC, AV1 = "V_MPEGH/ISO/HEVC", "V_AV1"
X265 = bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e")
RANGE = (39, b"\x90\4\1\2\3\4\x80")
PARAMETERS = (33, b"\1\2\3")


def message(uuid: bytes, text: bytes) -> bytes:
    return bytes((5, len(uuid + text))) + uuid + text + b"\x80"


def clean(codec: str, data: bytes, word: str) -> bytes | None:
    inner = Plain(hidden_by([word]))
    out = clean_private(codec, data, inner)
    if out is not None:
        assert len(out) == len(data)
        assert clean_private(codec, out, inner) == out
    return out


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("array", [39, 40, 33])
def test_messages_of_h265_that_may_hold_anything_become_filler(word, array):
    """Also in an array that states another type of unit, and in a unit that states another than its array."""
    config = hvcc(PARAMETERS, (39, message(bytes(16), b"some place")))[8:]
    config = config.replace(b"\xa7\0\1", bytes((0x80 | array,)) + b"\0\1")
    for data in (config, config.replace(b"\x4e\1\5", b"\x42\1\5") if array > 38 else config):
        out = clean(HEVC, data, word)
        assert out is not None
        assert b"some place" not in out
        assert b"\1\2\3" in out


@pytest.mark.parametrize("word", WORDS)
def test_messages_of_h266_and_in_bitmap_headers_become_filler(word):
    place = message(bytes(16), b"some place")
    header = bytes(16) + b"HEVC" + bytes(20)
    for codec, data in (
        ("V_MPEGI/ISO/VVC", vvcc((15, b"\1\2\3"), (23, place))[12:]),
        ("V_MS/VFW/FOURCC", header + hvcc(PARAMETERS, (39, place))[8:]),
        ("V_MS/VFW/FOURCC", header.replace(b"HEVC", b"H266") + vvcc((15, b"\1\2\3"), (23, place))[12:]),
    ):
        out = clean(codec, data, word)
        assert out is not None
        assert b"some place" not in out
        assert b"\1\2\3" in out


@pytest.mark.parametrize("word", WORDS)
def test_what_is_no_unit_of_the_settings_becomes_zeros(word):
    config = hvcc(PARAMETERS)[8:]
    assert clean(HEVC, config + b"some place", word) == config + bytes(10)
    unknown = hvcc(PARAMETERS, (50, b"some place"))[8:]
    assert clean(HEVC, unknown, word) == unknown.replace(b"some place", bytes(10))
    assert clean(HEVC, unknown[:-1], word) is None


@pytest.mark.parametrize("word", WORDS)
def test_the_encoders_options_tell_a_device(word):
    config = hvcc(PARAMETERS, (39, message(X265, b"x265 options")), RANGE)[8:]
    out = clean(HEVC, config, word)
    assert out is not None
    assert (out == config) is (word not in ("device", "all-metadata"))
    assert (b"x265" in out) is (word not in ("device", "all-metadata"))
    assert RANGE[1] in out


@pytest.mark.parametrize("word", WORDS)
def test_metadata_units_of_av1_become_padding(word):
    config = b"\x81\0\0\0" + obu(1, b"abc")
    assert clean(AV1, config, word) == config
    assert clean(AV1, config + obu(5, b"\4some place"), word) == config + obu(15, bytes(10) + b"\x80")


def test_coordinates_in_settings_are_found():
    place = b"47.80453, 13.04229"
    for codec, config in (
        (HEVC, hvcc((33, place))[8:]),
        (AV1, b"\x81\0\0\0" + obu(1, place)),
        ("V_VP8", place),
    ):
        assert place not in (clean(codec, config, "location") or b"")
        assert clean(codec, config, "time") == config


def test_a_codec_that_is_not_listed_has_no_settings():
    assert clean("V_NEW", b"\1\2\3", "location") is None
    assert clean(HEVC, bytes((1 << 20) + 1), "location") is None
    assert clean(HEVC, b"", "location") == b""


@pytest.mark.parametrize(
    ("codec", "lead"),
    [
        ("V_MPEG4/ISO/AVC", b""),
        (HEVC, b""),
        ("V_MS/VFW/FOURCC", bytes(16) + b"H264" + bytes(20)),
        ("V_MS/VFW/FOURCC", bytes(16) + b"HEVC" + bytes(20)),
    ],
)
def test_messages_among_parameters_behind_start_codes(codec: str, lead: bytes) -> None:
    start, h265 = b"\0\0\0\1", codec == HEVC or b"HEVC" in lead
    unit = (b"\x4e\x01" if h265 else b"\x06") + message(bytes(range(16)), b"Quincebury")
    parameters = start + (b"\x42\x01" if h265 else b"\x67") + b"abcd"
    data = lead + parameters + start + unit + parameters
    out = clean(codec, data, "location")
    assert out is not None
    assert b"Quincebury" not in out
    assert out.count(parameters) == 2


@pytest.mark.parametrize("size", [900, 12_000, 1_000_000])
@pytest.mark.parametrize(
    ("codec", "before", "repeated"),
    [
        ("S_TEXT/ASS", b"[Script Info]\nScriptType:", b" "),
        ("S_TEXT/ASS", b"Format:", b"\t"),
        ("S_TEXT/ASS", b"Style:a,b,", b" "),
        ("S_TEXT/ASS", b"", b"\n"),
        ("S_VOBSUB", b"size:", b" "),
    ],
)
def test_a_header_of_blanks_is_read_in_time(codec: str, before: bytes, repeated: bytes, size: int) -> None:
    """The blanks of a value were tried in all splits: 12 KB took 9 s."""
    began = time.process_time()
    clean_private(codec, before + repeated * size + b"!\n", Plain())
    assert time.process_time() - began < 2


def test_a_header_of_many_lines_uses_up_the_budget() -> None:
    with pytest.raises(TooMuchError):
        clean_private("S_TEXT/ASS", b"Kerning: 1\n" * 60_000, Plain())


@pytest.mark.parametrize("word", ["location", "device", "time"])
def test_the_header_of_a_script_stays(word: str) -> None:
    assert clean("S_TEXT/ASS", SCRIPT, word) == SCRIPT
    assert clean("S_TEXT/ASS", b"Title: Quincebury\r\n" + SCRIPT, word) == b" " * 17 + b"\r\n" + SCRIPT
    longer = b"Timer:" + b" " * 8 + b"1" * 2000 + b"\n"
    assert clean("S_TEXT/ASS", longer, word) == b" " * (len(longer) - 1) + b"\n"


DATED: Final = b"Filmed 2024-05-17 11:22:33"


def xiph(listed: bytes) -> bytes:
    head, second = b"\1vorbis" + bytes(23), b"\3vorbis" + listed + b"\1"
    return bytes((2, len(head), len(second))) + head + second + b"\5vorbis"


def flac_head(*blocks: tuple[int, bytes]) -> bytes:
    listed = [(0, bytes(34)), *blocks]
    parts = [bytes((kind,)) + len(data).to_bytes(3) + data for kind, data in listed]
    parts[-1] = bytes((listed[-1][0] | 0x80,)) + parts[-1][1:]
    return b"fLaC" + b"".join(parts)


@pytest.mark.parametrize("codec", ["A_VORBIS", "A_FLAC"])
@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"TITLE=" + DATED, "time"),
        (b"TITLE=2024-05-17", "time"),
        (b"TITLE=OLYMPUS DIGITAL CAMERA", "device"),
        (b"TITLE=47.80453, 13.04229", "location"),
    ],
)
def test_the_value_of_a_comment_is_searched(codec: str, text: bytes, word: str) -> None:
    """Its name tells people."""
    listed = comments(text, b"ARTIST=Rosa", vendor=b"Xiph.Org libVorbis I 20200704 (Reducing Environment)")
    data = xiph(listed) if codec == "A_VORBIS" else flac_head((4, listed))
    for hidden in ("time", "device", "location"):
        out = clean(codec, data, hidden)
        assert out is not None
        assert (text in out) is (hidden != word)
        assert b"ARTIST=Rosa" in out
        assert (b"20200704" in out) is (hidden != "device")


def test_a_vendor_with_a_time_of_day_goes() -> None:
    data = flac_head((4, comments(vendor=DATED)))
    assert DATED not in (clean("A_FLAC", data, "time") or DATED)
    assert clean("A_FLAC", data, "location") == data


@pytest.mark.parametrize("word", WORDS)
def test_a_seek_table_of_flac_becomes_padding(word: str) -> None:
    """Its positions are those in a FLAC file, and may be any text."""
    text = b"Quincebury 47.80453, 13.04229 2024:05:17 11:22:33"
    assert clean("A_FLAC", flac_head((3, text)), word) == flac_head((1, bytes(len(text))))


def test_the_names_of_styles_tell_people() -> None:
    styles = b"Style: Rosa Quince,Arial,20,&H00FFFFFF\r\n"
    assert clean("S_TEXT/ASS", styles, "people") == styles.replace(b" Rosa Quince", b" " * 12)
    assert clean("S_TEXT/ASS", styles, "time") == styles
    assert clean("S_TEXT/ASS", styles, "all-metadata") == styles.replace(b" Rosa Quince", b" " * 12)


@pytest.mark.parametrize(
    ("text", "word"),
    [(DATED, "time"), (b"Canon EOS created with Photoshop", "device"), (b"N47.80453", "location")],
)
def test_lines_of_headers_are_searched(text: bytes, word: str) -> None:
    style = b"Style: " + text + b",Arial,20,&H00FFFFFF\n"
    size = b"palette: " + text.replace(b"-", b":") + b"\n"
    for hidden in ("time", "device", "location"):
        assert ((clean("S_TEXT/ASS", style, hidden) or b"").isspace()) is (hidden == word)
        if word != "location":
            assert ((clean("S_VOBSUB", size, hidden) or b"").isspace()) is (hidden == word)


@pytest.mark.parametrize("codec", ["V_MPEG2", "V_MPEG4/ISO/ASP", "V_PRORES", "A_AAC"])
def test_texts_in_settings_are_searched(codec: str) -> None:
    lead, behind = b"\0\0\1\xb3\x12", b"\0\1\2\0"
    data = lead + DATED + behind
    assert clean(codec, data, "time") == lead + bytes(len(DATED)) + behind
    assert clean(codec, data, "location") == data
    assert clean(codec, lead + b"made with Photoshop" + behind, "device") == lead + bytes(19) + behind
    assert clean(codec, lead + b"47.80453, 13.04229" + behind, "location") is None


@pytest.mark.parametrize("word", WORDS)
def test_raw_sound_has_no_settings(word: str) -> None:
    assert clean("A_PCM/INT/LIT", b"Rosa Quince " + DATED, word) is None


def test_numbers_that_look_like_degrees_stay():
    for codec in (HEVC, "V_MPEG4/ISO/AVC"):
        data = hvcc((33, b"\xfe0\xb01\xfe"))[8:]
        assert clean(codec, data, "location") == data


PROGRAMS = (
    b"; Script generated by FFmpeg/Lavc59.37.100",
    b"; Script generated by FFmpeg/LavcLIBAVCODEC_VERSION",
    b"; Script generated by Aegisub 3.2.2",
    b"; Script generated by Aegisub 8975-master-8d77da3",
    b"; http://www.aegisub.org/",
    b"Video Zoom Percent: 0.5",
    b"Video Aspect Ratio: c1.77778",
    b"Video Position: 4711",
    b"Scroll Position: 12",
    b"Active Line: 3",
)
STATES = (b"Title: Default Aegisub file", b"Title:", b"Original Script: <unknown>")


@pytest.mark.parametrize("line", PROGRAMS + STATES)
def test_constant_lines_of_programs_in_a_script_stay(line: bytes) -> None:
    """FFmpeg writes one into each script."""
    script = b"[Script Info]\r\n" + line + b"\r\n" + SCRIPT[15:]
    assert clean("S_TEXT/ASS", script, "location") == script
    for word in ("device", "all-metadata"):
        stays = line in (clean("S_TEXT/ASS", script, word) or b"")
        assert stays is (line in STATES)
    for place in (b" Quincebury", b" 47.80453, 13.04229", b"/Quincebury"):
        assert place not in (clean("S_TEXT/ASS", script.replace(line, line + place), "location") or b"")

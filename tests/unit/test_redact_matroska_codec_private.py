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
        assert clean(codec, config, "location") is None
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
    assert time.process_time() - began < 1


def test_a_header_of_many_lines_uses_up_the_budget() -> None:
    with pytest.raises(TooMuchError):
        clean_private("S_TEXT/ASS", b"Kerning: 1\n" * 60_000, Plain())


@pytest.mark.parametrize("word", ["location", "device", "time"])
def test_the_header_of_a_script_stays(word: str) -> None:
    assert clean("S_TEXT/ASS", SCRIPT, word) == SCRIPT
    assert clean("S_TEXT/ASS", b"Title: Quincebury\r\n" + SCRIPT, word) == b" " * 17 + b"\r\n" + SCRIPT
    longer = b"Timer:" + b" " * 8 + b"1" * 2000 + b"\n"
    assert clean("S_TEXT/ASS", longer, word) == b" " * (len(longer) - 1) + b"\n"

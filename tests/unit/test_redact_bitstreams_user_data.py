"""User data of MPEG-2 and MPEG-4: what goes, what stays, and that a decoder's settings keep their form."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.user_data import blanked, without_user_data
from policyfs.redact.core.categories import hidden_by
from tests.support.samples.inners import Plain

PLACE = b"47.8045 N, 13.0423 E"
START = b"\0\0\1"


def cable(count: int, end: str = "", mark: str = "1") -> bytes:
    """Captions of SCTE 20 without the first two bytes."""
    bits = f"{count:05b}" + f"00010101000101001{0x34:08b}{mark}" * count + end
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


def after(payload: bytes, word: str) -> bytes:
    """The payload of a unit after redaction."""
    found = blanked(b"\xb2" + payload, 1, Plain(hidden_by([word])))
    assert found is None or (len(found.data) == len(payload) + 1 and found.data[:1] == b"\xb2")
    return payload if found is None else found.data[1:]


@pytest.mark.parametrize(
    ("payload", "word", "goes"),
    [
        (b"a quince", "location", True),
        (b"\1\2\3\4binary", "device", True),
        (b"XviD0050", "device", False),
        (b"DivX503b1393p", "device", False),
        (b"Lavc59.37.100", "all-metadata", False),
        (b"Lavc59 " + PLACE, "location", True),
        (b"encoded by TMPGEnc (ver. 2.5)", "location", False),
        (b"encoded by TMPGEnc (ver. 2.5)", "device", True),
        (b"encoded at " + PLACE, "location", True),
        (b"encoded 2024-05-17 11:22:33", "time", True),
        (b"encoded\1\2\3", "location", True),
        (b"GA94\x03" + bytes(range(1, 60)), "all-metadata", False),
        (b"GA94\x03" + b"x" * 300, "location", True),
        (b"CC\x01\xf8" + bytes(range(1, 90)), "all-metadata", False),
        (b"DTG1\x41\xf8", "all-metadata", False),
        (b"DTG1 in a village", "location", True),
        (b"\x03\x81" + cable(1), "all-metadata", False),
        (b"\x03\x01" + cable(31), "location", False),
        (b"\x03\x81" + cable(2, "0000" + "1" * 19), "location", False),
        (b"\x03\x81", "location", False),
        (b"\x03\x81" + cable(2, "0000" + "1" * 43), "location", True),
        (b"\x03\x81" + cable(2, "0001" + "1" * 19), "location", True),
        (b"\x03\x81" + cable(2, "0000" + "010" + "01001110"), "location", True),
        (b"\x03\x81" + cable(2, "0000" + "1" * 19, mark="0"), "location", True),
        (b"\x03\x81" + PLACE, "location", True),
        (b"DivX501Build413", "device", False),
        (b"FFmpeg0.4.8b4670", "device", False),
        (b"FFmpeg0.4.9-pre1b4715", "all-metadata", False),
        (b"FFmpegCVSb4700", "device", False),
        (b"FFmpeg v0.4.6 / libavcodec build: 4600", "device", False),
        (b"ffmpeg", "device", False),
        (b"FFmpeg47.80.13b1304", "device", True),
        (b"encoded by TMPGEnc (ver. 2.510.48.164)", "location", False),
        (b"encoded by TMPGEnc (ver. 2.510.48.164)", "device", True),
        (b"encoded by TMPGEnc (ver. 47.8045.13.0423)", "location", True),
        (b"", "all-metadata", False),
        (b"  \xff\xff", "all-metadata", False),
    ],
)
def test_user_data_by_its_payload(payload, word, goes):
    out = after(payload, word)
    assert out == (b" " * len(payload) if goes else payload)


@pytest.mark.parametrize("before", [0, 5, 19, 20])
def test_the_mark_of_another_quantisation_stays(before: int) -> None:
    mark = b"\0TMPGEXS\0"
    old = b"quince towns near here"[:before] + mark + b"a quince in a village"
    out = after(old, "location")
    assert out == (b" " * before + mark + b" " * 21 if before < 20 else b" " * len(old))
    assert blanked(b"\xb2" + out, 1, Plain(hidden_by(["location"]))) is None


def test_zeros_before_the_next_start_code_stay():
    assert after(b"a quince\0\0", "location") == b" " * 8 + b"\0\0"


def esds(info: bytes, flags: bytes = b"\0", more: bytes = b"") -> bytes:
    config = (
        b"\4\x80\x80\x80" + bytes([15 + len(info)]) + b"\x20\x11" + bytes(11) + b"\5" + bytes([len(info)])
    )
    stream = b"\0\1" + flags + more + config + info + b"\6\x80\x80\x80\1\2"
    return bytes(4) + b"\3\x80" + bytes([len(stream)]) + stream


@pytest.mark.parametrize(
    ("flags", "more"), [(b"\0", b""), (b"\x80", b"\0\2"), (b"\x40", b"\3url"), (b"\xa0", b"\0\2\0\3")]
)
def test_a_descriptor_keeps_what_is_behind_the_settings(flags, more):
    old = esds(START + b"\x20\1\2" + START + b"\xb2a quince", flags, more)
    new = without_user_data(old, Plain(hidden_by(["location"])))
    assert new == old.replace(b"a quince", b" " * 8)


@pytest.mark.parametrize(
    "settings", [START + b"\xb2a quince" + START + b"\xb3\1", esds(b"")[:9] + START + b"\xb2a quince"]
)
def test_settings_without_a_descriptor_are_read_whole(settings):
    new = without_user_data(settings, Plain(hidden_by(["location"])))
    assert new == settings.replace(b"a quince", b" " * 8)

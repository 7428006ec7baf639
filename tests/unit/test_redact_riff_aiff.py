"""AIFF: what goes from which chunk, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from tests.support.samples import sounds
from tests.support.samples.plants import PLANTS, tells
from tests.support.samples.sound_checks import assert_refused, redact
from tests.support.samples.sounds import AIFF, PLAIN


@pytest.mark.parametrize("data", [b"", PLAIN["AIFF"][1][:14], sounds.aiff().replace(b"SSND", b"SSNE")])
def test_what_is_no_such_file_is_refused(data):
    assert_refused(AIFF, data)


def packed(name: bytes, behind: bytes = b"") -> bytes:
    common = bytes(18) + b"sowt" + bytes([len(name)]) + name
    return sounds.aiff(
        sounds.chunk(b"COMM", common.ljust(len(common) + len(common) % 2, b"\0") + behind, "big")
    )


@pytest.mark.parametrize("word", [Tells.PEOPLE, Tells.DEVICE])
@pytest.mark.parametrize(
    "data", [packed(b"Rosa Quince"), packed(b"not compressed", b"Rosa"), packed(b"not compressed Rosa")]
)
def test_an_unusual_name_of_the_packing_goes(data, word):
    assert redact(AIFF, data) == data
    out = redact(AIFF, data, word)
    assert b"Rosa" not in out
    assert b"sowt" in out


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"not compressed",
        b"Signed integer (little-endian) linear PCM",
        b"CCITT G.711 u-law",
        b"ALaw 2:1",
        b"IMA 4:1",
        b"32-bit floating point",
        b"MACE 6-to-1",
        b"\xb5Law 2:1",
    ],
)
def test_a_usual_name_of_the_packing_stays(name):
    data = packed(name)
    assert redact(AIFF, data, Tells.PEOPLE | Tells.DEVICE) == data


def test_a_packing_that_is_cut_off_is_none():
    common = b"COMM" + (21).to_bytes(4) + bytes(18) + b"ms\0"
    data = PLAIN["AIFF"][1].replace(b"AIFF", b"AIFC", 1) + common
    assert redact(AIFF, data[:4] + (len(data) - 8).to_bytes(4) + data[8:]).endswith(common)


def test_a_name_behind_a_short_head_is_no_packing():
    tag = sounds.id3(sounds.user(b"LOCATION", sounds.CITY))
    body = b"".join(
        sounds.chunk(name, data, "big")
        for name, data in ((b"COMM", bytes(18)), (b"NONE", b""), (b"SSND", bytes(8) + sounds.sound() + tag))
    )
    out = redact(AIFF, b"FORM" + (4 + len(body)).to_bytes(4) + b"AIFC" + body)
    assert sounds.CITY not in out


@pytest.mark.parametrize(("count", "kept"), [(0, 12), (1, 32), (3, 72), (1 << 31, 1292)])
def test_a_layout_of_channels_has_as_many_bytes_as_it_says(count, kept):
    layout = bytes(8) + count.to_bytes(4) + b"x" * 1280
    out = redact(AIFF, sounds.aiff(sounds.chunk(b"CHAN", layout, "big")))
    assert layout[:kept].ljust(1292, b"\0") in out


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_layout_with_metadata_goes_whole(count):
    """What is behind its channels is removed once only."""
    for number, value in enumerate(PLANTS.values()):
        data = bytes(8) + count.to_bytes(4) + value + bytes(number)
        out = redact(AIFF, sounds.aiff(sounds.chunk(b"CHAN", data, "big")))
        assert not tells(out)

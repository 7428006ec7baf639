"""Decoder configurations: how frames are cut, and the messages among the parameters."""

from __future__ import annotations

import pytest

from policyfs.redact.bitstreams.decoder_config import array_units, arrays, clean_config, framing, length_bytes
from policyfs.redact.bitstreams.nal_units import AVC, HEVC, VVC
from policyfs.redact.core.categories import hidden_by
from tests.support.samples.heifs import hvcc, obu, vvcc
from tests.support.samples.inners import Plain

INNER = Plain(hidden_by(["location"]))
TELLS = b"\5\x1a" + bytes(range(16)) + b"some place\x80"


def test_lengths_of_units():
    assert length_bytes(b"avcC", b"\1\x42\0\x1e\xfd") == 2
    assert length_bytes(b"vvcC", b"\0\0\0\0\4") == 3
    assert length_bytes(b"hvcC", bytes(21) + b"\0") == 1
    assert length_bytes(b"hvcC", bytes(21)) == 4
    assert length_bytes(b"av1C", bytes(40)) == 4


def test_frames_of_three_codecs_are_looked_into():
    assert framing(b"avcC", b"\1\x42\0\x1e\xff")[:2] == (AVC, 4)
    assert framing(b"hvcC", b"\1" + bytes(20) + b"\xf1")[:2] == (HEVC, 2)
    assert framing(b"hvcC", b"\0\1" + bytes(19) + b"\xf1")[:2] == (HEVC, 2)  # version 0, of drafts
    for kind in (b"avcC", b"hvcC", b"vvcC"):  # FFmpeg: no configuration
        assert framing(kind, bytes(40)) is None
        assert framing(kind, (b"\0\0\0\0" * (kind == b"vvcC") + b"\0\0\1\x67").ljust(40, b"\1")) is None
    assert framing(b"avcC", b"\1\x42\0\x1e") is None
    assert framing(b"vvcC", vvcc()[8:])[:2] == (VVC, 4)
    assert framing(b"vpcC", bytes(40)) is None


def test_units_in_arrays():
    config = hvcc((33, b"abc"), (39, TELLS))[8:]
    found = [(kind, config[start:end]) for kind, start, end in array_units(arrays(b"hvcC", config), HEVC)]
    assert found == [(33, b"\x42\1abc"), (39, b"\x4e\1" + TELLS)]
    for size in range(22, len(config)):
        with pytest.raises(ValueError, match="short"):
            list(array_units(arrays(b"hvcC", config[:size]), HEVC))


@pytest.mark.parametrize("layers", [1, 2, 5, 7])
def test_units_in_arrays_of_h266(layers: int):
    config = vvcc((13, b"abc"), (23, TELLS), (15, b"def"), layers=layers)[8:]
    found = [(kind, config[start:end]) for kind, start, end in array_units(arrays(b"vvcC", config), VVC)]
    assert found == [(13, b"\0\x69abc"), (23, b"\0\xb9" + TELLS), (15, b"\0\x79def")]
    out = clean_config(b"vvcC", config, INNER)
    assert out is not None
    assert b"some place" not in out
    assert out.endswith(b"\0\x79def")
    for size in range(len(config)):
        assert clean_config(b"vvcC", config[:size], INNER) is None
    assert list(array_units(arrays(b"vvcC", bytes(4) + b"\xfe\1\x8f\0\1\0\2\0\x79"), VVC)) == [(15, 11, 13)]


def test_messages_become_filler_and_unknown_units_zeros():
    config = hvcc((33, b"abc"), (39, TELLS), (50, b"abc"))[8:]
    out = clean_config(b"hvcC", config + b"behind", INNER)
    assert out is not None
    assert b"some place" not in out
    assert out.endswith(b"\x64\1" + bytes(3) + bytes(6))
    assert b"\x42\1abc" in out
    assert clean_config(b"hvcC", out, INNER) == out
    assert clean_config(b"hvcC", config[:-1], INNER) is None


@pytest.mark.parametrize("kind", [33, 39])
def test_a_start_code_ends_a_unit(kind):
    """No such unit is legal, but FFmpeg reads another unit behind a start code."""
    config = hvcc((kind, b"ab\x80\0\0\1\x4e\1" + TELLS), (34, b"def"))[8:]
    out = clean_config(b"hvcC", config, INNER)
    assert out is not None
    assert b"some place" not in out
    assert len(out) == len(config)
    assert out.endswith(config[-5:])
    assert kind != 33 or b"ab\x80" + bytes(len(TELLS) + 5) in out


@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
def test_a_unit_may_begin_with_a_start_code(code: bytes) -> None:
    sets = hvcc((33, b"abc"), (34, b"def"))[8:]
    config = sets[:22] + b"\3"
    for kind, unit in (
        (33, b"\x42\1abc"),
        (39, b"\x4e\1" + TELLS),
        (34, b"\x44\1d" + code + b"\x4e\1" + TELLS),
    ):
        config += bytes([kind]) + b"\0\1" + len(code + unit).to_bytes(2) + code + unit
    out = clean_config(b"hvcC", config, INNER)
    assert out is not None
    assert b"some place" not in out
    assert code + b"\x42\1abc" in out
    assert code + b"\x44\1d" + bytes(len(TELLS)) in out
    for short in (b"", b"\x4e", b"\x4e\1"):
        unit = code + short
        config = sets[:22] + b"\1\x27\0\1" + len(unit).to_bytes(2) + unit
        out = clean_config(b"hvcC", config, INNER)
        assert out is not None
        assert len(out) == len(config)


def test_metadata_units_of_av1():
    config = b"\x81\0\0\0"
    assert clean_config(b"av1C", config + obu(1, b"abc"), INNER) == config + obu(1, b"abc")
    out = clean_config(b"av1C", config + obu(5, b"\4some place"), INNER)
    assert out == config + obu(15, bytes(10) + b"\x80")
    assert clean_config(b"av1C", config + b"\x2a\x7f", INNER) is None
    assert clean_config(b"avcC", b"as it is", INNER) == b"as it is"

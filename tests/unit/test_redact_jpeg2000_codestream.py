"""Codestreams of JPEG 2000: comments by what they say, unknown segments, bytes behind the end."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.jpeg2000.codestream import walk_codestream
from tests.support.samples.inners import Plain
from tests.support.samples.jp2s import EOC, codestream, comment, marker, tile

PLACE = b"47.80453, 13.04229"
L, D = Tells.LOCATION, Tells.DEVICE


def read(data: bytes, hide: Tells = L) -> bytes | None:
    found = walk_codestream(MemorySource(data), Plain(hide))
    if found is None:
        return None
    out = apply(data, in_order(found.patches, len(data)))
    again = walk_codestream(MemorySource(out), Plain(hide))
    assert again is not None
    assert not again.patches
    return out


@pytest.mark.parametrize(
    ("header", "hide", "stays"),
    [
        (comment(b"quince"), L, True),
        (comment(b"Kakadu-v7"), D, False),
        (comment(PLACE), L, False),
        (comment(PLACE), Tells.TIME, True),
        (comment(PLACE, latin=False), L, False),
        (comment(b"quince", latin=False), L, False),
        (comment(b""), D, True),
        (marker(0x7F, PLACE), L, False),
        (marker(0x52, bytes(10)), D, True),
        (marker(0x71, b"x"), L, False),
        (marker(0x71, b""), L, True),
    ],
)
def test_segments(header, hide, stays):
    for data in (codestream(tile(b"data"), header=header), codestream(tile(b"data", header=header))):
        out = read(data, hide)
        assert out is not None
        assert (out == data) is stays
        assert b"\xff\x93data" in out


@pytest.mark.parametrize("behind", [b"", PLACE])
@pytest.mark.parametrize("to_end", [False, True])
def test_the_end(behind, to_end):
    data = codestream(tile(b"one"), tile(b"two" * 99, number=1, to_end=to_end))
    assert read(data + behind) == data + bytes(len(behind))


def test_a_tile_to_the_end_of_a_file_without_an_end():
    data = codestream(tile(b"two" * 99, to_end=True), end=b"")
    assert read(data) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        codestream()[:3],
        codestream()[:40],
        codestream(tile(b"data"))[:50],
        b"\xff\x4f\xff\x52" + codestream()[4:],
        codestream(end=EOC).replace(b"\xff\x90", b"\xff\x40"),
        codestream(tile(b"data").replace(b"\xff\x93", b"\xff\x90")),
        codestream(tile(b"data").replace(b"\0\x0a", b"\0\x0b", 1)),
    ],
)
def test_what_is_no_codestream(data):
    assert read(data) is None


def test_what_follows_the_last_sound_tile_goes():
    data = codestream(tile(b"one"), tile(b"two", header=comment(PLACE))[:12] + b"\xff\x01" + PLACE)
    out = read(data)
    assert out is not None
    assert PLACE not in out
    assert b"\xff\x93one" in out


def test_a_tile_shorter_than_its_header_ends_behind_it():
    lying = bytearray(tile(b"data", header=comment(PLACE)))
    lying[6:10] = (14).to_bytes(4)
    out = read(codestream(bytes(lying)))
    assert out is not None
    assert PLACE not in out

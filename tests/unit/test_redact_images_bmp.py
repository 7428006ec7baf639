"""BMP: nothing but the picture stays."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from tests.support.samples.media import HOME

CITY = HOME.city.encode()
BMP = "image/bmp"


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def header(size: int = 40, height: int = 2, packing: int = 0, stated: int = 0) -> bytes:
    head = words(size, 2, height) + b"\1\0\x18\0" + words(packing, stated, 2835, 2835, 0, 0)
    return head.ljust(size, b"\0")


PIXELS = bytes(range(16))


def bmp(head: bytes, gap: bytes = b"", behind: bytes = b"", reserved: bytes = bytes(4)) -> bytes:
    start = 14 + len(head) + len(gap)
    file = b"BM" + words(start + 16) + reserved + words(start)
    return file + head + gap + PIXELS + behind


def redact(kind: str, data: bytes) -> bytes:
    found = locate_in(kind, MemorySource(data), Tells.LOCATION)
    out = apply(data, sorted(found.patches, key=lambda p: p.offset))
    assert not locate_in(kind, MemorySource(out), Tells.LOCATION).patches
    assert len(out) == len(data)
    return out


@pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
def test_only_the_picture_of_a_bmp_stays(size):
    clean = bmp(header(size), bytes(len(CITY)), bytes(len(CITY)))
    assert redact(BMP, clean) == clean
    assert redact(BMP, bmp(header(size), CITY, CITY, CITY[:4])) == clean


def test_bitmaps_of_os2():
    """The header of OS/2 2 may end behind the depth; whole it ends with an identifier of its program."""
    short = header(16)[:16]
    assert redact(BMP, bmp(short, CITY)) == bmp(short, bytes(len(CITY)))
    whole = bmp(header(64), bytes(len(CITY)))
    assert redact(BMP, whole) == whole
    assert redact(BMP, whole[:60] + CITY + whole[60 + len(CITY) :]) == whole


def test_colours_of_a_picture_with_many_colours_stay():
    """A picture of 24 bits may state colours for screens that show fewer."""
    head = header()[:32] + words(4, 0)
    colours = bytes(range(64, 76)) + b"\xff\xff\xff\0"
    assert redact(BMP, bmp(head, colours)) == bmp(head, colours)
    assert redact(BMP, bmp(head, colours + CITY)) == bmp(head, colours + bytes(len(CITY)))
    assert redact(BMP, bmp(header(), colours)) == bmp(header(), bytes(16))


def test_profiles_of_a_bmp():
    profile = (128).to_bytes(4) + bytes(32) + b"acsp" + bytes(88)
    for kind, data in ((b"DEBM", profile), (b"DEBM", CITY), (b"KNIL", CITY)):
        head = bytearray(header(124))
        head[56:60] = kind
        head[112:120] = words(124 + 16, len(data))
        out = redact(BMP, bmp(bytes(head), behind=data + CITY))
        assert CITY not in out
        assert (profile in out) == (data == profile)
        assert PIXELS in out


def test_pixels_whose_start_lies_within_the_colours_stay():
    """Pillow reads such pixels behind the colours (its pal8_offset.bmp), others where the file says."""
    head = words(40, 2, 2) + b"\1\0\x08\0" + words(0, 0, 2835, 2835, 4, 0)
    data = b"BM" + words(0) + bytes(4) + words(54) + head + bytes(range(16)) + b"pixels!!"
    assert redact(BMP, data) == data
    placed = data[:-8] + b"47.80453, 13.04229"
    assert b"13.0422" not in redact(BMP, placed)


def test_what_becomes_zeros_before_the_pixels_decides_nothing_behind_them():
    """The identifier of OS/2 made a latitude of the pixels part of a longer number."""
    head = words(64, 1, 1) + b"\1\0\x18\0" + words(0, 0, 2835, 2835, 8, 0) + bytes(22) + b"1."
    data = b"BM" + words(0) + bytes(4) + words(78) + head + b"47.80453, 13.04229" + bytes(40)
    assert b"13.0422" not in redact(BMP, data)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (BMP, b"BM"),
        (BMP, bmp(header(41))),
        (BMP, bmp(header(packing=4))),
        (BMP, bmp(header())[:40]),
    ],
)
def test_what_is_no_picture_is_refused(kind, data):
    plan = locate(kind, frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert not plan.reason.startswith("internal")

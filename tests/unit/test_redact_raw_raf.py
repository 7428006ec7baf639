"""Fujifilm's raw files, part by part."""

from __future__ import annotations

from functools import partial

import pytest

from policyfs.redact.core.patches import MemorySource
from policyfs.redact.plan import Outcome, locate
from tests.support.samples import jpegs
from tests.support.samples.jpegs import exif, exif_segment, leaks, plain, with_segments
from tests.support.samples.notes import CITY
from tests.support.samples.redacted import redacted
from tests.support.samples.tiffs import PIXELS, fuji
from tests.support.samples.trailers import afcp

PREVIEW = with_segments(plain(), exif_segment(exif("II")))


read = partial(redacted, "image/x-fuji-raf")


@pytest.mark.parametrize("sensor_in_tiff", [False, True])
def test_the_place_in_the_jpeg_goes_and_the_pixels_stay(sensor_in_tiff):
    data = fuji(PREVIEW, sensor_in_tiff=sensor_in_tiff)
    assert leaks(data)
    out = read(data)
    assert leaks(out) == []
    assert PIXELS in out
    assert out[:0x94] == data[:0x94]
    at = 0x94
    assert jpegs.pixels(out[at : at + len(PREVIEW)]) == jpegs.pixels(PREVIEW)


def test_what_tells_nothing_stays_bit_by_bit():
    data = fuji(plain())
    assert read(data) == data


def test_records_that_nobody_has_named_go():
    data = fuji(plain(), record=CITY.encode())
    out = read(data)
    assert CITY.encode() not in out
    assert (0x0100).to_bytes(2) + (4).to_bytes(2) + b"\0\x40\0\x40" in out


def test_the_camera_goes_under_device():
    data = fuji(PREVIEW)
    out = read(data, "device")
    assert b"Testmaker" in data
    assert b"Testmaker" not in out
    assert b"FF392201" not in out
    assert leaks(out)


def test_what_nothing_refers_to_goes():
    assert CITY.encode() not in read(fuji(plain()) + CITY.encode(), "time")


def over_its_own_pointer() -> bytes:
    """A RAF whose JPEG has what says where it is in a comment that tells a place."""
    pointers = (0x44).to_bytes(4) + (0x400).to_bytes(4)
    comment = jpegs.segment(0xFE, jpegs.TEXT_COORDINATES.encode()[:10] + pointers + b"47.80453, 13.04229")
    return fuji(PREVIEW)[:0x44] + with_segments(plain(), comment)


BROKEN = {
    "cut off": fuji(PREVIEW)[:0x90],
    "without its JPEG": fuji(b""),
    "JPEG over the header": fuji(PREVIEW)[:0x54] + (8).to_bytes(4) + fuji(PREVIEW)[0x58:],
    "JPEG over its own pointer": over_its_own_pointer(),
    "a directory behind the end": fuji(PREVIEW)[:0x5C] + (1 << 30).to_bytes(4) + fuji(PREVIEW)[0x60:],
    "records past the directory": fuji(PREVIEW)[:0x60] + (6).to_bytes(4) + fuji(PREVIEW)[0x64:],
    "pixels over the JPEG": fuji(PREVIEW)[:0x64] + (0x98).to_bytes(4) + fuji(PREVIEW)[0x68:],
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_refused(case):
    plan = locate("image/x-fuji-raf", frozenset({"location"}), MemorySource(BROKEN[case]))
    assert plan.outcome is Outcome.REFUSE


def test_a_trailer_behind_pixels_without_a_length_goes():
    data = fuji(plain(), sensor_in_tiff=False)
    data = data[:0x68] + bytes(4) + data[0x6C:]
    assert read(data + afcp(len(data))) == data.ljust(len(data) + len(afcp(0)), b"\0")


PLACE = b"47.80453, 13.04229 Zirbelstadt"


@pytest.mark.parametrize("at", [0x14, 0x1C])
def test_a_place_in_the_name_of_the_model_goes(at):
    data = bytearray(fuji(plain()))
    data[at : at + len(PLACE)] = PLACE
    out = read(bytes(data))
    assert leaks(out) == []
    assert out[0x40:] == bytes(data[0x40:])


@pytest.mark.parametrize("at", [0x6C, 0x84])
def test_a_place_among_the_pointers_goes(at):
    data = bytearray(fuji(plain()))
    data[at : at + 11] = b"8FWCR25R+RX"
    assert b"8FWC" not in read(bytes(data))


def test_a_place_in_a_known_record_goes():
    data = fuji(plain(), record=bytes(range(8)) + PLACE)
    unknown = (0x9118).to_bytes(2) + (8 + len(PLACE)).to_bytes(2)
    assert unknown in data
    data = data.replace(unknown, b"\xc0\0" + unknown[2:])
    out = read(data)
    assert leaks(out) == []
    assert PLACE in read(data, "people")

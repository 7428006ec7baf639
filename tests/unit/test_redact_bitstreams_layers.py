"""Units of layers stay in a stream that declares the layer, and are units without a meaning elsewhere."""

from __future__ import annotations

from array import array

import pytest

from policyfs.redact.bitstreams import frames
from policyfs.redact.bitstreams.decoder_config import Framing, framing, stream_framing
from policyfs.redact.bitstreams.frame_table import form_of, look, table_of
from policyfs.redact.bitstreams.frames import clean_settings
from policyfs.redact.bitstreams.layers import Layers, named, types_of
from policyfs.redact.bitstreams.nal_units import AV1, AVC, HEVC, MPEG, VVC, Codec, walk_nals
from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.patches import MemorySource, apply, in_order
from tests.support.samples.film_checks import redact
from tests.support.samples.heifs import obu
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.movies import CITY, SLICE, Track, box, movie

AVCC = b"\1\x64\0\x1e\xff\xe1\0\4\x67\x64\0\x1e\1\0\3\x68\xeb\xe3"
HVCC = b"\1" + bytes(20) + b"\3"


def nal(unit: bytes) -> bytes:
    return len(unit).to_bytes(4) + unit


def unit_of_mpeg(kind: int, body: bytes) -> bytes:
    return b"\0\0\1" + bytes((kind,)) + body


def sets(*units: bytes) -> bytes:
    """A configuration of H.265 with these units, each in an array of its own."""
    arrays = (bytes((unit[0] >> 1, 0, 1)) + len(unit).to_bytes(2) + unit for unit in units)
    return HVCC + bytes((len(units),)) + b"".join(arrays)


def cleaned(frame: bytes, coded: Framing, inner: Inner = PLACES) -> bytes:
    """A frame of a film as an app reads it: in C for those that the search passes over, else in Python."""
    table = table_of(array("Q", (0,)), array("Q", (len(frame),)), array("H", (0,)), (form_of(coded),))
    patches = look(table, MemorySource(frame), inner).patches
    found = frames.clean_frame(
        MemorySource(frame), frames.Frame(0, len(frame)), coded, inner, frames.UnitLimits()
    )
    assert apply(frame, in_order(patches, len(frame))) == apply(frame, in_order(found.patches, len(frame)))
    return apply(frame, patches)


LAYERED = [
    *((AVC, bytes((kind,)), Layers.PARTITIONS) for kind in (2, 0x43, 4)),
    *((AVC, b"\x13", Layers.AUXILIARY), (AVC, b"\x74", Layers.VIEWS), (AVC, b"\x15", Layers.VIEWS)),
    *((AVC, b"\x1e", Layers.DOLBY_VISION), (HEVC, b"\x7e\1", Layers.DOLBY_VISION)),
    *((HEVC, b"\x60\1", Layers.AGGREGATES), (HEVC, b"\x62\1", Layers.AGGREGATES)),
    *((HEVC, head, Layers.NUMBERED) for head in (b"\2\x09", b"\x27\1")),
    (VVC, b"\1\1", Layers.NUMBERED),
]
SLICES = {AVC: SLICE, HEVC: nal(b"\x26\1slice123"), VVC: nal(b"\0\x41slice123")}


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("words", ["location", "people"])
@pytest.mark.parametrize(("codec", "head", "layer"), LAYERED)
def test_units_of_a_layer_stay_if_it_is_declared(
    codec: Codec, head: bytes, layer: Layers, words: str, codes: bool
) -> None:
    unit = head + b"GPS " + CITY + b"\x80"
    frame = b"\0\0\0\1" + unit + b"\0\0\0\1" + SLICES[codec][4:] if codes else nal(unit) + SLICES[codec]
    size, inner = 0 if codes else 4, Plain(hidden_by([words]))
    out = cleaned(frame, Framing(codec, size, ~layer & Layers(63)), inner)
    assert CITY not in out
    assert out.endswith(SLICES[codec][4:])
    assert out[: 4 + len(head)] == frame[: 4 + len(head)]
    assert cleaned(frame, Framing(codec, size, layer), inner) == frame


@pytest.mark.parametrize(("codec", "head", "layer"), LAYERED)
def test_units_of_a_layer_in_a_picture_item(codec: Codec, head: bytes, layer: Layers) -> None:
    data = SLICES[codec] + nal(head + CITY)
    for layers in (Layers.NONE, layer):
        found = walk_nals(MemorySource(data), types_of(codec, layers), 4, PLACES)
        assert found is not None
        assert (CITY in apply(data, found.patches)) is bool(layers)


@pytest.mark.parametrize(
    ("kind", "config", "layers"),
    [
        (b"avcC", AVCC, Layers.NONE),
        (b"avcC", AVCC.replace(b"\x67\x64", b"\x67\x58"), Layers.PARTITIONS),
        (b"avcC", AVCC.replace(b"\x67\x64", b"\x6f\x76"), Layers.VIEWS),
        (b"avcC", AVCC + b"\xfd\xf8\xf8\0", Layers.NONE),
        (b"avcC", AVCC + b"\xfd\xf8\xf8\1\0\3\x6d\xa8\x80", Layers.AUXILIARY),
        (b"avcC", AVCC + b"\xfd\xf8\xf8\1\0\3\x6d\xe8\x80", Layers.NONE),  # no auxiliary picture
        (b"avcC", AVCC[:-2], Layers.NONE),
        (b"hvcC", sets(b"\x40\1\x0c\1\xff\xff", b"\x42\1\1\1"), Layers.NONE),
        (b"hvcC", sets(b"\x40\1\x0c\x11\xff\xff"), Layers.NUMBERED),
        (b"hvcC", sets(b"\x40\1\x0c\1\xff\xff", b"\x42\x09\1\1"), Layers.NUMBERED),
        (b"hvcC", sets(b"\x26\x09\1\1"), Layers.NONE),  # a picture declares nothing
    ],
)
def test_settings_that_declare_a_layer(kind: bytes, config: bytes, layers: Layers) -> None:
    found = framing(kind, config)
    assert found is not None
    assert found.layers == layers


def test_settings_behind_start_codes_and_names() -> None:
    stream = b"\0\0\0\1\x67\x64\0\x1e\0\0\1\x6f\x76\0\0\1\x68\xeb"
    assert stream_framing(AVC, stream) == Framing(AVC, 0, Layers.VIEWS)
    assert stream_framing(AVC, stream.replace(b"\x6f", b"\x67")) == Framing(AVC, 0)
    assert stream_framing(VVC, b"\0\0\0\1\0\x71\0\x40\0").layers == Layers.NUMBERED
    assert stream_framing(VVC, b"\0\0\0\1\0\x71\0\0\0").layers == Layers.NONE
    assert named(b"hvc1hvcC....dvvC") == Layers.DOLBY_VISION
    assert named(b"hvc1hvcC....lhvC") == Layers.NUMBERED | Layers.AGGREGATES
    assert named(b"avc1avcC....mvcC") == Layers.VIEWS
    assert named(b"hvt1hvcChvcCavcC") == Layers.AGGREGATES
    assert not named(b"hvc1hvcCavc1avcCdvhp")


@pytest.mark.parametrize(
    ("code", "kind", "config", "more", "unit"),
    [
        (b"avc1", b"avcC", AVCC, box(b"mvcC", AVCC), b"\x74"),
        (b"avc1", b"avcC", AVCC, box(b"dvcC", bytes(24)), b"\x1e"),
        (b"hvc1", b"hvcC", sets(), box(b"dvvC", bytes(24)), b"\x7e\1"),
        (b"hvc1", b"hvcC", sets(), box(b"lhvC", b"\1\xf0\0\xfc\xfb\0"), b"\2\x09"),
    ],
)
def test_units_of_a_layer_in_a_movie(
    code: bytes, kind: bytes, config: bytes, more: bytes, unit: bytes
) -> None:
    frame = nal(unit + CITY) + (SLICE if kind == b"avcC" else SLICES[HEVC])
    for extra in (b"", more):
        data = movie(Track(format=code, entry=box(kind, config) + extra, samples=[frame, frame]))
        assert (CITY in redact("video/mp4", data)) is bool(extra)


@pytest.mark.parametrize(
    ("before", "unit", "stays"),
    [
        (b"", obu(4, CITY), False),
        (obu(3, b"header"), obu(4, CITY), True),
        (obu(6, b"picture"), obu(4, CITY), True),
        (obu(3, b"header") + obu(4, b"tiles"), obu(4, CITY), True),
        (obu(6, b"picture") + obu(2, b""), obu(4, CITY), False),
        (obu(3, b"header"), obu(8, CITY), False),
    ],
)
def test_tiles_of_av1_stay_behind_a_header(before: bytes, unit: bytes, stays: bool) -> None:
    frame = before + unit + obu(6, b"picture")
    out = cleaned(frame, Framing(AV1, 0))
    assert (CITY in out) is stays
    assert out.startswith(before)
    assert out.endswith(obu(6, b"picture"))


@pytest.mark.parametrize("kind", [0x30, 0x5F, 0xAF])
def test_slices_of_mpeg_2_have_no_meaning_in_mpeg_4(kind: int) -> None:
    unit = unit_of_mpeg(kind, CITY)
    vop = unit_of_mpeg(0xB6, b"picture")
    assert CITY not in cleaned(unit + vop, Framing(MPEG, 0))
    assert cleaned(unit_of_mpeg(0, b"picture") + unit, Framing(MPEG, 0)).endswith(CITY)


@pytest.mark.parametrize("unit", [b"\x65" + CITY, b"\x41" + CITY, b"\x74" + CITY])
def test_settings_have_no_slices(unit: bytes) -> None:
    data = b"\0\0\0\1\x67\x64\0\x1e\0\0\0\1" + unit
    found = clean_settings(MemorySource(data), 0, len(data), AVC, PLACES)
    assert CITY not in apply(data, found.patches)

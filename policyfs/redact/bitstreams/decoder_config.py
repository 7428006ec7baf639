"""Decoder configurations (``avcC``, ``hvcC``, ``vvcC``, ``av1C`` ...): formats of units, and units in them.

Parameters stay: without them nothing is decoded. SEI messages and metadata units beside them are
treated as in a picture. Sources: ISO/IEC 14496-15 section 8.3; AV1 in ISOBMFF section 2.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.bitstreams import sei
from policyfs.redact.bitstreams.nal_units import AVC, HEVC, VVC, Codec, is_byte_stream
from policyfs.redact.bitstreams.obus import walk_obus
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.core.reader import Fields

_ARRAYS_AT: Final = MappingProxyType({b"hvcC": 22, b"lhvC": 5})
"""Configuration -> offset of its arrays of units."""
WITH_ARRAYS: Final = MappingProxyType({b"hvcC": HEVC, b"lhvC": HEVC, b"vvcC": VVC})
"""Configurations with arrays of units -> their codec."""
_ALONE: Final = MappingProxyType({HEVC.name: frozenset[int](), VVC.name: frozenset({12, 13})})
"""Types of units of which an array has one, without a number before it."""
_LENGTH_AT: Final = MappingProxyType({b"hvcC": 21, b"lhvC": 4, b"avcC": 4, b"vvcC": 4})
_FRAMED: Final = MappingProxyType({b"avcC": AVC, b"hvcC": HEVC, b"vvcC": VVC})
_AV1C_BYTES: Final = 4
CONFIGS: Final = MappingProxyType({HEVC.name: b"hvcC", VVC.name: b"vvcC"})
"""Codec -> configuration of its track, if messages may be in it."""
FULL_BOX: Final = bytes(4)
"""Version and flags at the start of ``vvcC``; other containers leave them out."""
_CONFIG: Final = re.compile(rb"avcC|hvcC|vvcC")
_CONFIG_BYTES: Final = 32
"""Bytes of a configuration that framing() needs, and some more."""


class Framing(NamedTuple):
    """Codec of a track's frames, and bytes of a unit's length in them.

    length_size: 0 if units are between start codes (H.264 annex B).
    """

    codec: Codec
    length_size: int


def framing(kind: bytes, config: bytes) -> Framing | None:
    """Return the framing of a track by its configuration; None if frames of its codec are not examined."""
    codec = _FRAMED.get(kind)
    if codec is None or len(config) <= _LENGTH_AT[kind]:
        return None
    return Framing(codec, length_bytes(kind, config))


def framing_in(parameters: bytes) -> Framing | None:
    """Return the framing by the first bytes that look like the box of a decoder configuration, or None."""
    found = _CONFIG.search(parameters)
    return None if found is None else framing(found[0], parameters[found.end() :][:_CONFIG_BYTES])


def stream_framing(codec: Codec, config: bytes) -> Framing:
    """Return the framing of a codec's frames in a container that need not have a configuration.

    Without one, or if there are units behind start codes in its place, frames have start codes, too.
    """
    kind = next(kind for kind, known in _FRAMED.items() if known is codec)
    stated = None if is_byte_stream(config) else framing(kind, FULL_BOX * (kind == b"vvcC") + config)
    return Framing(codec, 0) if stated is None else stated


def length_bytes(kind: bytes, config: bytes) -> int:
    """Return the number of bytes of a unit's length field, from a decoder configuration; 4 if it is not
    stated there.
    """
    at = _LENGTH_AT.get(kind)
    if at is None or at >= len(config):
        return 4
    return (config[at] >> (1 if kind == b"vvcC" else 0) & 3) + 1


class ArrayUnit(NamedTuple):
    """The bytes [start, end) of a unit in an array. kind: the type that the array states for it."""

    kind: int
    start: int
    end: int


def arrays(kind: bytes, config: bytes) -> Fields:
    """Return the fields of a configuration of WITH_ARRAYS from its arrays on. Raises ValueError."""
    if kind in _ARRAYS_AT:
        return Fields(config, _ARRAYS_AT[kind])
    fields = Fields(config, len(FULL_BOX))
    if fields.number(1) & 1:  # a profile, a tier and a level
        layers = fields.number(2) >> 4 & 7
        fields.take(1)
        fields.take(2 + (fields.number(1) & 0x3F))
        if layers > 1:
            fields.take((fields.number(1) >> 9 - layers).bit_count())
        fields.take(4 * fields.number(1) + 6)
    return fields


def array_units(fields: Fields, codec: Codec) -> Iterator[ArrayUnit]:
    """Yield the units in arrays, behind lengths of 2 bytes (ISO/IEC 14496-15 section 8.3.2.1, 11.2.4.2).

    Raises ValueError if they are cut off.
    """
    for _ in range(fields.number(1)):
        kind = fields.number(1) & codec.mask
        for _ in range(1 if kind in _ALONE[codec.name] else fields.number(2)):
            size = fields.number(2)
            fields.take(size)
            yield ArrayUnit(kind, fields.at - size, fields.at)


def clean_config(kind: bytes, config: bytes, inner: Inner) -> bytes | None:
    """Clean a decoder configuration's payload: SEI units and metadata OBUs in it, as in a picture.

    None if its structure is not valid.
    """
    try:
        if kind in WITH_ARRAYS:
            return _clean_arrays(arrays(kind, config), WITH_ARRAYS[kind], inner)
    except ValueError:
        return None
    if kind == b"av1C":
        found = walk_obus(MemorySource(config[_AV1C_BYTES:]), inner, picture=False)
        return None if found is None else config[:_AV1C_BYTES] + apply(config[_AV1C_BYTES:], found.patches)
    return config


def _clean_arrays(fields: Fields, codec: Codec, inner: Inner) -> bytes:
    out = bytearray(fields.data)
    for stated, start, end in array_units(fields, codec):
        inner.budget.part()
        unit = fields.data[start:end]
        kind = codec.type(unit) if len(unit) >= codec.header else 0
        if kind not in codec.kept | codec.sei:
            out[start + codec.header : end] = bytes(len(unit) - codec.header)
        elif kind in codec.sei or stated in codec.sei:  # readers go by either
            out[start:end] = sei.filled(unit, codec.header, inner)
    return bytes(out[: fields.at]).ljust(len(out), b"\0")

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
from policyfs.redact.bitstreams.nal_units import AVC, HEVC, Codec, is_byte_stream
from policyfs.redact.bitstreams.obus import walk_obus
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.core.reader import Fields

ARRAYS_AT: Final = MappingProxyType({b"hvcC": 22, b"lhvC": 5})
"""Configuration -> offset of its arrays of units."""
_LENGTH_AT: Final = MappingProxyType({b"hvcC": 21, b"lhvC": 4, b"avcC": 4, b"vvcC": 4})
_FRAMED: Final = MappingProxyType({b"avcC": AVC, b"hvcC": HEVC})
_AV1C_BYTES: Final = 4
_CONFIG: Final = re.compile(rb"avcC|hvcC")
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
    stated = None if is_byte_stream(config) else framing(kind, config)
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


def array_units(fields: Fields) -> Iterator[ArrayUnit]:
    """Yield the units in arrays, behind lengths of 2 bytes (ISO/IEC 14496-15 section 8.3.2.1).

    Raises ValueError if they are cut off.
    """
    for _ in range(fields.number(1)):
        kind = fields.number(1) & HEVC.mask
        for _ in range(fields.number(2)):
            size = fields.number(2)
            fields.take(size)
            yield ArrayUnit(kind, fields.at - size, fields.at)


def clean_config(kind: bytes, config: bytes, inner: Inner) -> bytes | None:
    """Clean a decoder configuration's payload: SEI units and metadata OBUs in it, as in a picture.

    None if its structure is not valid.
    """
    try:
        if kind in ARRAYS_AT:
            return _clean_arrays(Fields(config, ARRAYS_AT[kind]), inner)
    except ValueError:
        return None
    if kind == b"av1C":
        found = walk_obus(MemorySource(config[_AV1C_BYTES:]), inner, picture=False)
        return None if found is None else config[:_AV1C_BYTES] + apply(config[_AV1C_BYTES:], found.patches)
    return config


def _clean_arrays(fields: Fields, inner: Inner) -> bytes:
    out = bytearray(fields.data)
    for stated, start, end in array_units(fields):
        inner.budget.part()
        unit = fields.data[start:end]
        kind = HEVC.type(unit) if len(unit) >= HEVC.header else 0
        if kind not in HEVC.kept | HEVC.sei:
            out[start + HEVC.header : end] = bytes(len(unit) - HEVC.header)
        elif kind in HEVC.sei or stated in HEVC.sei:  # readers go by either
            out[start:end] = sei.filled(unit, HEVC.header, inner)
    return bytes(out[: fields.at]).ljust(len(out), b"\0")

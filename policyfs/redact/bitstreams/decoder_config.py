"""Decoder configurations (``avcC``, ``hvcC``, ``vvcC``, ``av1C`` ...): they state the format of a track's
units, and hold some units.

A unit is a NAL unit (nal_units.py) or an OBU of AV1 (obus.py). The configuration holds parameter sets, which
stay, because nothing can be decoded without them. SEI messages and metadata units beside the parameter sets
are treated as in a picture. Sources: ISO/IEC 14496-15 section 8.3; AV1 in ISOBMFF section 2.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.bitstreams import sei, user_data
from policyfs.redact.bitstreams.layers import Layers, stated, types_of
from policyfs.redact.bitstreams.nal_units import AV1, AVC, HEVC, START_CODE, VVC, Codec
from policyfs.redact.bitstreams.obus import walk_obus
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.core.reader import Fields

_ARRAYS_AT: Final = MappingProxyType({b"hvcC": 22, b"lhvC": 5})
"""A dictionary from the type of a decoder configuration to the offset of its arrays of units (bytes)."""
WITH_ARRAYS: Final = MappingProxyType({b"hvcC": HEVC, b"lhvC": HEVC, b"vvcC": VVC})
"""A dictionary from the type of a decoder configuration with arrays of units to the codec."""
_ALONE: Final = MappingProxyType({HEVC.name: frozenset[int](), VVC.name: frozenset({12, 13})})
"""Codec -> types of units that are alone in their array, which states no number of units."""
_LENGTH_AT: Final = MappingProxyType({b"hvcC": 21, b"lhvC": 4, b"avcC": 4, b"vvcC": 4})
_FRAMED: Final = MappingProxyType({b"avcC": AVC, b"hvcC": HEVC, b"vvcC": VVC})
_BEGINNINGS: Final = MappingProxyType(
    {
        b"avcC": re.compile(rb"\x01"),
        b"hvcC": re.compile(rb"(?!\0\0[\0\x01])"),
        b"vvcC": re.compile(rb"....[^\0]", re.DOTALL),
    }
)
"""A dictionary from the type of a decoder configuration to a pattern of its first bytes (its version)."""
_NUMBERED: Final = MappingProxyType({0x21: AVC, 0x23: HEVC, 0x33: VVC})
"""Number of a codec in ``esds``, also of ``mp4v`` -> the codec (mp4ra.org)."""
_AV1C_BYTES: Final = 4
CONFIGS: Final = MappingProxyType({HEVC.name: b"hvcC", VVC.name: b"vvcC", AV1.name: b"av1C"})
"""Codec -> its type of decoder configuration, if that may hold messages."""
FULL_BOX: Final = bytes(4)
"""Version and flags of ``vvcC`` in MP4. Other containers store it without these bytes."""
_CONFIG: Final = re.compile(rb"avcC|hvcC|vvcC")
_CODE: Final = re.compile(re.escape(START_CODE))
_HEAD_BYTES: Final = 4


class Framing(NamedTuple):
    """The codec of frames, the size of the length before each unit (0: none, as in annex B, MPEG-2, AV1), and
    the layers that the settings declare.
    """

    codec: Codec
    length_size: int
    layers: Layers = Layers.NONE


def framing(kind: bytes, config: bytes) -> Framing | None:
    """Return the codec and the length size of a track's frames, as its decoder configuration states them.

    kind: type of the configuration. config: its bytes. Return None if policyfs does not search frames of this
    codec, or if the configuration does not begin like one: FFmpeg takes its bytes, and the frames, for units
    behind start codes.
    """
    if kind == b"esds":
        number, start, end = user_data.decoder_info(config)
        codec = _NUMBERED.get(number)
        return None if codec is None else stream_framing(codec, config[start:end] if start else b"")
    codec = _FRAMED.get(kind)
    if codec is None or len(config) <= _LENGTH_AT[kind] or not _BEGINNINGS[kind].match(config):
        return None
    return Framing(codec, length_bytes(kind, config), stated(codec, _sets(kind, config)))


def framing_in(parameters: bytes) -> Framing | None:
    """Return the framing of the first bytes that look like a decoder configuration, or None."""
    found = _CONFIG.search(parameters)
    return None if found is None else framing(found[0], parameters[found.end() :])


def stream_framing(codec: Codec, config: bytes) -> Framing:
    """Return the framing (codec and length size) of frames in a container in which a decoder configuration is
    optional.

    If there is no configuration, or if it consists of zeros or of units behind start codes, the frames have
    start codes, too (see framing()).
    """
    kind = next((kind for kind, known in _FRAMED.items() if known is codec), None)
    if kind is None:
        return Framing(codec, 0)
    found = framing(kind, FULL_BOX * (kind == b"vvcC") + config)
    return Framing(codec, 0, stated(codec, units_behind_codes(config))) if found is None else found


def units_behind_codes(data: bytes) -> Iterator[bytes]:
    """Yield the first bytes of the units behind start codes."""
    for code in _CODE.finditer(data):
        yield data[code.end() : code.end() + _HEAD_BYTES]


def _sets(kind: bytes, config: bytes) -> Iterator[bytes]:
    """Yield the units in a decoder configuration, up to bytes that are none."""
    try:
        if kind in WITH_ARRAYS:
            for one in array_units(arrays(kind, config), WITH_ARRAYS[kind]):
                yield config[one.start : one.end]
            return
        fields = Fields(config, _LENGTH_AT[kind] + 1)
        for mask in (0x1F, 0xFF):
            for _ in range(fields.number(1) & mask):
                yield fields.take(fields.number(2))
        fields.take(3)
        for _ in range(fields.number(1)):
            yield fields.take(fields.number(2))
    except ValueError:
        return


def length_bytes(kind: bytes, config: bytes) -> int:
    """Return the size of the length before each unit that a configuration states; 4 if it states none."""
    at = _LENGTH_AT.get(kind)
    if at is None or at >= len(config):
        return 4
    return (config[at] >> (1 if kind == b"vvcC" else 0) & 3) + 1


class ArrayUnit(NamedTuple):
    """The unit [start, end) in an array of a decoder configuration, and the array's type."""

    kind: int
    start: int
    end: int


def arrays(kind: bytes, config: bytes) -> Fields:
    """Return a reader at the arrays of a configuration of WITH_ARRAYS. Raises ValueError if it is cut off."""
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
    """Yield the units, behind lengths of 2 bytes (ISO/IEC 14496-15, 8.3.2.1, 11.2.4.2). Raises ValueError."""
    for _ in range(fields.number(1)):
        kind = fields.number(1) & codec.mask
        for _ in range(1 if kind in _ALONE[codec.name] else fields.number(2)):
            size = fields.number(2)
            fields.take(size)
            yield ArrayUnit(kind, fields.at - size, fields.at)


def clean_config(kind: bytes, config: bytes, inner: Inner) -> bytes | None:
    """Return a decoder configuration of the same length without hidden data in SEI and metadata OBUs; None if
    its structure is not valid.
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
    out, types = bytearray(fields.data), types_of(codec, Layers.SETTINGS)
    for declared, start, end in array_units(fields, codec):
        inner.budget.part()
        unit = fields.data[start:end]
        cut = unit.find(START_CODE)
        if cut >= 0 and not unit[:cut].strip(b"\0"):  # some writers leave the start code before the unit
            start += cut + len(START_CODE)
            unit = fields.data[start:end]
            cut = unit.find(START_CODE)
        if cut >= 0:  # decoders begin a new unit there
            out[start:end] = unit = unit[: max(cut, codec.header)].ljust(len(unit), b"\0")
        kind = codec.type(unit) if len(unit) >= codec.header else -1
        if kind not in types.parameters | codec.sei:
            out[min(start + codec.header, end) : end] = bytes(max(0, len(unit) - codec.header))
        elif kind in codec.sei or declared in codec.sei:  # readers use the unit's type or the stated type
            out[start:end] = sei.filled(unit, codec.header, inner)
    return bytes(out[: fields.at]).ljust(len(out), b"\0")

"""Types of units with coded pictures: those of every stream, and those of layers that a stream must declare.

Decoders pass over units of a layer that the stream does not declare, so that such a unit may hold anything.
The declaration is in the settings: a box, the type of a sample entry, a parameter set. Sources: ITU-T H.264
(7.4.1, annexes F to I), H.265 (7.4.2, annex F), H.266 (7.4.2), ISO/IEC 14496-15, "Dolby Vision Streams within
the ISO Base Media File Format".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from policyfs.redact.bitstreams.nal_units import AV1, AVC, HEVC, MPEG, VVC, Codec, Types


class Layers(enum.IntFlag):
    """The layers of a stream besides its plain pictures."""

    NONE = 0
    PARTITIONS = 1
    AUXILIARY = 2
    VIEWS = 4
    DOLBY_VISION = 8
    AGGREGATES = 16
    NUMBERED = 32
    """Pictures whose units have a number of a layer other than 0."""
    SETTINGS = 64
    """Settings of a decoder, where no picture is."""


_PLAIN: Final = MappingProxyType(
    {
        AVC.name: frozenset({1, 5}),
        HEVC.name: frozenset({*range(10), *range(16, 22)}),
        VVC.name: frozenset({*range(4), *range(7, 11)}),
        MPEG.name: frozenset({*range(1, 0xB0), 0xB6}),
        AV1.name: frozenset({4, 6}),
    }
)
"""Codec -> types of units without metadata: slices. (Tiles of AV1 (4) count if a header is before them.)"""
DECLARED: Final = MappingProxyType(
    {
        AVC.name: {
            **dict.fromkeys((2, 3, 4), Layers.PARTITIONS),
            **dict.fromkeys((20, 21), Layers.VIEWS),
            19: Layers.AUXILIARY,
            30: Layers.DOLBY_VISION,
        },
        HEVC.name: {**dict.fromkeys((48, 49), Layers.AGGREGATES), 63: Layers.DOLBY_VISION},
    }
)
"""Codec -> types of units that are slices, or units of units, if the stream declares their layer."""
NUMBER_BITS: Final = MappingProxyType({HEVC.name: 0x01F8, VVC.name: 0x3F00})
"""Codec -> bits of a unit's header with the number of its layer."""
_NAMES: Final = (
    (re.compile(rb"dv[cvw]C|dva[1v]|dvh[1e]"), Layers.DOLBY_VISION),
    (re.compile(rb"mvcC|svcC|mvc[1-4]|svc[12]"), Layers.VIEWS),
    (re.compile(rb"lhvC|lh[ve]1"), Layers.NUMBERED | Layers.AGGREGATES),
    (re.compile(rb"h[ve][cv][23]|hvt[123]"), Layers.AGGREGATES),
)
"""Patterns of the types of boxes and sample entries, and the layers that these declare."""
_EXTENDED: Final = 88
"""Number of the profile of H.264 with slices in three partitions."""


def types_of(codec: Codec, layers: Layers) -> Types:
    """Return the treatment of the types of units in a stream with these layers."""
    declared = DECLARED.get(codec.name, {})
    parameters = codec.kept - _PLAIN[codec.name] - declared.keys()
    if layers & Layers.SETTINGS:
        return Types(codec, frozenset(), parameters)
    slices = _PLAIN[codec.name].union(kind for kind, layer in declared.items() if layer & layers)
    bits = 0 if layers & Layers.NUMBERED else NUMBER_BITS.get(codec.name, 0)
    return Types(codec, slices, parameters, bits)


def named(data: bytes) -> Layers:
    """Return the layers that the types of boxes and sample entries in these bytes declare."""
    found = Layers.NONE
    for names, layers in _NAMES:
        found |= layers if names.search(data) else 0
    return found


def stated(codec: Codec, sets: Iterable[bytes]) -> Layers:
    """Return the layers that parameter sets declare. sets: units; those of other types count as none."""
    found = Layers.NONE
    for unit in sets:
        if len(unit) > codec.header + 1:
            found |= _of_h264(unit) if codec is AVC else _of_numbered(codec, unit)
    return found


def _of_h264(unit: bytes) -> Layers:
    match AVC.type(unit):
        case 7 if unit[1] == _EXTENDED:
            return Layers.PARTITIONS
        case 13 if unit[1] >> 6 != 0b11:  # the number of the set and the format 0 are a bit each
            return Layers.AUXILIARY
        case 15:
            return Layers.VIEWS
        case _:
            return Layers.NONE


def _of_numbered(codec: Codec, unit: bytes) -> Layers:
    """Return NUMBERED for a set that belongs to a layer, or for a video parameter set of several layers."""
    first, kind = (0x20, codec.type(unit)) if codec is HEVC else (14, codec.type(unit))
    if codec not in (HEVC, VVC) or not first <= kind <= first + 2:
        return Layers.NONE
    most = int.from_bytes(unit[2:4]) >> (4 if codec is HEVC else 6) & 0x3F
    of_layer = int.from_bytes(unit[:2]) & NUMBER_BITS[codec.name]
    return Layers.NUMBERED if of_layer or (kind == first and most) else Layers.NONE

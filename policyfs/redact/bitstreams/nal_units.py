"""NAL units of H.264, H.265 and H.266; tables of codecs. A unit follows a length or a start code.

Lengths are those of ISO/IEC 14496-15. A picture item of HEIF is a chain of NAL units. The walk checks that
the bytes of an item are such a chain. Units that may hold anything (filler, reserved types) become filler of
the same size, and so do SEI units with data to hide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.bitstreams import sei
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Budget, Found, Inner, Note
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, difference, zeros

START_CODE: Final = b"\0\0\1"
"""Bytes before each unit in a byte stream (H.264, H.265 annex B); so is a zero before them."""
_REFERENCES: Final = frozenset({48, 49})
"""Types of units of H.265 with numbers that may look like a start code."""
MAX_PADDING_BYTES: Final = 1 << 12
"""Maximum number of zeros behind the last unit: some writers round sizes up."""


NO_TYPE: Final = 256
"""A type that no unit has."""


class Codec(NamedTuple):
    """A codec: the size of a NAL unit's header in bytes, and the position of the unit's type in this header.

    The type is in the bits that *shift* and *mask* select from the header's byte *byte*. sei: types of SEI
    units.
    """

    name: str
    header: int
    byte: int
    shift: int
    mask: int
    sei: frozenset[int]
    kept: frozenset[int]
    """Types of slices, parameter sets and ends. Units of other types (filler, reserved) may hold anything."""
    slices: int
    """Unit types below this number are slices of pictures."""

    def type(self, head: bytes) -> int:
        return head[self.byte] >> self.shift & self.mask


class Types(NamedTuple):
    """The treatment of the types of units in a stream (layers.py).

    slices: types without metadata. parameters: types in which only numbers should be. Units of all other
    types may hold anything. number_bits: the bits of a header of two bytes that are 0 in each slice.
    """

    codec: Codec
    slices: frozenset[int]
    parameters: frozenset[int]
    number_bits: int = 0

    def of(self, head: bytes) -> int:
        """Return the type in a whole header; NO_TYPE for a slice of a layer that the stream has not."""
        kind = self.codec.type(head)
        numbered = len(head) > 1 and int.from_bytes(head[:2]) & self.number_bits and kind in self.slices
        return NO_TYPE if numbered else kind


AVC: Final = Codec(
    "H.264",
    *(1, 0, 0, 0x1F, frozenset({6})),
    frozenset({*range(1, 6), *range(7, 12), *range(13, 17), *range(19, 22)}),
    6,
)
_HEVC_KEPT: Final = frozenset({*range(10), *range(16, 22), *range(32, 38), 48, 49})
"""ISO/IEC 14496-15 defines the types 48 and 49: units that hold other units or refer to them."""
HEVC: Final = Codec("H.265", 2, 0, 1, 0x3F, frozenset({39, 40}), _HEVC_KEPT, 32)
_VVC_KEPT: Final = frozenset({*range(4), *range(7, 11), *range(12, 23)})
VVC: Final = Codec("H.266", 2, 1, 3, 0x1F, frozenset({23, 24}), _VVC_KEPT, 12)
_USER_DATA: Final = frozenset({0xB2})
_OF_MPEG: Final = frozenset({*range(0xB0), 0xB0, 0xB1, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8})
MPEG: Final = Codec("MPEG", 1, 0, 0, 0xFF, _USER_DATA, _OF_MPEG, 0xB0)
"""MPEG-1, -2 and -4 part 2: a header is the last byte of a start code, ``sei`` user data (user_data.py).
Types from 0xB9 on belong to systems, which no frame holds.
"""
AV1: Final = Codec("AV1", 1, 0, 3, 0xF, frozenset({5}), frozenset({1, 2, 3, 4, 6, 7}), 0)
"""AV1. Its units are OBUs (obus.py), and not NAL units."""
CODECS: Final = MappingProxyType(
    {
        **dict.fromkeys((b"avc1", b"avc2", b"avc3", b"avc4"), AVC),
        **dict.fromkeys((b"hvc1", b"hev1", b"hvt1", b"lhv1", b"lhe1", b"hvc2", b"hev2"), HEVC),
        **dict.fromkeys((b"vvc1", b"vvi1", b"vvcN"), VVC),
    }
)
"""A dictionary from the type of a picture's item in HEIF to the codec."""

_FOURCCS: Final = (
    (
        re.compile(
            rb"[HXQV]264|AVC[1-4]|DAVC|GAVC|VSSH|SMV2|UMSV|TSHD|INMC"
            rb"|AI[15][PQ2356]|AVIN|AIVX|RV64|XALG|AVLG|DVA[1V]",
            re.IGNORECASE,
        ),
        AVC,
    ),
    (re.compile(rb"[HX]265|HEVC|HVC[12]|HEV[12]|HVT1|LH[VE]1|DVHE", re.IGNORECASE), HEVC),
    (re.compile(rb"[HX]266|VVC[1N]|VVI1", re.IGNORECASE), VVC),
    (re.compile(rb"AV01|DAV1", re.IGNORECASE), AV1),
    (
        re.compile(
            rb"FMP4|DIV[1X]|DX50|XVI[DX]|MP4[SV]|M4S2|\x04\0\0\0|[GQRSUWZ]MP4|BLZ0|WV1F|SEDG|3IV[2D]|WAWV|FFDS"
            rb"|FVFW|DCOD|MVXM|[DPS]M4V|DXGM|VIDM|M4T3|GEO[VX]|HDX4|DMK2|DYM4|DIGI|EPHV|EM4A|M4CC|SN40|VSPX|ULDX"
            rb"|SIPP|DREX|PLV1|GLV4|MNM4|GTM4"
            rb"|MPG[12V]|MPEG|PIM[12]|VCR2|[\x01\x02]\0\0\x10|DVR |MMES|LMP2|SLIF|EM2V|M70[1-5]|BW10|XMPG"
            rb"|M[12]V[1 ]|MP[12]V|AVMP|MX[345][NP]|[HX]DV.|XD5.|XDH[2D]",
            re.IGNORECASE,
        ),
        MPEG,
    ),
)
"""Patterns of codes in AVI, QuickTime and Matroska's ids for these, as FFmpeg's riff.c and isom_tags.c read
them in any of these, and their codec. ``dvh1`` without a configuration is digital video.
"""


def codec_of(fourcc: bytes) -> Codec | None:
    """Return the codec with this code in AVI or QuickTime, if its frames are searched; else None."""
    return next((codec for codes, codec in _FOURCCS if codes.fullmatch(fourcc)), None)


class Unit(NamedTuple):
    """A unit: the bytes [start, end), without the length or start code before them. If the file states the
    unit's length, *end* follows from it, and may be wrong. head: the bytes of the unit's header.
    """

    start: int
    end: int
    head: bytes


def units(source: ByteSource, at: int, codec: Codec, length_size: int) -> Iterator[Unit]:
    """Yield the units from an offset on. The caller must stop at the first unit with an impossible size."""
    while at < source.size:
        head = source.read(at, length_size + codec.header)
        start = at + length_size
        at = start + int.from_bytes(head[:length_size])
        yield Unit(start, at, head[length_size:])


def is_byte_stream(data: bytes) -> bool:
    """Return True if data begins with a start code."""
    return data.startswith((START_CODE, b"\0" + START_CODE))


def start_code_units(
    source: ByteSource, start: int, end: int, codec: Codec, budget: Budget, *, begin: int = -1
) -> Iterator[Unit]:
    """Yield the units in [start, end) that are behind start codes, without empty ones. Raises TooMuchError.

    A unit ends at the next start code. So zeros before the start code count as a part of the unit. begin:
    offset of a unit without a start code before it; -1 if there is no such unit.
    """
    at, end = start, min(end, source.size)
    while at < end:
        chunk = source.read(at, min(CHUNK_BYTES, end - at))
        found = chunk.find(START_CODE) if budget.search_chunk(chunk) else -1
        while found >= 0:
            if 0 <= begin < at + found:
                yield Unit(begin, at + found, source.read(begin, codec.header))
            begin = at + found + len(START_CODE)
            found = chunk.find(START_CODE, found + len(START_CODE))
        if at + len(chunk) >= end or len(chunk) < CHUNK_BYTES:
            break
        at += len(chunk) - len(START_CODE) + 1
    if 0 <= begin < end:
        yield Unit(begin, end, source.read(begin, codec.header))


def split_units(
    source: ByteSource, unit: Unit, end: int, codec: Codec, unsplit: Collection[int], budget: Budget
) -> Iterator[Unit]:
    """Yield the units between the start codes in a unit that is behind its length; the unit itself if it has
    none. Raises TooMuchError.

    A legal unit has no start code, but decoders begin a new unit there. end: end of the frame or picture.
    unsplit: types of units that are not searched. A header of zeros is not legal: it may be a start code.
    """
    if len(unit.head) < codec.header or (codec.type(unit.head) in unsplit and any(unit.head)):
        yield unit
        return
    stop = min(unit.end, end)
    inside = start_code_units(source, unit.start, stop, codec, budget, begin=unit.start)
    first = next(inside, None)
    if first is None or (first.start, first.end) == (unit.start, min(stop, source.size)):
        yield unit
        return
    yield first
    yield from inside


def walk_nals(
    source: ByteSource, types: Types, length_size: int, inner: Inner, *, cut: bool = False
) -> Found | None:
    """Walk a chain of NAL units, each behind its length. Turn SEI units that hold data to hide, and units of
    types that may hold anything, into filler, and also parameters that hold metadata or tell a place.

    Return None if the source is not such a chain, or has no slice of a picture. cut: True if the last unit
    may be cut off, because the file ends there. Raises TooMuchError.
    """
    found, slices, size, codec = Found(), 0, source.size, types.codec
    for unit in units(source, 0, codec, length_size):
        inner.budget.part()
        at = unit.start - length_size
        if len(unit.head) < codec.header:
            if not cut:
                return None
            found.patches += zeros(source, at, size)
            break
        if slices and size - at <= MAX_PADDING_BYTES and not any(source.read(at, size - at)):
            break
        if unit.end - unit.start < codec.header or unit.head[0] & 0x80:
            return None
        if unit.end > size and not cut:
            return None
        slices += codec.type(unit.head) < codec.slices
        for part in split_units(source, unit, size, codec, types.slices & _REFERENCES, inner.budget):
            kind = types.of(part.head) if len(part.head) == codec.header else -1
            body, end = part.start + codec.header, min(part.end, size)
            if kind not in types.slices and (
                kind not in types.parameters
                or told_in_range(source, body, end, inner.hide & Tells.LOCATION, inner.budget, numbers=True)
            ):
                _replace(source, kind, part.start, end, codec, inner, found)
    return found if slices else None


def _replace(
    source: ByteSource, kind: int, start: int, end: int, codec: Codec, inner: Inner, found: Found
) -> None:
    """Replace a unit by filler; a message only if it holds hidden data. Too large a payload becomes zeros."""
    body = start + codec.header
    if body >= end:
        return
    if end - body > sei.MAX_UNIT_BYTES:
        changed = list(zeros(source, body, end))
    else:
        old = source.read(start, end - start)
        filler = old[: codec.header] + b"\xff" * (end - body - 1) + b"\x80"
        new = sei.filled(old, codec.header, inner) if kind in codec.sei else filler
        changed = list(difference(start, old, new))
    if changed:
        found.patches += changed
        found.notes.append(Note(body, end - body, "NAL", "SEI" if kind in codec.sei else f"type {kind}"))

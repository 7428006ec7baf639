"""Coded pictures in containers: units of H.264, H.265, H.266 and AV1, walked by their lengths.

A picture item is a chain of units: NAL units behind lengths (ISO/IEC 14496-15), or OBUs (AV1
section 5.3). The walk shows that the bytes are such a chain, and finds the units that carry no
picture. SEI messages and metadata OBUs may hold any bytes, such as positions of drones. Those that
a decoder does not need become filler of the same size. Sources: ITU-T H.264, H.265, H.266 and H.274
(SEI payload types); AV1 bitstream specification 5.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note
from policyfs.redact.core.patches import ByteSource, MemorySource, apply, difference, zeros
from policyfs.redact.core.reader import Fields
from policyfs.redact.isobmff.sei_messages import FILLER, message_tells

MAX_PADDING_BYTES: Final = 1 << 12
"""Zeros allowed behind the last unit, where a writer rounds sizes up."""
MAX_MESSAGE_BYTES: Final = 1 << 16
"""Size beyond which an SEI unit is not looked into but replaced."""


class Codec(NamedTuple):
    """Sizes of a NAL unit's header, and the place of its type: a byte of it, a shift and a mask."""

    header: int
    byte: int
    shift: int
    mask: int
    sei: frozenset[int]
    kept: frozenset[int]
    """Types of slices, parameter sets and ends; all others (filler, reserved) may hold anything."""
    slices: int
    """Types below this are slices of pictures."""

    def type(self, head: bytes) -> int:
        return head[self.byte] >> self.shift & self.mask


_AVC: Final = Codec(
    1, 0, 0, 0x1F, frozenset({6}), frozenset({*range(1, 6), *range(7, 12), *range(13, 22)}), 6
)
_HEVC_KEPT: Final = frozenset({*range(22), *range(32, 38), 48, 49})
_HEVC: Final = Codec(2, 0, 1, 0x3F, frozenset({39, 40}), _HEVC_KEPT, 32)
_VVC: Final = Codec(2, 1, 3, 0x1F, frozenset({23, 24}), frozenset({*range(11), *range(12, 23)}), 12)
CODECS: Final = MappingProxyType(
    {
        **dict.fromkeys((b"avc1", b"avc2", b"avc3", b"avc4"), _AVC),
        **dict.fromkeys((b"hvc1", b"hev1", b"hvt1", b"lhv1", b"lhe1", b"hvc2", b"hev2"), _HEVC),
        **dict.fromkeys((b"vvc1", b"vvi1", b"vvcN"), _VVC),
    }
)
"""Item or sample entry type -> codec.

Types 48 and 49 of H.265 are the file format's own: units that hold or refer to others.
"""

_MAX_NUMBERS_BYTES: Final = 255
"""Size of metadata that claims to be numbers, at most; a longer one may be anything."""


def walk_nals(
    source: ByteSource, codec: Codec, length_size: int, inner: Inner, *, cut: bool = False
) -> Found | None:
    """Walk a chain of NAL units behind lengths; replace SEI that tells by filler.

    None if it is no such chain, or has no slice of a picture. cut: the last unit may be cut off,
    because the file ends there. Raises TooMuchError.
    """
    found, at, slices = Found(), 0, 0
    while at < source.size:
        inner.budget.part()
        head = source.read(at, length_size + codec.header)
        if len(head) < length_size + codec.header:
            if not cut:
                return None
            found.patches += difference(at, head, bytes(len(head)))
            break
        size = int.from_bytes(head[:length_size])
        left = source.size - at
        if slices and left <= MAX_PADDING_BYTES and not any(source.read(at, left)):
            break
        start, end = at + length_size, at + length_size + size
        if size < codec.header or head[length_size] & 0x80:
            return None
        if end > source.size and not cut:
            return None
        slices += codec.type(head[length_size:]) < codec.slices
        _nal(source, start, min(end, source.size), codec, inner, found)
        at = end
    return found if slices else None


def _nal(source: ByteSource, start: int, end: int, codec: Codec, inner: Inner, found: Found) -> None:
    kind = codec.type(source.read(start, codec.header))
    body = start + codec.header
    if body >= end or kind in codec.kept:
        return
    if end - body > MAX_MESSAGE_BYTES:
        changed = list(zeros(source, body, end))
    else:
        old = source.read(body, end - body)
        new = clean_sei(old, inner) if kind in codec.sei else b"\xff" * (len(old) - 1) + b"\x80"
        changed = list(difference(body, old, new))
    if changed:
        found.patches += changed
        found.notes.append(Note(body, end - body, "NAL", "SEI" if kind in codec.sei else f"type {kind}"))


def clean_sei(body: bytes, inner: Inner) -> bytes:
    """Return an SEI unit's bytes behind its header: unchanged if they tell nothing, else as filler."""
    inner.budget.search(len(body))
    kept = all(not tells & inner.hide for tells in _messages(body, inner))
    return body if kept else filler_sei(len(body))


def _messages(body: bytes, inner: Inner) -> Iterator[Tells]:
    """Yield the categories of each SEI message, without the emulation prevention (H.265 7.3.1.1)."""
    plain = Fields(body.replace(b"\0\0\3", b"\0\0").rstrip(b"\0").removesuffix(b"\x80"))
    try:
        while plain.at < len(plain.data):
            inner.budget.part()
            kind, size = _varying(plain), _varying(plain)
            content = plain.take(size)
            yield message_tells(kind, content, inner.hide)
    except ValueError:
        yield UNKNOWN


def _varying(fields: Fields) -> int:
    value = 0
    while (byte := fields.number(1)) == 0xFF:
        value += 255
    return value + byte


def filler_sei(size: int) -> bytes:
    """Return filler messages (payload type 3) of size bytes in all, with the trailing bit."""
    if size < 3:
        return b"\x80".ljust(size, b"\0")
    room, lead = size - 1, b""
    while True:
        rest = room - len(lead) - 1  # size bytes and payload
        payload = rest - 1 - rest // 256
        lengths = b"\xff" * (payload // 255) + bytes((payload % 255,))
        if payload >= 0 and len(lengths) + payload == rest:
            return lead + bytes((FILLER,)) + lengths + b"\xff" * payload + b"\x80"
        if len(lead) >= 4 or room - len(lead) < 4:
            return b"\x80".ljust(size, b"\0")
        lead += bytes((FILLER, 0))


# --- AV1 ---

_OBU_METADATA: Final = 5
_OBU_PADDING: Final = 15
_OBU_FRAMES: Final = frozenset({3, 4, 6})
_OBU_KEPT: Final = frozenset({1, 2, 3, 4, 6, 7, 8})
OBU_METADATA_TELLS: Final = MappingProxyType({1: NOTHING, 2: NOTHING, 3: NOTHING, 5: Tells.TIME})
"""Metadata OBU type -> categories: brightness, mastering display, scalability; time codes."""


def walk_obus(source: ByteSource, inner: Inner, *, cut: bool = False, picture: bool = True) -> Found | None:
    """Walk a chain of OBUs; replace metadata that tells by padding.

    None if it is no such chain, or if it must be a picture and has no frame. cut: the last unit may be
    cut off, because the file ends there. Raises TooMuchError.
    """
    found, at, frames = Found(), 0, 0
    while at < source.size:
        inner.budget.part()
        head = source.read(at, 12)
        try:
            body, end = _obu(head, at, source.size)
        except ValueError:
            return None
        if end > source.size and not cut:
            return None
        kind = head[0] >> 3 & 15
        frames += kind in _OBU_FRAMES
        if kind in _OBU_KEPT or body >= min(end, source.size):
            at = end
            continue
        end = min(end, source.size)
        first = source.read(body, 1)[0]
        tells = OBU_METADATA_TELLS.get(first, UNKNOWN) if kind == _OBU_METADATA else UNKNOWN
        if end - body > _MAX_NUMBERS_BYTES:
            tells = UNKNOWN
        if tells & inner.hide:
            patches = list(_padding(source, at, head[0], body, end))
            found.patches += patches
            if patches:
                found.notes.append(Note(at, end - at, "OBU", f"type {kind}", tells))
        at = end
    return found if frames or not picture else None


def _obu(head: bytes, at: int, size: int) -> tuple[int, int]:
    """Return the offsets of an OBU's payload and end. ValueError if there can be none."""
    fields = Fields(head)
    first = fields.number(1)
    if first & 0x80:
        raise ValueError("forbidden bit")
    if first & 4:
        fields.number(1)
    if not first & 2:
        return at + fields.at, size
    length = shift = 0
    while True:
        byte = fields.number(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return at + fields.at, at + fields.at + length
        if shift > 56:
            raise ValueError("endless number")


def _padding(source: ByteSource, at: int, first: int, body: int, end: int) -> Iterator[Patch]:
    """Yield patches that turn the unit into padding: zeros and the trailing bit.

    AV1 5.3.1 wants one bit that is set.
    """
    yield from difference(at, bytes((first,)), bytes((first & 0x87 | _OBU_PADDING << 3,)))
    yield from zeros(source, body, end - 1)
    yield from difference(end - 1, source.read(end - 1, 1), b"\x80")


# --- decoder configurations ---

_HVCC_ARRAYS_AT: Final = MappingProxyType({b"hvcC": 22, b"lhvC": 5})
_AV1C_BYTES: Final = 4


def length_bytes(kind: bytes, config: bytes) -> int:
    """Return the bytes of a unit's length by its decoder configuration; 4 if that has none."""
    at = {b"hvcC": 21, b"lhvC": 4, b"avcC": 4, b"vvcC": 4}.get(kind)
    if at is None or at >= len(config):
        return 4
    return (config[at] >> (1 if kind == b"vvcC" else 0) & 3) + 1


def clean_config(kind: bytes, config: bytes, inner: Inner) -> bytes | None:
    """Clean a decoder configuration's payload: SEI units and metadata OBUs in it, as in a picture.

    None if it does not have the shape that it should.
    """
    try:
        if kind in _HVCC_ARRAYS_AT:
            return _clean_hevc_config(Fields(config, _HVCC_ARRAYS_AT[kind]), inner)
    except ValueError:
        return None
    if kind == b"av1C":
        found = walk_obus(MemorySource(config[_AV1C_BYTES:]), inner, picture=False)
        return None if found is None else config[:_AV1C_BYTES] + apply(config[_AV1C_BYTES:], found.patches)
    return config


def _clean_hevc_config(fields: Fields, inner: Inner) -> bytes:
    """Clean the arrays of units behind lengths of 2 bytes (ISO/IEC 14496-15 section 8.3.2.1)."""
    out = bytearray(fields.data)
    for _ in range(fields.number(1)):
        fields.number(1)
        for _ in range(fields.number(2)):
            inner.budget.part()
            size = fields.number(2)
            at = fields.at
            unit = fields.take(size)
            kind = _HEVC.type(unit[:2]) if size >= 2 else 0
            if kind in _HEVC.sei:
                out[at + 2 : at + size] = clean_sei(unit[2:], inner)
            elif kind not in _HEVC.kept:
                out[at + 2 : at + size] = bytes(max(0, size - 2))
    return bytes(out[: fields.at]).ljust(len(out), b"\0")

"""Walk over the OBUs (units) of AV1 (bitstream specification 5.3 and 5.8), and their neutral form.

Metadata OBUs, padding OBUs and OBUs of reserved types may hold any bytes. Such an OBU becomes empty padding
of the same size if it may hold data to hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.bitstreams.sei import registered_tells
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import ByteSource, difference, zeros
from policyfs.redact.core.reader import Fields

_MAX_NUMBERS_BYTES: Final = 255
"""Maximum size of metadata that should be numbers. Longer metadata may be anything."""
UNITS_PER_PART: Final = 4
"""Units of a frame that cost as much as one part of a file. Most frames have fewer."""
_HEAD_BYTES: Final = 12
"""Number of bytes at the start of an OBU that hold its type and its size."""
_MAX_T35_READ: Final = 1 << 12
_OBU_METADATA: Final = 5
_OBU_PADDING: Final = 15
_OBU_FRAMES: Final = frozenset({3, 4, 6})
_NO_SIZE: Final = 0x79
"""Bits of an OBU's first byte without those of errors, of an extension and of a size."""
_OBU_DELIMITER: Final = 2
_OBU_TILES: Final = 4
_OBU_FRAME: Final = 6
_ANNOUNCING: Final = frozenset({3, 6})
"""Types of OBUs behind which tiles may be."""
_OBU_HEADERS: Final = frozenset({1, 2, 3, 7})
_T35: Final = 4
"""Type of metadata OBUs with a message that is registered by ITU-T T.35, as in SEI messages (sei.py)."""
METADATA_TELLS: Final = MappingProxyType({1: NOTHING, 2: NOTHING, 3: NOTHING, 5: Tells.TIME})
"""Type of a metadata OBU (brightness, mastering, scalability, time code) -> its categories."""


def walk_obus(source: ByteSource, inner: Inner, *, cut: bool = False, picture: bool = True) -> Found | None:
    """Walk a chain of OBUs. Turn each OBU that may hold data to hide into empty padding.

    Return None if the source is not such a chain. picture: True to return None also if the chain keeps
    no frame. cut: True if the last unit may be cut off, because the file ends there. Raises TooMuchError.
    """
    found, at, frames, order = Found(), 0, 0, _Order()
    while at < source.size:
        inner.budget.part()
        head = source.read(at, _HEAD_BYTES)
        try:
            body, end = _obu(head, at, source.size)
        except ValueError:
            return None
        if end > source.size and not cut:
            return None
        coded = order.is_coded(head[0]) and picture  # settings have no picture
        stays = coded or _clean(source, at, head[0], body, min(end, source.size), inner, found)
        frames += stays and head[0] >> 3 & 15 in _OBU_FRAMES
        at = end
    return found if frames or not picture else None


def clean_obus(source: ByteSource, at: int, end: int, inner: Inner, most: int) -> tuple[Found, int]:
    """Turn each OBU in a frame's bytes [at, end) that may hold data to hide into empty padding.

    Stop at bytes that are no OBU. most: maximum number of OBUs that are examined. Return the changes, and the
    number of OBUs: *most* + 1 if there are more. Raises TooMuchError.
    """
    found, count, order = Found(), 0, _Order()
    while at < end:
        count += 1
        if count > most:
            break
        if count % UNITS_PER_PART == 0:
            inner.budget.part()
        try:
            body, stop = _obu(source.read(at, min(_HEAD_BYTES, end - at)), at, end)
        except ValueError:  # no unit: decoders stop here
            told = _among_numbers(source, at, end, inner)
            if told & inner.hide:
                found.patches += _padding(source, at, source.read(at, 1)[0] & _NO_SIZE, at + 1, end)
                found.notes.append(Note(at, end - at, "OBU", "bytes in no unit", told))
            break
        if not order.is_coded(first := source.read(at, 1)[0]):
            _clean(source, at, first, body, min(stop, end), inner, found)
        at = stop
    return found, count


@dataclass(slots=True)
class _Order:
    """The order of the OBUs of a frame. Decoders pass over tiles without a header before them."""

    announced: bool = False

    def is_coded(self, first: int) -> bool:
        """Return True if the next OBU is a part of a picture. first: its first byte."""
        kind = first >> 3 & 15
        coded = kind == _OBU_FRAME or (kind == _OBU_TILES and self.announced)
        self.announced = kind in _ANNOUNCING or (self.announced and kind != _OBU_DELIMITER)
        return coded


def _clean(source: ByteSource, at: int, first: int, body: int, end: int, inner: Inner, found: Found) -> bool:
    """Turn an OBU with the payload [body, end) into empty padding if it may hold data to hide. Return True if
    it stays."""
    kind = first >> 3 & 15
    if body >= end:
        return True
    if kind in _OBU_HEADERS:
        tells = _among_numbers(source, body, end, inner)
    else:
        inner.budget.part()
        tells = _metadata_tells(source, body, end, inner) if kind == _OBU_METADATA else UNKNOWN
    patches = list(_padding(source, at, first, body, end)) if tells & inner.hide else []
    if patches:
        found.patches += patches
        found.notes.append(Note(at, end - at, "OBU", f"type {kind}", tells))
    return not patches


def _metadata_tells(source: ByteSource, body: int, end: int, inner: Inner) -> Tells:
    kind = source.read(body, 1)[0]
    if kind == _T35:
        return registered_tells(source.read(body + 1, min(_MAX_T35_READ, end - body - 1)), inner)
    tells = UNKNOWN if end - body > _MAX_NUMBERS_BYTES else METADATA_TELLS.get(kind, UNKNOWN)
    return tells | _among_numbers(source, body, end, inner)


def _among_numbers(source: ByteSource, start: int, end: int, inner: Inner) -> Tells:
    return told_in_range(source, start, end, inner.hide, inner.budget, numbers=True)


def _obu(head: bytes, at: int, size: int) -> tuple[int, int]:
    """Return the offsets of an OBU's payload and end (*size* if it states none). Raises ValueError."""
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
    """Yield patches that turn an OBU into padding: zeros and the bit that AV1 5.3.1 requires."""
    yield from difference(at, source.read(at, 1), bytes((first & 0x87 | _OBU_PADDING << 3,)))
    yield from zeros(source, body, end - 1)
    yield from difference(end - 1, source.read(end - 1, 1), b"\x80")

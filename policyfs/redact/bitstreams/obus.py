"""Walk over the OBUs (units) of AV1 (bitstream specification 5.3 and 5.8), and their neutral form.

Metadata OBUs, padding OBUs and OBUs of reserved types may hold any bytes. Such an OBU becomes empty padding
of the same size if it may hold data to hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note
from policyfs.redact.core.patches import ByteSource, difference, zeros
from policyfs.redact.core.reader import Fields

_MAX_NUMBERS_BYTES: Final = 255
"""Maximum size of metadata that should be numbers. Longer metadata may be anything."""
_OBU_METADATA: Final = 5
_OBU_PADDING: Final = 15
_OBU_FRAMES: Final = frozenset({3, 4, 6})
_OBU_KEPT: Final = frozenset({1, 2, 3, 4, 6, 7, 8})
_METADATA_TELLS: Final = MappingProxyType({1: NOTHING, 2: NOTHING, 3: NOTHING, 5: Tells.TIME})
"""A dictionary from the type of a metadata OBU to the categories of its data.

The types are: brightness, mastering display, scalability (no category), and time codes.
"""


def walk_obus(source: ByteSource, inner: Inner, *, cut: bool = False, picture: bool = True) -> Found | None:
    """Walk a chain of OBUs. Turn each OBU that may hold data to hide into empty padding.

    Return None if the source is not such a chain. picture: True to return None also if the chain has no
    frame. cut: True if the last unit may be cut off, because the file ends there. Raises TooMuchError.
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
        tells = _METADATA_TELLS.get(first, UNKNOWN) if kind == _OBU_METADATA else UNKNOWN
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
    """Return the offsets of an OBU's payload and of its end. Raises ValueError if no OBU can be there.

    head: the first bytes of the OBU. at: its offset. size: the size of the whole source in bytes.
    """
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
    """Yield patches that turn an OBU into padding: zeros and the trailing bit.

    at: offset of the OBU. first: its first byte. body, end: offset of its payload, and the offset behind it.
    AV1 5.3.1 requires one set bit.
    """
    yield from difference(at, bytes((first,)), bytes((first & 0x87 | _OBU_PADDING << 3,)))
    yield from zeros(source, body, end - 1)
    yield from difference(end - 1, source.read(end - 1, 1), b"\x80")

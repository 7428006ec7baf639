"""Data packets of ASF: headers, payloads of streams, padding.

Source: "Advanced Systems Format Specification", 5.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.redact.core.reader import Fields

_CORRECTED: Final = 0x80
_MANY: Final = 0x01
_LEAST_COPIED: Final = 8
"""Size in bytes of the numbers in the header of a payload: the size of its object, and a time."""
_TIMES_BYTES: Final = 6


class Payload(NamedTuple):
    """A payload of a packet: offsets in the packet.

    more, more_end: the range of further data in its header. start, end: the range of its own data.
    """

    stream: int
    more: int
    more_end: int
    start: int
    end: int


class Packet(NamedTuple):
    """The parts of a packet. corrected: the range of data for the correction of errors. padding: the start of
    its padding, which reaches to the end."""

    corrected: tuple[int, int]
    payloads: list[Payload]
    padding: int


class _Little(Fields):
    """Fields whose numbers are little-endian, of a size that two bits state."""

    __slots__ = ()

    def sized(self, bits: int) -> int:
        """Read a number of 0, 1, 2 or 4 bytes."""
        return int.from_bytes(self.take((0, 1, 2, 4)[bits & 3]), "little")


def packet(data: bytes) -> Packet:
    """Return the parts of a packet. Raises ValueError if it is not correct."""
    fields, corrected = _Little(data), (0, 0)
    flags = fields.number(1)
    if flags & _CORRECTED:
        if flags & 0x60:
            raise ValueError("an unknown form of error correction")
        corrected = (1, 1 + (flags & 0x0F))
        fields.take(flags & 0x0F)
        flags = fields.number(1)
    sizes = fields.number(1)
    length = fields.sized(flags >> 5)
    fields.sized(flags >> 1)
    padding = fields.sized(flags >> 3)
    fields.take(_TIMES_BYTES)
    end = (min(length, len(data)) if length else len(data)) - padding
    payloads = list(_payloads(fields, sizes, end, many=bool(flags & _MANY)))
    return Packet(corrected, payloads, payloads[-1].end if payloads else fields.at)


def _payloads(fields: _Little, sizes: int, end: int, *, many: bool) -> Iterator[Payload]:
    """Yield the payloads in the fields up to *end*. sizes: the flags for the sizes of their numbers."""
    counted = fields.number(1) if many else 1
    for _ in range(counted & 0x3F):
        stream = fields.number(1) & 0x7F
        fields.sized(sizes >> 4)
        fields.sized(sizes >> 2)
        copied = fields.sized(sizes)
        more = fields.at + min(copied, _LEAST_COPIED)
        fields.take(copied)
        more_end = fields.at
        size = fields.sized(counted >> 6) if many else end - fields.at
        if size < 0 or fields.at + size > end or 1 < copied < _LEAST_COPIED:
            raise ValueError("a payload is larger than its packet")
        start = fields.at
        fields.at += size
        yield Payload(stream, more, more_end, start, start + size)

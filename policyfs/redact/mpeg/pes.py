"""Headers of PES packets (ISO/IEC 13818-1, 2.4.3.6; 11172-1, 2.4.3.3): clocks stay, all other data goes."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.filler import is_uniform

START: Final = b"\0\0\1"
LEAST_BYTES: Final = 9
"""Size of the fixed part of a header in bytes."""
_SCRAMBLED: Final = 0x30
_CLOCKS: Final = MappingProxyType({0x00: 0, 0x80: 5, 0xC0: 10})
"""A dictionary from the first two flags to the size of the clocks (PTS and DTS) in bytes."""
_FIELDS: Final = ((0x20, 6), (0x10, 3), (0x08, 1), (0x04, 1), (0x02, 2))
"""Flag and size in bytes of the other fields: ESCR, rate, trick mode, copy info, checksum."""
_EXTENDED: Final = 0x01
_PRIVATE_BYTES: Final = 16
_MAX_STUFFING: Final = 16
_STUFFING: Final = 0xFF


def cleaned_header(data: bytes) -> bytes:
    """Return the header of a PES packet of MPEG-2, with 0xff for data that is no clock and no number.

    data: the packet, from its start code on. Raises NotThisKindError for a header that is cut off, encrypted
    or not of this form.
    """
    if len(data) < LEAST_BYTES or not data.startswith(START) or data[6] >> 6 != 2:
        raise NotThisKindError("a packet in it has an unknown header")
    if data[6] & _SCRAMBLED:
        raise NotThisKindError("it is encrypted")
    end, flags = LEAST_BYTES + data[8], data[7]
    if _CLOCKS.get(flags) == data[8] and len(data) >= end:  # nearly all
        return data[:end]
    head = bytearray(data[:end])
    at = LEAST_BYTES + _CLOCKS.get(flags & 0xC0, 0) + sum(size for flag, size in _FIELDS if flags & flag)
    if len(head) < end or at > end:
        raise NotThisKindError("the header of a packet in it is cut off")
    if flags & _EXTENDED:
        at = _extension(head, at, end)
    blank(head, at, end)
    return bytes(head)


def _extension(head: bytearray, at: int, end: int) -> int:
    if at >= end:
        raise NotThisKindError("the header of a packet in it is cut off")
    flags, at = head[at], at + 1
    if flags & 0x80:
        blank(head, at, min(end, at + _PRIVATE_BYTES))
        at += _PRIVATE_BYTES
    if flags & 0x40 and at < end:  # a pack header
        blank(head, at + 1, min(end, at + 1 + head[at]))
        at += 1 + head[at]
    at += 2 * (flags >> 5 & 1) + 2 * (flags >> 4 & 1)
    if flags & 0x01 and at < end:  # of its data, the number of a stream stays
        blank(head, at + 2, min(end, at + 1 + (head[at] & 0x7F)))
        at += 1 + (head[at] & 0x7F)
    if at > end:
        raise NotThisKindError("the header of a packet in it is cut off")
    return at


def old_header_size(data: bytes) -> int:
    """Return the size of a packet header of MPEG-1 in bytes. Raises NotThisKindError for any other header."""
    at = 6
    while data[at : at + 1] == b"\xff" and at < 6 + _MAX_STUFFING:
        at += 1
    if data[at : at + 1] and data[at] >> 6 == 1:
        at += 2
    kind = data[at] if at < len(data) else 0
    size = {2: 5, 3: 10}.get(kind >> 4, 1 if kind == 0x0F else 0)
    if not size or at + size > len(data):
        raise NotThisKindError("a packet in it has an unknown header")
    return at + size


def blank(data: bytearray, start: int, end: int) -> None:
    """Replace the bytes [start, end) by stuffing, unless they are one repeated byte."""
    if not is_uniform(bytes(data[start:end])):
        data[start:end] = bytes((_STUFFING,)) * (end - start)

"""Comments in JBIG2 pictures of a PDF (ITU-T T.88; ISO 32000-2, 7.4.7).

A picture is a row of segments, and so is the stream of its shared symbols (JBIG2Globals). Segments of
extensions (type 62) hold comments, as pairs of texts; no decoder needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.cleaners import Budget, NotThisKindError

_EXTENSION: Final = 62
_TYPE_BITS: Final = 0x3F
_LONG_PAGE: Final = 0x40
_MANY: Final = 7
_UNKNOWN_LENGTH: Final = 0xFFFFFFFF
_KIND_BYTES: Final = 4
"""Size of the number at the start of an extension, which states its type."""


class Segment(NamedTuple):
    """A segment: its type, and the range [start, end) of its data."""

    kind: int
    start: int
    end: int


def segments(data: bytes, budget: Budget) -> Iterator[Segment]:
    """Yield the segments (T.88, 7.2), up to one whose length is unknown, or to bytes that are no segment.

    Raises TooMuchError.
    """
    at = 0
    while at + 11 <= len(data):
        budget.part()
        number, flags, count = _number(data, at, 4), data[at + 4], data[at + 5] >> 5
        at += 6
        if count == _MANY:
            count = _number(data, at - 1, 4) & 0x1FFFFFFF
            at += 3 + (count + 8) // 8
        at += count * (1 if number <= 0x100 else 2 if number <= 0x10000 else 4)
        at += 4 if flags & _LONG_PAGE else 1
        size = _number(data, at, 4)
        at += 4
        if size == _UNKNOWN_LENGTH or at + size > len(data):
            return
        yield Segment(flags & _TYPE_BITS, at, at + size)
        at += size


def without_comments(data: bytes, budget: Budget) -> bytes:
    """Return the segments with zeros in place of the texts of comments.

    Raises TooMuchError; NotThisKindError if a block of metadata remains in other bytes.
    """
    out = bytearray(data)
    for segment in segments(data, budget):
        if segment.kind == _EXTENSION:
            start = min(segment.start + _KIND_BYTES, segment.end)
            out[start : segment.end] = bytes(segment.end - start)
    budget.search(len(data))
    if holds_metadata(bytes(out), numbers=True):
        raise NotThisKindError("a picture in it holds metadata")
    return bytes(out)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size])

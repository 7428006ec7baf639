"""Chunks of RIFF and IFF files: a name of four letters, a length, and data.

RIFF (Microsoft and IBM, 1991) is little endian: WebP, WAV, AVI. IFF (EA IFF 85) is big endian: AIFF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Inner
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import ByteSource

HEAD_BYTES: Final = 8
JUNK: Final = b"JUNK"
"""Name of padding chunks in RIFF (Multimedia Programming Interface 1.0). Every reader skips them."""
_AT_ONCE: Final = (JUNK, b"FLLR", b"LIST")
"""Names that always count as the start of a chunk, even if the four bytes from the next offset on could be a
name, too.

A removed chunk gets the name JUNK or FLLR. If the result is redacted again, such a chunk must be found at the
same offset. Otherwise bytes would change again.
"""
LIKELY_NAME: Final = re.compile(rb"[A-Za-z0-9_\xa9(][\x20-\x7e\xa9]{3}")
_WINDOW_BYTES: Final = 1 << 12

Order = Literal["little", "big"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk.

    at: offset of its name. size: length of its data, cut at the container's end. whole: True if the data was
    not cut. next: offset of the following chunk, behind the padding byte if there is one.
    """

    at: int
    name: bytes
    size: int
    whole: bool
    next: int

    @property
    def start(self) -> int:
        """Offset of the chunk's data."""
        return self.at + HEAD_BYTES

    @property
    def end(self) -> int:
        """Offset behind the chunk's data, without padding."""
        return self.start + self.size


@dataclass(slots=True)
class Window:
    """Buffer for many small reads of a source that are close to each other."""

    source: ByteSource
    base: int = 0
    data: bytes = b""

    def read(self, at: int, size: int) -> bytes:
        """Read up to *size* bytes (at most 4096) of the source at an offset."""
        index = at - self.base
        if not 0 <= index <= len(self.data) - size:
            self.base, self.data, index = at, self.source.read(at, _WINDOW_BYTES), 0
        return self.data[index : index + size]


def chunks(
    source: ByteSource, inner: Inner | None, start: int, end: int, order: Order = "little",
    *, padded: bool = True,
) -> Iterator[Chunk]:  # fmt: skip
    """Yield the chunks of [start, end), up to bytes that cannot be a chunk. The last chunk may be cut off.

    A padding byte should follow a chunk of odd size. If a name follows the chunk directly, but not behind
    such a byte, the writer forgot the byte. inner: its budget counts the chunks; None if the caller counts
    them. order: byte order of the length. padded: False for formats without padding bytes. Raises
    TooMuchError.
    """
    window, at = Window(source), start
    end = min(end, source.size)
    while at + HEAD_BYTES <= end:
        head = window.read(at, HEAD_BYTES)
        if LIKELY_NAME.fullmatch(head[:4]) is None:
            return
        if inner is not None:
            inner.budget.part()
        told = int.from_bytes(head[4:], order)
        size = min(told, end - at - HEAD_BYTES)
        after = at + HEAD_BYTES + size
        after = min(after + (padded and size & 1 and padding_at(window, after, end)), end)
        yield Chunk(at, head[:4], size, told == size, after)
        at = after


def padding_at(window: Window, after: int, end: int) -> int:
    """Return the length of the padding behind a chunk of odd size: 1, or 0 if the writer forgot the padding
    byte.

    after: end of the chunk's data. Only bytes before `end` count. Bytes behind `end` belong to another chunk,
    and redaction may change the name of that chunk.
    """
    here, there = (window.read(at, max(0, min(4, end - at))) for at in (after, after + 1))
    padded = LIKELY_NAME.fullmatch(there) is not None and here not in _AT_ONCE
    return 1 if padded or after + 1 >= end or LIKELY_NAME.fullmatch(here) is None else 0


def drop(
    edits: Edits,
    chunk: Chunk,
    tells: Tells = UNKNOWN,
    name: bytes = JUNK,
    *,
    tag: str | None = None,
    broken: bool = False,
) -> None:
    """Turn a chunk into padding full of zeros, and record the removal.

    tells: the categories of its data. name: the name of padding chunks in this format. tag: the part's name
    in the record; by default the chunk's old name.
    """
    tag = printable(chunk.name) if tag is None else tag
    before = len(edits.found.notes)
    renamed = edits.put(chunk.at, chunk.name, name)
    edits.zero(chunk.start, chunk.next, tag, tells, broken=broken)
    if renamed and len(edits.found.notes) == before:
        edits.note(chunk.at, HEAD_BYTES, tag, tells, broken=broken)


def pad(edits: Edits, chunk: Chunk) -> None:
    """Zero the padding byte of a chunk that stays."""
    edits.zero(chunk.end, chunk.next, f"behind {printable(chunk.name)}")


def printable(name: bytes) -> str:
    """Return a chunk's name as text."""
    return name.decode("latin-1").strip()

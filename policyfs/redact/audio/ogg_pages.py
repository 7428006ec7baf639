"""Pages of Ogg files (RFC 3533): where they are, their checksums, the packets that start on them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import Final

from policyfs.redact.core.cleaners import TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, Window

MAX_PAGES: Final = 300_000
HEAD_BYTES: Final = 27
CONTINUED, FIRST, LAST = 1, 2, 4
"""Flags of a page: it starts with the rest of a packet; it is the first, or the last, page of its stream."""
CAPTURE: Final = b"OggS"
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ENDS: Final = b"\1" * 255 + b"\0"
"""Lengths of segments -> 1 if a packet ends with such a segment, for bytes.translate()."""
_FAR_BYTES: Final = 1024
"""If packets start this far from each other on average, the bytes between their starts are not read."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its offset, the fields of its header, and the range [start, end) of its body (bytes)."""

    at: int
    flags: int
    serial: int
    lacing: bytes
    start: int
    end: int


def page_checksum(page: bytes) -> int:
    """Return the checksum of a page with zeros in its field (RFC 3533, 6: CRC-32, unreflected)."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def walk(edits: Edits) -> Iterator[Page | tuple[int, int]]:
    """Yield the pages, and (start, end) of bytes between them. Raises TooMuchError."""
    window, at = Window(edits.source), 0
    for count in range(MAX_PAGES + 1):
        if at >= edits.source.size:
            return
        if count == MAX_PAGES:
            raise TooMuchError("too many pages")
        head = window.read(at, HEAD_BYTES + 255)
        lacing = head[HEAD_BYTES : HEAD_BYTES + head[26]] if len(head) >= HEAD_BYTES else b""
        start = at + HEAD_BYTES + len(lacing)
        end = start + sum(lacing)
        whole = len(head) >= HEAD_BYTES and len(lacing) == head[26] and end <= edits.source.size
        if head[:5] == CAPTURE + b"\0" and whole:
            yield Page(at, head[5], int.from_bytes(head[14:18], "little"), lacing, start, end)
            at = end
            continue
        following = _next_page(edits, at + 1)
        yield at, following
        at = following


def _next_page(edits: Edits, start: int) -> int:
    for at in range(start, edits.source.size, CHUNK_BYTES):
        data = edits.source.read(at, CHUNK_BYTES + len(CAPTURE))
        edits.inner.budget.search(len(data))
        found = data.find(CAPTURE + b"\0")
        if found >= 0:
            return at + found
    return edits.source.size


def first_bytes(page: Page, source: ByteSource) -> bytes:
    """Return the first byte of each packet that starts on a page; of an empty one, the byte behind it."""
    size = page.end - page.start
    begins = bytes([not page.flags & CONTINUED]) + page.lacing.translate(_ENDS)
    starts = [at for at in compress(accumulate(page.lacing, initial=0), begins) if at < size]
    if len(starts) * _FAR_BYTES < size:
        return b"".join(source.read(page.start + at, 1) for at in starts)
    return bytes(map(source.read(page.start, size).__getitem__, starts))

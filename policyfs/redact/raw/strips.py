"""Headers of JPEG strips and tiles in a TIFF: the metadata segments in them.

A picture may have hundreds of thousands of JPEG tiles, and a writer may put a segment into any of them. Tiles
of one picture have the same header (tables and sizes), so a header is walked once, and each further tile is
compared with it.
"""

from __future__ import annotations

from typing import Final

from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.patches import ByteSource, SliceSource
from policyfs.redact.jpeg.markers import COM, FRAMES, SOS, WITH_LENGTH, is_soi, walk_image, well_formed

Spans = list[tuple[int, int]]

MOST_SEGMENTS: Final = 64
"""Maximum number of segments of a header in the usual form. The walk for damaged files reads any other."""
_MOST_KNOWN: Final = 16
"""Number of different headers that are kept for comparison."""
_WALK_PARTS: Final = 2
"""Cost of a walk, in parts of the file's budget (cleaners.Budget)."""
_FIXED: Final = {(0xE0, b"JFIF\0"): 14, (0xEE, b"Adobe"): 12}
"""Segments that decoders read (marker, first bytes) -> size in bytes of their fixed part, which stays."""


class StripHeaders:
    """Reader of the headers of one file's strips."""

    def __init__(self, source: ByteSource, budget: Budget) -> None:
        self._source: Final = source
        self._budget: Final = budget
        self._known: Final[list[bytes]] = []
        """Headers without metadata, from SOI to the end of SOS."""

    def is_known(self, start: int, end: int) -> bool:
        """Return True if the strip [start, end) has a header that was walked before and has no metadata."""
        longest = max(map(len, self._known), default=0)
        return bool(longest) and self._source.read(start, min(longest, end - start)).startswith(
            tuple(self._known)
        )

    def metadata(self, start: int, end: int) -> tuple[Spans, int]:
        """Return the ranges of application data and comments in the header of a JPEG strip, and the marker of
        its frame header.

        The marker is 0 if the data is no picture. Raises TooMuchError.
        """
        self._budget.part(_WALK_PARTS)
        source, found = self._source, Spans()
        at, behind, frame, sound = start + 2, end, 0, True
        for _ in range(MOST_SEGMENTS):
            head = source.read(at, 4)
            size = int.from_bytes(head[2:])
            behind = at + 2 + size
            if len(head) < 4 or head[0] != 0xFF or head[1] == 0xD9 or size < 2 or behind > end:
                sound = False
                break
            if head[1] in FRAMES or head[1] == SOS:
                sound = sound and well_formed(head[1], source.read(at + 4, size - 2))
            if head[1] == SOS:
                break
            if 0xE0 <= head[1] <= 0xEF or head[1] == COM:
                self._segment(head[1], at + 4, behind, found)
            elif head[1] in FRAMES:
                frame = head[1]
            else:
                sound = sound and head[1] in WITH_LENGTH
            at = behind
        else:
            sound = False
        if not (sound and frame):
            return self._damaged(start, end, found)
        if not found and len(self._known) < _MOST_KNOWN:
            self._known.append(source.read(start, behind - start))
        return found, frame

    def _segment(self, code: int, start: int, end: int, found: Spans) -> None:
        """Add the part of a segment's payload [start, end) that decoders do not read."""
        fixed = next(
            (size for (own, name), size in _FIXED.items()
             if own == code and self._source.read(start, len(name)) == name),
            0,
        )  # fmt: skip
        if end > start + fixed:
            found.append((start + fixed, end))

    def _damaged(self, start: int, end: int, found: Spans) -> tuple[Spans, int]:
        """Return the result of metadata() for a header with other bytes, which decoders skip."""
        part = SliceSource(self._source, start, end - start)
        if not is_soi(part, 0):
            return found, 0
        image = walk_image(part, 0, self._budget, to_scan=True)
        if not image.is_picture:
            return found, 0
        spans = Spans()
        for segment in image.segments:
            self._segment(segment.code, start + segment.offset, start + segment.offset + segment.size, spans)
        return [*spans, *((start + a, start + b) for a, b in image.junk)], image.frame

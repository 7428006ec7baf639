"""Extents: the end of a segment's whole lines, as the segment's writer knows it."""

from __future__ import annotations

from typing import Final, NamedTuple

END: Final = "end"
"""The segment was closed because recording ended in order."""
ROTATION: Final = "rotation"
CRASH: Final = "crash"
"""The segment was left by an earlier daemon that did not end in order."""
DAMAGE: Final = "damage"
"""Another process has changed the segment or its directory."""
UNSYNCED: Final = "unsynced"
"""A sync of the segment to the disk failed."""


class Extent(NamedTuple):
    """The lines of a segment. size: their bytes. seq, head: number and digest of the last line."""

    segment: str
    size: int
    seq: int
    head: str


class Closed(NamedTuple):
    """A segment that gets no further lines. reason: one of the constants above."""

    extent: Extent
    reason: str

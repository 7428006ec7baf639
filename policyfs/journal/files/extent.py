"""Extents: the end of the lines in a file of the trail (segment), as the trail's writer knows it."""

from __future__ import annotations

from typing import Final, NamedTuple

END: Final = "end"
"""Reason for a closed segment: recording ended in order."""
ROTATION: Final = "rotation"
CRASH: Final = "crash"
"""Reason for a closed segment: an earlier daemon wrote the segment, and did not end in order."""
DAMAGE: Final = "damage"
"""Reason for a closed segment: another process has changed the segment or its directory."""
UNSYNCED: Final = "unsynced"
"""Reason for a closed segment: an fsync of the segment failed."""


class Extent(NamedTuple):
    """The end of a segment's lines, as its writer knows it: their size in bytes, the number and the digest of
    the last."""

    segment: str
    size: int
    seq: int
    head: str


class Closed(NamedTuple):
    """A segment (a file of the trail) to which no line will be added. reason: END, ROTATION, CRASH, ..."""

    extent: Extent
    reason: str

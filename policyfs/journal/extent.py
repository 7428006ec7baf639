"""Extents: the whole lines of a segment, as their writer knows them."""

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
    """The lines of a segment: its name, their size in bytes, and the seq and digest of the last line."""

    segment: str
    size: int
    seq: int
    head: str


class Closed(NamedTuple):
    """A segment to which nothing more is written, and the reason."""

    extent: Extent
    reason: str

"""Extents: the whole lines of a segment, as its writer knows them."""

from __future__ import annotations

from typing import Final, NamedTuple

END: Final = "end"
"""The segment was closed because recording ended in order."""
ROTATION: Final = "rotation"
CRASH: Final = "crash"
"""An earlier daemon did not end in order."""
DAMAGE: Final = "damage"
"""Another process changed the segment or its directory."""
UNSYNCED: Final = "unsynced"
"""A sync to the disk failed."""


class Extent(NamedTuple):
    """The lines of a segment: its name, their size in bytes, and the seq and digest of the last one."""

    segment: str
    size: int
    seq: int
    head: str


class Closed(NamedTuple):
    """A segment to which no more is written, and why."""

    extent: Extent
    reason: str

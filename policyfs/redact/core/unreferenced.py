"""Decision on the unreferenced bytes of a structure: filler (bytes without information) may stay, all other
bytes become zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from policyfs.redact.core.filler import says_nothing
from policyfs.redact.core.intervals import Extents


class Leftover(NamedTuple):
    """Unreferenced bytes [start, end) of a block. stays: they hold no information."""

    start: int
    end: int
    stays: bool


def leftovers(block: bytes, claimed: Extents, gone: Extents) -> Iterator[Leftover]:
    """Yield the unreferenced ranges of a block that are not all zero.

    claimed: referenced bytes. gone: removed bytes. A range beside removed bytes does not stay, because the
    range may belong to the removed data.
    """
    for start, end in claimed.gaps(len(block)):
        data = block[start:end]
        if data.count(0) < len(data):
            beside = gone.hits(start - 1, start) or gone.hits(end, end + 1)
            yield Leftover(start, end, not beside and says_nothing(data))

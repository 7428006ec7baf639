"""The counts of a cache of frozen copies, for `status`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CopyStats:
    """The counts of a copy cache. bytes, copies: size and number of the copies that the cache has now.

    pinned: copies that handles have open. mapped: copies in use only by a mapping. hits, misses: of get().
    refused: copies for which the cache had no room. shares: copies for which the cache had room, but the
    principal's share had none."""

    bytes: int
    copies: int
    pinned: int
    hits: int
    misses: int
    evicted: int
    refused: int
    mapped: int
    shares: int

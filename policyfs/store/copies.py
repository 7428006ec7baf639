"""The cache of finished frozen copies: least recently used go first, used ones never.

INVARIANT: event-loop thread only, and no ``await`` between get() or put() and pin(): an
unpinned copy may be closed by the next put().

A clone shares its source's extents: as long as it is kept, deleting or rewriting the source frees
no space in the store. So expire_clones() closes clones that nobody has used for a while.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from policyfs.store.frozen import Frozen

_LEAST_COST: Final = 4096
"""What any copy counts for at least, in bytes; a clone's data are extents of the source, not memory."""


@dataclass(frozen=True, slots=True)
class CopyStats:
    """bytes and copies held (pinned of them in use), and how often get() found one."""

    bytes: int
    copies: int
    pinned: int
    hits: int
    misses: int
    evicted: int
    refused: int


class Copy:
    """One sealed copy in a cache. frozen.fd stays open while it is pinned or cached.

    backing_id: under which the kernel knows it, 0 if it does not; given back when it is closed.
    """

    __slots__ = ("_cache", "_pins", "backing_id", "frozen", "key", "used")

    def __init__(self, cache: CopyCache, key: Hashable, frozen: Frozen) -> None:
        self._cache = cache
        self._pins = 0
        self.used = 0.0
        self.backing_id = 0
        self.key: Final = key
        self.frozen: Final = frozen

    @property
    def cost(self) -> int:
        """Bytes that it counts against the cap of its cache."""
        return max(_LEAST_COST, self.frozen.memory)

    @property
    def pinned(self) -> bool:
        """Whether somebody uses it."""
        return self._pins > 0

    def pin(self) -> None:
        """Keep it from being closed until as many unpin()s."""
        if self.frozen.fd < 0:
            raise ValueError("this copy is closed already")
        self._pins += 1

    def unpin(self) -> None:
        """Take back one pin(); ValueError if there is none."""
        if self._pins == 0:
            raise ValueError("unpin without pin")
        self._pins -= 1
        if self._pins == 0:
            self._cache._unpinned(self)  # noqa: SLF001 - Copy and CopyCache are one unit


class CopyCache:
    """Frozen copies by key, at most *max_bytes* and *max_copies* of them, used ones included.

    A copy in a cache belongs to it: the cache closes it, and hands its backing id to *give_back*.
    *clock* gives seconds that never go back.
    """

    __slots__ = (
        "_bytes", "_clock", "_copies", "_evicted", "_give_back", "_hits", "_misses", "_orphans", "_refused",
        "limits",
    )  # fmt: skip

    def __init__(
        self,
        max_bytes: int,
        max_copies: int = 1024,
        clock: Callable[[], float] = time.monotonic,
        give_back: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.limits: Final = (max_bytes, max_copies)
        self._give_back = give_back
        self._clock = clock
        self._copies: OrderedDict[Hashable, Copy] = OrderedDict()
        self._orphans: set[Copy] = set()  # dropped or replaced, but still pinned
        self._bytes = self._hits = self._misses = self._evicted = self._refused = 0

    def get(self, key: Hashable) -> Copy | None:
        """The copy under that key, now the most recently used one."""
        copy = self._copies.get(key)
        if copy is None:
            self._misses += 1
            return None
        self._hits += 1
        copy.used = self._clock()
        self._copies.move_to_end(key)
        return copy

    def __contains__(self, key: Hashable) -> bool:
        """Is there a copy under that key (asking counts for nothing)."""
        return key in self._copies

    def put(self, key: Hashable, frozen: Frozen) -> Copy | None:
        """Take a sealed copy in, in the place of an older one under that key.

        None if there is no room even after every unused copy went: then *frozen* stays the
        caller's. ValueError if it is not sealed.
        """
        if not frozen.sealed:
            raise ValueError("only a sealed copy may be cached")
        copy = Copy(self, key, frozen)
        if not self._fits(copy):
            self._refused += 1
            return None
        self.drop(key)
        self._make_room(copy.cost)
        copy.used = self._clock()
        self._copies[key] = copy
        self._bytes += copy.cost
        return copy

    def drop(self, key: Hashable) -> None:
        """Forget that key; a copy in use is closed after its last unpin()."""
        copy = self._copies.pop(key, None)
        if copy is None:
            return
        if copy.pinned:
            self._orphans.add(copy)
        else:
            self._close(copy)

    def expire_clones(self, idle_s: float) -> None:
        """Close the clones that nobody has used for *idle_s* seconds."""
        oldest = self._clock() - idle_s
        for key, copy in list(self._copies.items()):
            if copy.frozen.how == "reflink" and not copy.pinned and copy.used < oldest:
                self.drop(key)

    def clear(self) -> None:
        """Forget all; copies in use are closed after their last unpin()."""
        for key in list(self._copies):
            self.drop(key)

    def close(self) -> None:
        """Close every copy, used or not: for the end of the mount."""
        self.clear()
        for copy in list(self._orphans):
            self._orphans.discard(copy)
            self._close(copy)

    def stats(self) -> CopyStats:
        """What is held now, and what happened so far."""
        return CopyStats(
            bytes=self._bytes,
            copies=len(self._copies) + len(self._orphans),
            pinned=len(self._orphans) + sum(copy.pinned for copy in self._copies.values()),
            hits=self._hits,
            misses=self._misses,
            evicted=self._evicted,
            refused=self._refused,
        )

    def _fits(self, copy: Copy) -> bool:
        """Whether it fits beside the copies that cannot go."""
        stay = [other for other in self._copies.values() if other.pinned]
        used = sum(other.cost for other in stay) + sum(other.cost for other in self._orphans)
        max_bytes, max_copies = self.limits
        return used + copy.cost <= max_bytes and len(stay) + len(self._orphans) < max_copies

    def _make_room(self, cost: int) -> None:
        max_bytes, max_copies = self.limits
        for key, copy in list(self._copies.items()):
            if self._bytes + cost <= max_bytes and len(self._copies) + len(self._orphans) < max_copies:
                return
            if not copy.pinned:
                self._evicted += 1
                self.drop(key)

    def _unpinned(self, copy: Copy) -> None:
        copy.used = self._clock()
        if copy in self._orphans:
            self._orphans.discard(copy)
            self._close(copy)

    def _close(self, copy: Copy) -> None:
        self._bytes -= copy.cost
        backing_id, copy.backing_id = copy.backing_id, 0
        if backing_id:
            self._give_back(backing_id)
        copy.frozen.close()

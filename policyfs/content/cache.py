"""A cache that maps versions of files to content kinds.

A kind counts only for the lane (an app, or one uid: docs/architecture.md) whose worker found it.
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

RACY_NS: Final = 50_000_000
"""A file's kind is stored only if the file's last change is at least this old (in ns).

Within one tick of the kernel's clock, a file may change again without a change of its stat. (A tick is 10 ms
at HZ=100, on kernels before multigrain timestamps.)
"""


class KindKey(NamedTuple):
    """A version of a file, from a stat before the file was sniffed. Times in ns since 1970."""

    dev: int
    ino: int
    btime_ns: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def is_racy(self, now_ns: int) -> bool:
        """Return True if the file may change again without a change of its stat (see RACY_NS)."""
        return now_ns - max(self.mtime_ns, self.ctime_ns) < RACY_NS


_Entry = tuple[KindKey, Hashable]
"""The key of a cache entry: a file's version, and the lane whose worker found the kind."""


class KindsBeneath(Protocol):
    """A second, slower cache of kinds that survives a restart of the daemon (disk_cache.Remembered)."""

    async def kind(self, key: KindKey, lane: Hashable) -> str | None:
        """Return the kind found for a lane in this version of a file, or None. May wait for a disk, but not
        long."""

    def put_kind(self, key: KindKey, lane: Hashable, kind: str) -> None:
        """Store the kind that a worker of this lane found in this version of a file."""


@dataclass(frozen=True, slots=True)
class KindCacheStats:
    """Counters of the kind cache since the daemon's start. entries, capacity: the present and the greatest
    number of entries."""

    entries: int
    capacity: int
    hits: int
    misses: int
    evicted: int


class KindCache:
    """A bounded map from a file's version to its kind. The least recently used entry is dropped first.

    Failures are not stored, so the next request tries again. An entry takes about 400 bytes.

    INVARIANT: a kind from this cache is the file's kind at the time of the stat in the entry's key. A program
    with a shared mapping can change the bytes without a change of the stat. So a caller of get() must hold a
    read lease (fs/access/facts.py), or decide only about a name and attributes.
    """

    def __init__(
        self,
        capacity: int = 65_536,
        clock_ns: Callable[[], int] = time.time_ns,
        beneath: KindsBeneath | None = None,
    ) -> None:
        """Make an empty cache for up to *capacity* entries. beneath: a slower cache. recall() reads it. put()
        writes to both caches. clock_ns: returns the time in ns since 1970."""
        self._beneath = beneath
        self._kinds: OrderedDict[_Entry, str] = OrderedDict()
        self._capacity = capacity
        self._clock_ns = clock_ns
        self._hits = self._misses = self._evicted = 0

    def get(self, key: KindKey, lane: Hashable = None) -> str | None:
        """Return the kind that a worker of this lane found in this version of a file, or None."""
        kind = self._kinds.get((key, lane))
        if kind is None:
            self._misses += 1
        else:
            self._hits += 1
            self._kinds.move_to_end((key, lane))
        return kind

    async def recall(self, key: KindKey, lane: Hashable = None) -> str | None:
        """Return the lane's kind of this version of a file from the slower cache, or None. Keep it here.

        INVARIANT: the lease of the caller may have ended meanwhile, so the caller checks the lease again.
        """
        kind = None if self._beneath is None else await self._beneath.kind(key, lane)
        if kind is not None:
            self._keep((key, lane), kind)
        return kind

    def put(self, key: KindKey, kind: str, lane: Hashable = None, *, lasting: bool = True) -> None:
        """Store a kind that a worker of this lane has found. lasting: False to keep it from the slower cache.
        Do nothing if the file changed less than RACY_NS ago."""
        if key.is_racy(self._clock_ns()):
            return
        if lasting and self._beneath is not None and self._kinds.get((key, lane)) != kind:
            self._beneath.put_kind(key, lane, kind)
        self._keep((key, lane), kind)

    def _keep(self, entry: _Entry, kind: str) -> None:
        self._kinds[entry] = sys.intern(kind)
        self._kinds.move_to_end(entry)
        while len(self._kinds) > self._capacity:
            self._kinds.popitem(last=False)
            self._evicted += 1

    def stats(self) -> KindCacheStats:
        """Return the present counters of the cache."""
        return KindCacheStats(len(self._kinds), self._capacity, self._hits, self._misses, self._evicted)

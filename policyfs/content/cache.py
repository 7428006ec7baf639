"""A cache of content kinds. Its keys are versions of files.

A lane is the callers that may share results of workers: an app, or one uid (docs/architecture.md).
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

RACY_NS: Final = 50_000_000
"""Age (ns) of a file's last change, below which no kind is stored.

Within one tick of the kernel's clock, a file may change again without a change of its stat (10 ms at HZ=100,
before multigrain timestamps).
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


_Entry = tuple[KindKey, tuple[Hashable] | None]
"""The key of a cache entry: a file's version, and the lane that may use the entry (in a tuple).

With None instead of a lane, all lanes may use the entry: a second worker has confirmed the kind.
"""


class KindsBeneath(Protocol):
    """A slower cache, which outlives the daemon (disk_cache.Remembered)."""

    def kind(self, key: KindKey) -> str | None:
        """Return the kind found in this version of a file, or None."""

    def put_kind(self, key: KindKey, kind: str) -> None:
        """Store a kind."""


@dataclass(frozen=True, slots=True)
class KindCacheStats:
    """Counts since the start; entries and capacity are current values."""

    entries: int
    capacity: int
    hits: int
    misses: int
    evicted: int


class KindCache:
    """A bounded map from a file's version to its kind. The least recently used entry is dropped first.

    Failures are not stored, so the next request tries again. An entry takes about 400 bytes.

    INVARIANT: a kind from this cache is the file's kind at the time of the stat in its key. A program with a
    shared mapping can change the bytes without a change of the stat. So a caller of get() must hold a read
    lease (fs/access/facts.py), or decide only about a name and attributes.
    """

    def __init__(
        self,
        capacity: int = 16_384,
        clock_ns: Callable[[], int] = time.time_ns,
        beneath: KindsBeneath | None = None,
    ) -> None:
        """Make an empty cache. beneath: a slower cache. get() reads it on a miss, and put() writes to it."""
        self._beneath = beneath
        self._kinds: OrderedDict[_Entry, str] = OrderedDict()
        self._capacity = capacity
        self._clock_ns = clock_ns
        self._hits = self._misses = self._evicted = 0

    def get(self, key: KindKey, lane: Hashable = None) -> str | None:
        """Return the kind, or None if it is unknown. lane: a lane whose own answers count, too (put_own)."""
        for entry in ((key, None), (key, (lane,))):
            kind = self._kinds.get(entry)
            if kind is not None:
                self._hits += 1
                self._kinds.move_to_end(entry)
                return kind
        self._misses += 1
        kind = None if self._beneath is None else self._beneath.kind(key)
        if kind is not None:
            self._keep((key, None), kind)
        return kind

    def put(self, key: KindKey, kind: str | None) -> None:
        """Store a kind for all lanes.

        Does nothing for a failure (None), or if the file changed less than RACY_NS ago.
        """
        if kind is None or key.is_racy(self._clock_ns()):
            return
        if self._beneath is not None and self._kinds.get((key, None)) != kind:
            self._beneath.put_kind(key, kind)
        self._keep((key, None), kind)

    def put_own(self, key: KindKey, kind: str, lane: Hashable) -> None:
        """Store the answer of a lane's worker, for that lane.

        Does nothing if the file changed less than RACY_NS ago.
        """
        if not key.is_racy(self._clock_ns()):
            self._keep((key, (lane,)), kind)

    def drop_own(self, key: KindKey, lane: Hashable) -> None:
        """Forget the answer of a lane's worker."""
        self._kinds.pop((key, (lane,)), None)

    def _keep(self, entry: _Entry, kind: str) -> None:
        self._kinds[entry] = sys.intern(kind)
        self._kinds.move_to_end(entry)
        while len(self._kinds) > self._capacity:
            self._kinds.popitem(last=False)
            self._evicted += 1

    def stats(self) -> KindCacheStats:
        """Return a snapshot of the counts."""
        return KindCacheStats(len(self._kinds), self._capacity, self._hits, self._misses, self._evicted)

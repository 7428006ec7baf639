"""Content kinds that are known already, by the identity and version of the file."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

RACY_NS: Final = 50_000_000
"""A file changed this recently (ns) may change again within one tick of the kernel's clock (10 ms
at HZ=100, before multigrain timestamps) and look the same."""


class KindKey(NamedTuple):
    """One version of one file: taken by stat BEFORE the file was sniffed. Times in ns since 1970."""

    dev: int
    ino: int
    btime_ns: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def is_racy(self, now_ns: int) -> bool:
        """May the file change again and yet look like this version."""
        return now_ns - max(self.mtime_ns, self.ctime_ns) < RACY_NS


_Entry = tuple[KindKey, tuple[Hashable] | None]
"""A version of a file, and whose worker said so: None if another one found the same."""


class KindsBeneath(Protocol):
    """A slower and lasting cache (remembered.Remembered)."""

    def kind(self, key: KindKey) -> str | None:
        """The kind that was found in this version of a file."""

    def put_kind(self, key: KindKey, kind: str) -> None:
        """Keep it."""


@dataclass(frozen=True, slots=True)
class KindCacheStats:
    """Counts since the start, except entries and capacity, which are now."""

    entries: int
    capacity: int
    hits: int
    misses: int
    evicted: int


class KindCache:
    """Bounded map from a file's version to its kind; the one not asked for the longest goes first.

    Failures are not kept: the next request tries again. About 400 bytes per entry.

    INVARIANT: a hit says what the file's kind was when it had that stat. A writer with a shared
    mapping changes bytes without changing any of it: whoever asks holds a read lease (fs/access/facts.py), or
    decides on no more than a name and attributes.
    """

    def __init__(
        self,
        capacity: int = 16_384,
        clock_ns: Callable[[], int] = time.time_ns,
        beneath: KindsBeneath | None = None,
    ) -> None:
        """beneath: asked for what is not in here, and told what comes in."""
        self._beneath = beneath
        self._kinds: OrderedDict[_Entry, str] = OrderedDict()
        self._capacity = capacity
        self._clock_ns = clock_ns
        self._hits = self._misses = self._evicted = 0

    def get(self, key: KindKey, lane: Hashable = None) -> str | None:
        """The kind, or None if it is not known. lane: who asks gets what its own worker said, too."""
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
        """Keep a kind for everybody; None (a failure) and a file changed within RACY_NS are not kept."""
        if kind is None or key.is_racy(self._clock_ns()):
            return
        if self._beneath is not None and self._kinds.get((key, None)) != kind:
            self._beneath.put_kind(key, kind)
        self._keep((key, None), kind)

    def put_own(self, key: KindKey, kind: str, lane: Hashable) -> None:
        """Keep what the worker of a lane said, for that lane; likewise."""
        if not key.is_racy(self._clock_ns()):
            self._keep((key, (lane,)), kind)

    def drop_own(self, key: KindKey, lane: Hashable) -> None:
        """Forget what the worker of a lane said."""
        self._kinds.pop((key, (lane,)), None)

    def _keep(self, entry: _Entry, kind: str) -> None:
        self._kinds[entry] = sys.intern(kind)
        self._kinds.move_to_end(entry)
        while len(self._kinds) > self._capacity:
            self._kinds.popitem(last=False)
            self._evicted += 1

    def stats(self) -> KindCacheStats:
        """A snapshot of the counts."""
        return KindCacheStats(len(self._kinds), self._capacity, self._hits, self._misses, self._evicted)

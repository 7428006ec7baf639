"""The order in which a cache evicts its entries. Entries that are used often stay during a scan of many keys.

The policy is W-TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy",
ACM Transactions on Storage 2017) with exact counts instead of a sketch. New entries enter a small window.
The oldest entry of the window competes with the least recently used entry of the main part: the entry with
fewer recent look-ups is evicted. This module only decides the order. The cache itself closes the entries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Final

_WINDOW_SHARE: Final = 8
"""The share of the window (the newest entries) in the cache: 1/8 of its bytes and entries."""
_SAMPLE: Final = 8
"""After 8 look-ups for each entry that the cache has room for, Frequencies halves its counts."""


class Frequencies:
    """A counter of the recent look-ups of each key, in the cache or not. It counts at most *sample* keys."""

    __slots__ = ("_counts", "_sample", "_seen")

    def __init__(self, sample: int) -> None:
        self._sample: Final = max(1, sample)
        self._counts: dict[Hashable, int] = {}
        self._seen = 0

    def __getitem__(self, key: Hashable) -> int:
        return self._counts.get(key, 0)

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, key: Hashable) -> None:
        """Count one look-up. After *sample* look-ups, halve all counts, so that old look-ups count less."""
        self._counts[key] = self._counts.get(key, 0) + 1
        self._seen += 1
        if self._seen >= self._sample:
            self._seen //= 2
            self._counts = {of: count // 2 for of, count in self._counts.items() if count > 1}


class Victims:
    """A list of a cache's keys that decides the order of eviction. Each key has a cost in bytes."""

    __slots__ = ("_frequencies", "_main", "_window", "_window_cost", "_window_limits")

    def __init__(self, max_cost: int, max_entries: int) -> None:
        self._window_limits: Final = (max_cost // _WINDOW_SHARE, max(1, max_entries // _WINDOW_SHARE))
        self._frequencies: Final = Frequencies(_SAMPLE * max_entries)
        self._window: OrderedDict[Hashable, int] = OrderedDict()
        self._main: OrderedDict[Hashable, int] = OrderedDict()
        self._window_cost = 0

    def ask(self, key: Hashable) -> None:
        """Count a look-up of a key. If the cache has the key, the key becomes the most recently used one."""
        self._frequencies.count(key)
        for part in (self._window, self._main):
            if key in part:
                part.move_to_end(key)

    def add(self, key: Hashable, cost: int) -> None:
        """Add a new entry to the window. If the window is then too large, move its oldest entries to the main
        part."""
        self._window[key] = cost
        self._window_cost += cost
        max_cost, max_entries = self._window_limits
        while self._window_cost > max_cost or len(self._window) > max_entries:
            oldest = next(iter(self._window))
            self._main[oldest] = self._remove_from_window(oldest)

    def remove(self, key: Hashable) -> None:
        """Remove the key of an entry that has left the cache."""
        if key in self._window:
            self._remove_from_window(key)
        else:
            self._main.pop(key, None)

    def next_ones(self, may_go: Callable[[Hashable], bool]) -> Iterator[Hashable]:
        """Yield the keys in the order of eviction. Leave out the keys for which *may_go* returns False. Do
        not call ask(), add() or remove() before the iteration has ended."""
        fresh = (key for key in self._window if may_go(key))
        old = (key for key in self._main if may_go(key))
        candidate, victim = next(fresh, None), next(old, None)
        while candidate is not None or victim is not None:
            if candidate is None or (victim is not None and self._asked_more(candidate, victim)):
                yield victim
                victim = next(old, None)
            else:
                yield candidate
                candidate = next(fresh, None)

    def _asked_more(self, key: Hashable, other: Hashable) -> bool:
        return self._frequencies[key] > self._frequencies[other]

    def _remove_from_window(self, key: Hashable) -> int:
        cost = self._window.pop(key)
        self._window_cost -= cost
        return cost

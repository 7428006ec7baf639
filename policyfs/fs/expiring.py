"""Maps that remove each entry after a fixed time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """A map in which each entry lasts for *lasts_s* seconds after put().

    Every open(2) calls get(), which is one dictionary look-up and removes nothing. put() and len() remove
    ended entries; until then bool() counts them (cachetools takes ten times as long)."""

    __slots__ = ("_clock_s", "_entries", "_lasts_s", "_most")

    def __init__(
        self, lasts_s: float, most: int | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """most: the limit of entries; above it, put() removes the oldest entry. None: no limit."""
        self._lasts_s: Final = lasts_s
        self._most: Final = most
        self._clock_s: Final = clock_s
        # The entry that ends first is at the front. An OrderedDict finds its front faster than a dict.
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __len__(self) -> int:
        self._sweep()
        return len(self._entries)

    def put(self, key: K, value: V) -> None:
        """Store a value in a new entry, which begins now."""
        self._entries.pop(key, None)
        now_s = self._sweep()
        if self._most is not None and len(self._entries) >= self._most:
            self._entries.popitem(last=False)
        self._entries[key] = (now_s + self._lasts_s, value)

    def change(self, key: K, value: V) -> None:
        """Replace the value of an entry, which ends as before. Raise KeyError if there is none."""
        self._entries[key] = (self._entries[key][0], value)

    def get(self, key: K) -> V | None:
        """Return the value of an entry, or None if there is no entry or the entry has ended."""
        entry = self._entries.get(key)
        return None if entry is None or entry[0] <= self._clock_s() else entry[1]

    def left_s(self, key: K) -> float:
        """Return the seconds until an entry ends; 0 if there is no entry."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else max(0.0, entry[0] - self._clock_s())

    def pop(self, key: K) -> V | None:
        """Remove an entry. Return its value, or None if there is no entry or the entry has ended."""
        entry = self._entries.pop(key, None)
        return None if entry is None or entry[0] <= self._clock_s() else entry[1]

    def _sweep(self) -> float:
        """Remove ended entries. Return the present time in seconds."""
        now_s = self._clock_s()
        while self._entries and next(iter(self._entries.values()))[0] <= now_s:
            self._entries.popitem(last=False)
        return now_s

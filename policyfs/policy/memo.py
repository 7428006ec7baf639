"""A bounded memo table of answers. To forget an answer costs the time to compute it again, nothing else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(Generic[K, V]):
    """A map with a bounded number of units; when it is full it forgets the oldest entries.

    It forgets no more than it must: to forget 80 MB of answers in one go takes 75 ms.

    An answer that refers to a large path state keeps that state in memory, so it counts as many units
    as the state has parts. Apps choose the names in a path, and must not choose how much memory is
    used.
    """

    __slots__ = ("_entries", "_held", "_units", "capacity", "get")

    def __init__(self, capacity: int) -> None:
        """Take the capacity in units. A single entry is kept even if it has more units."""
        self.capacity: Final = capacity
        self._entries: OrderedDict[K, V] = OrderedDict()  # a dict is slow to find its oldest entry
        self._units: dict[K, int] = {}  # of entries with more than one unit
        self._held = 0
        self.get: Final[Callable[[K], V | None]] = self._entries.get

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def keep(self, key: K, value: V, units: int = 1) -> V:
        """Store an answer and return it."""
        self._forget(key)
        while self._entries and self._held + units > self.capacity:
            self._forget(next(iter(self._entries)))
        self._entries[key] = value
        if units != 1:
            self._units[key] = units
        self._held += units
        return value

    def _forget(self, key: K) -> None:
        if key in self._entries:
            del self._entries[key]
            self._held -= self._units.pop(key, 1)

    def entries(self) -> list[tuple[K, V]]:
        """Return all entries."""
        return list(self._entries.items())

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()
        self._units.clear()
        self._held = 0

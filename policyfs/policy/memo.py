"""A bounded memo table: answers that cost time to find again, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Map at most so many units of answers; when it is full it forgets all and starts anew.

    An answer that refers to a large path state keeps that state in memory, so it counts as many units
    as the state has parts: apps choose the names in a path, and must not choose how much is kept.
    """

    __slots__ = ("_entries", "_held", "capacity", "get")

    def __init__(self, capacity: int) -> None:
        """capacity: in units; one entry is kept even if it has more."""
        self.capacity: Final = capacity
        self._entries: dict[K, V] = {}
        self._held = 0
        self.get: Final[Callable[[K], V | None]] = self._entries.get

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def keep(self, key: K, value: V, units: int = 1) -> V:
        """Keep an answer, and return it."""
        if self._held + units > self.capacity:
            self.clear()
        self._entries[key] = value
        self._held += units
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._held = 0

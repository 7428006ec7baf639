"""The backlog: best-effort events that wait to be written, bounded in number and in bytes.

No app gets more of it than is left for all others, so that who floods it loses its own events only.
Not thread-safe: the journal calls it under its own lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from policyfs.journal.writer import Gap
from policyfs.trail.bounds import memory_bytes
from policyfs.trail.event import Event, Holder, holder_of

QUEUE: Final = 10_000
QUEUE_BYTES: Final = 16 * 1024 * 1024
"""What may wait to be written: events, and bytes of memory."""

_GAP_BYTES: Final = 512

Item = Event | Gap


class _Share(NamedTuple):
    events: int
    size: int


_NOTHING: Final = _Share(0, 0)


class Backlog:
    """Events and gaps in the order in which they are to be written."""

    def __init__(self, events: int, size: int) -> None:
        """events, size: how many may wait, and what they may take in memory, in bytes."""
        self._most = _Share(events, size)
        self._items: deque[tuple[Item, int]] = deque()
        self._shares: dict[Holder, _Share] = {}
        self._gaps: dict[str, Gap] = {}
        self._events = 0
        self.size = 0
        """What all of it takes in memory at most, in bytes."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        """True if nobody gets anything in."""
        return self._events >= self._most.events or self.size >= self._most.size

    def add(self, event: Event) -> bool:
        """False if the event's app has as much as is left for all others."""
        share = self._shares.get(holder_of(event), _NOTHING)
        size = memory_bytes(event)
        left = _Share(self._most.events - self._events, self._most.size - self.size)
        if share.events >= left.events or share.size + size > left.size:
            return False
        self.force(event)
        return True

    def force(self, event: Event) -> None:
        """Add what may not be dropped, whatever there is already."""
        self._items.append((event, self._counted(event, 1)))

    def gap(self, reason: str, time_ns: int) -> Gap:
        """The gap of this reason that waits to be written, begun if there is none: one is enough."""
        gap = self._gaps.get(reason)
        if gap is None:
            gap = Gap(reason, time_ns)
            self._items.append((gap, self._counted(gap, 1)))
        return gap

    def take(self, count: int, size: int) -> list[Item]:
        """Up to so many items from the front, and so many bytes of memory but for the first."""
        taken: list[Item] = []
        while self._items and len(taken) < count and (not taken or self._items[0][1] <= size):
            item, cost = self._items.popleft()
            size -= cost
            self._counted(item, -1)
            taken.append(item)
        return taken

    def put_back(self, items: Sequence[Item]) -> None:
        """What was taken and could not be written is to be written first."""
        for item in reversed(items):
            self._items.appendleft((item, self._counted(item, 1)))

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self._shares.clear()
        self._gaps.clear()
        self._events = self.size = 0

    def items(self) -> list[Item]:
        """Everything, in order."""
        return [item for item, _ in self._items]

    def _counted(self, item: Item, sign: int) -> int:
        size = memory_bytes(item) if isinstance(item, Event) else _GAP_BYTES
        self.size += sign * size
        if isinstance(item, Event):
            self._events += sign
            holder = holder_of(item)
            share = self._shares.get(holder, _NOTHING)
            share = _Share(share.events + sign, share.size + sign * size)
            if share.events:
                self._shares[holder] = share
            else:
                self._shares.pop(holder, None)
        elif sign > 0:
            self._gaps.setdefault(item.reason, item)
        elif self._gaps.get(item.reason) is item:
            del self._gaps[item.reason]
        return size

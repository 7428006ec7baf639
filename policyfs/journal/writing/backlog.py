"""The backlog: best-effort events that wait in memory until the journal's writer appends them to the trail.

Their number and memory are limited. An app may use at most as much as is still free, so if one makes too many
events, only its own are lost. Not thread-safe: called under the lock of the intake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from policyfs.journal.writing.entry import Entry
from policyfs.journal.writing.gap import Gap
from policyfs.trail.lines.bounds import memory_bytes
from policyfs.trail.lines.event import Event, Holder, holder_of

QUEUE: Final = 10_000
QUEUE_BYTES: Final = 16 * 1024 * 1024
"""The limits of the backlog. QUEUE: the number of events. QUEUE_BYTES: their memory in bytes."""

_GAP_BYTES: Final = 512

Item = Event | Entry | Gap


class Backlog:
    """A queue of events and gaps (counts of dropped events) for the trail, oldest first."""

    def __init__(self, events: int, size: int) -> None:
        """events: the limit of the number of events. size: the limit of the events' memory in bytes."""
        self._most_events = events
        self._most_size = size
        self._items: deque[tuple[Item, int]] = deque()
        self._shares: dict[Holder, list[int]] = {}
        """For each app: the number of its events, and their memory in bytes."""
        self._gaps: dict[str, Gap] = {}
        self._events = 0
        self.size = 0
        """An upper bound of the memory of all events and gaps in the backlog, in bytes."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        """True if no app can add another event."""
        return self._events >= self._most_events or self.size >= self._most_size

    def add(self, event: Event | Entry) -> bool:
        """Add an event at the end. Return False if its app would use more room than is still free."""
        holder, size = _holder(event), _memory(event)
        share = self._shares.get(holder)
        events, used = share or (0, 0)
        if events >= self._most_events - self._events or used + size > self._most_size - self.size:
            return False
        if share is None:
            share = self._shares[holder] = [0, 0]
        share[0] += 1
        share[1] += size
        self._events += 1
        self.size += size
        self._items.append((event, size))
        return True

    def force(self, event: Event) -> None:
        """Add an event at the end, even if the backlog is full, because the event must not be dropped."""
        self._items.append((event, self._added(event)))

    def gap(self, reason: str, time_ns: int) -> Gap:
        """Return the gap with this reason in the backlog, or a new one. time_ns: its time, ns since 1970."""
        gap = self._gaps.get(reason)
        if gap is None:
            gap = Gap(reason, time_ns)
            self._items.append((gap, self._added(gap)))
        return gap

    def drop(self, event: Event | Entry, reason: str) -> None:
        """Count an event in the gap with this reason. The event itself is not added to the backlog."""
        gap = self.gap(reason, event.time_ns)
        gap.dropped += event.weight
        gap.include(event.time_ns)

    def take(self, count: int, size: int) -> list[Item]:
        """Remove the oldest events and gaps, within these limits (but at least one), and return them."""
        taken: list[Item] = []
        while self._items and len(taken) < count and (not taken or self._items[0][1] <= size):
            item, cost = self._items.popleft()
            size -= cost
            self._count(item, cost, -1)
            taken.append(item)
        return taken

    def put_back(self, items: Sequence[Item]) -> None:
        """Put events and gaps back at the front, because they were taken, but could not be written."""
        for item in reversed(items):
            self._items.appendleft((item, self._added(item)))

    def clear(self) -> None:
        """Remove all events and gaps from the backlog."""
        self._items.clear()
        self._shares.clear()
        self._gaps.clear()
        self._events = self.size = 0

    def items(self) -> list[Item]:
        """Return all events and gaps in the backlog, oldest first."""
        return [item for item, _ in self._items]

    def _added(self, item: Item) -> int:
        """Add an event or gap to the counts of the backlog. Return its memory in bytes."""
        size = _GAP_BYTES if isinstance(item, Gap) else _memory(item)
        self._count(item, size, 1)
        return size

    def _count(self, item: Item, size: int, sign: int) -> None:
        self.size += sign * size
        if not isinstance(item, Gap):
            self._events += sign
            holder = _holder(item)
            share = self._shares.get(holder)
            if share is None:
                share = self._shares[holder] = [0, 0]
            share[0] += sign
            share[1] += sign * size
            if not share[0]:
                del self._shares[holder]
        elif sign > 0:
            self._gaps.setdefault(item.reason, item)
        elif self._gaps.get(item.reason) is item:
            del self._gaps[item.reason]


def _holder(item: Event | Entry) -> Holder:
    return item.holder if isinstance(item, Entry) else holder_of(item)


def _memory(item: Event | Entry) -> int:
    return item.memory_bytes if isinstance(item, Entry) else memory_bytes(item)


def counted(items: Sequence[Item], reason: str, time_ns: int) -> Gap:
    """Return one gap that counts all events in *items*, and all events that the gaps in *items* count."""
    gap = Gap(reason, time_ns)
    for item in items:
        gap.dropped += item.dropped if isinstance(item, Gap) else item.weight
    return gap

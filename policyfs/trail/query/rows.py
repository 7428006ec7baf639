"""Rows of a listing of events for people. A refused request and its repeats are one row with a count (pure).

If a request was refused, an app often tries again, by another call or from another process. The journal
counts some repeats in one event (fold.py). Denials within an hour (WINDOW_NS) are shown in one row if they
have the same app, uid, mount, paths, errno, rules, note and policy. The trail itself keeps each event.
"""

from __future__ import annotations

import operator
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from policyfs.trail.lines.event import DENY, Event
from policyfs.trail.lines.record import BadLine, Record

WINDOW_NS: Final = 3600 * 1_000_000_000
"""The time (ns) after a refused request in which its repeats are counted in its row."""

AT_ONCE_NS: Final = 10 * 1_000_000_000
"""The time (ns) instead of WINDOW_NS for live listings (`tail -f`), which must show new attempts soon."""

HELD: Final = 10_000
"""The limit of rows that wait for repeats. If there are more, the oldest row is returned."""


class Again(NamedTuple):
    """The repeats of a refused request. times: of all requests, or of the later ones if an earlier row has
    shown the first (more). operations: with their numbers, the largest first. last_ns: of the last one."""

    times: int
    operations: tuple[tuple[str, int], ...]
    last_ns: int
    more: bool = False


class Row(NamedTuple):
    """One row of a listing: a record or a bad line, and the repeats of its request. newest: the position of
    its last record among all that were added, from 1."""

    item: Record | BadLine
    again: Again | None = None
    newest: int = 0


class _Group:
    __slots__ = ("counts", "first", "last_ns", "newest", "records", "told")

    def __init__(self, first: Record | BadLine) -> None:
        self.first = first
        self.counts: Counter[str] = Counter()
        self.records = 0
        self.last_ns = 0
        self.newest = 0
        self.told = False

    def count(self, event: Event) -> None:
        self.records += 1
        self.counts[event.operation] += event.weight
        self.last_ns = max(self.last_ns, event.time_ns)

    def row(self) -> Row:
        if self.records < 2 and not self.told:
            return Row(self.first, newest=self.newest)
        again = Again(self.counts.total(), tuple(self.counts.most_common()), self.last_ns, more=self.told)
        return Row(self.first, again, self.newest)


_Key = tuple[object, ...]
_SAME: Final[Callable[[Event], _Key]] = operator.attrgetter(
    "app", "uid", "mount", "path", "path_cut", "new_path", "new_path_cut", "errno", "rules", "note",
    "policy_digest",
)  # fmt: skip


def _key(item: Record | BadLine, event: Event) -> _Key | None:
    if event.decision != DENY or event.folded:
        return None
    return item.place.mount_id.rpartition("/")[0], _SAME(event)


class Rows:
    """A maker of a listing's rows from records in the order of time. A row waits while it, or an older one,
    may get repeats. at_once: True to return a refused request at once, and a second row with its repeats
    after AT_ONCE_NS."""

    def __init__(self, *, at_once: bool = False) -> None:
        self._at_once = at_once
        self._added = 0
        self._window_ns = AT_ONCE_NS if at_once else WINDOW_NS
        self._open: dict[_Key, _Group] = {}
        self._waiting: deque[tuple[_Key | None, _Group]] = deque()

    def add(self, item: Record | BadLine) -> list[Row]:
        """Add one record. Return the rows that are complete now, because no repeats can be added."""
        self._added += 1
        event = item.event if isinstance(item, Record) else None
        key = None if event is None else _key(item, event)
        ready = [] if event is None else list(self.due(event.time_ns))
        group = None if key is None else self._open.get(key)
        if group is not None and event is not None:
            group.count(event)
            group.newest = self._added
            return ready
        group = _Group(item)
        group.newest = self._added
        if key is None or event is None:
            if self._at_once or not self._waiting:
                return [*ready, group.row()]
        else:
            self._open[key] = group
            if self._at_once:
                ready.append(group.row())
                group.told = True
            else:
                group.count(event)
        self._waiting.append((key, group))
        while len(self._waiting) > HELD:
            ready += self._told(*self._waiting.popleft())
        return ready

    def rest(self) -> Iterator[Row]:
        """Yield the rows that still wait for repeats. Used after the last record."""
        while self._waiting:
            yield from self._told(*self._waiting.popleft())

    def due(self, now_ns: int) -> Iterator[Row]:
        """Yield the oldest rows up to the first that may still get repeats. now_ns: ns since 1970."""
        while self._waiting:
            key, group = self._waiting[0]
            first = group.first
            if key is not None and isinstance(first, Record) and now_ns - first.time_ns < self._window_ns:
                return
            yield from self._told(*self._waiting.popleft())

    def _told(self, key: _Key | None, group: _Group) -> Iterator[Row]:
        if key is not None:
            del self._open[key]
        if group.records or not group.told:
            yield group.row()

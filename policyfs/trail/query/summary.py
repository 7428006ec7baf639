"""Summaries of a trail: counts of events, and sums of bytes (pure)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.trail.lines.event import BY_APP, BY_DIRECTORY, DECISIONS, DENY, Event
from policyfs.trail.lines.line import iso_time
from policyfs.trail.lines.record import BadLine, Record
from policyfs.trail.lines.table import shown_path

_PATHS_LIMIT: Final = 100_000
_REFUSALS: Final = 10_000

TROUBLE: Final = frozenset({"gap", "damage", "recovered"})
"""The types of records about lost events or damage of the trail."""

KILLED: Final = "killed"
"""The type of the record about a process that the daemon has killed."""

COUNTED: Final = TROUBLE | {KILLED}
"""The types of records (other than events) that a summary counts."""


HOUR_NS: Final = 3600 * 1_000_000_000


class Sums(NamedTuple):
    """Sums over events with the same caller and decision: requests, bytes, and requests with hidden bytes."""

    weight: int
    bytes_read: int
    bytes_written: int
    redacted: int


class Refusals:
    """The denials of one app with the same errno, rules, note and kind. count: requests. paths: requests for
    each path (as far as there was room). event: the denial that was added last."""

    __slots__ = ("count", "event", "paths")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.count = 0
        self.paths: dict[bytes, int] = {}

    @property
    def path(self) -> bytes:
        """The path with the most requests. If several paths have as many, the first of them by name."""
        return min(self.paths, key=lambda path: (-self.paths[path], path), default=b"")


GROUPS: Final = (
    "app", "rule", "op", "kind", "hour", "day", "decision", "uid", "exe", "mount", "view", "path", "directory"
)  # fmt: skip
"""The fields by which a Summary can count events. Those of BY_PATH need the paths of the events."""

BY_PATH: Final = frozenset({"path", "directory"})

SEVERAL: Final = "(several)"
"""The name of a group of events that the journal counted together, although they differ in this field."""


class Groups:
    """Counts of requests by group (the values of some fields) and decision."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[tuple[str, ...], str]] = Counter()

    def add(self, key: tuple[str, ...], decision: str, weight: int) -> None:
        """Count requests of a group with a decision."""
        self._counts[key, decision] += weight

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
        """Yield each group with the numbers of requests by decision, in order."""
        for key, found in itertools.groupby(sorted(self._counts.items()), key=lambda one: one[0][0]):
            yield key, {decision: count for (_, decision), count in found}

    def decisions(self) -> list[str]:
        """Return the decisions that were counted, in order."""
        return sorted({decision for _, decision in self._counts})

    def __contains__(self, key: tuple[str, ...]) -> bool:
        """Return True if a request of this group was counted."""
        return any((key, decision) in self._counts for decision in DECISIONS)


class Summary:
    """A counter of events, once for each request that they stand for; also by the combination of the values
    of the fields *by* (of GROUPS)."""

    def __init__(self, by: Sequence[str] = (), grouped: Groups | None = None) -> None:
        """grouped: gets the counts of groups."""
        self._by = tuple(by)
        self.by_path = not BY_PATH.isdisjoint(by)
        """True if add_sums() does not count the groups, because add_group() counts them with the paths."""
        self.grouped = Groups() if grouped is None else grouped
        self.refusals: dict[tuple[object, ...], Refusals] = {}
        self.events = 0
        self.by_decision: Counter[str] = Counter()
        self.by_app: Counter[tuple[str, str]] = Counter()
        """The number of requests by app and decision; the next ones by operation, rule and hour."""
        self.by_operation: Counter[tuple[str, str]] = Counter()
        self.by_rule: Counter[tuple[str, str]] = Counter()
        self.by_hour: Counter[tuple[int, str]] = Counter()
        self.denied_paths: Counter[tuple[str, bytes]] = Counter()
        self._refused_paths = 0
        self.redacted_opens = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.dropped = 0
        self.refused = 0
        self.trouble = 0
        self.kills: list[Record] = []
        self.crashes: list[tuple[str, str]] = []
        """For each daemon that crashed or was killed: the id of the record of the next start (or the name of
        the chain, if there is none), and a sentence."""
        self.bad_lines = 0

    def add(self, event: Event) -> None:
        """Count one event, once for each request that the event stands for."""
        weight = event.weight
        sums = Sums(weight, event.bytes_read or 0, event.bytes_written or 0, weight if event.redacted else 0)
        self.add_sums(event, event.time_ns // HOUR_NS, sums)
        if self.by_path:
            self.add_group(event, event.time_ns // HOUR_NS, weight)
        self.add_period(event.time_ns, event.time_ns)
        if event.decision == DENY:
            self.add_denied(event, event.path, weight)

    def add_sums(self, event: Event, hour: int, sums: Sums) -> None:
        """Count many events like *event* (caller and decision) in one hour (since 1970)."""
        weight = sums.weight
        self.events += weight
        self.by_decision[event.decision] += weight
        self.by_app[event.app, event.decision] += weight
        self.by_operation[event.operation or SEVERAL, event.decision] += weight
        for rule in event.rules:
            self.by_rule[rule, event.decision] += weight
        self.by_hour[hour, event.decision] += weight
        if self._by and not self.by_path:
            self.add_group(event, hour, weight)
        if event.operation != "release":
            self.redacted_opens += sums.redacted
        self.bytes_read += sums.bytes_read
        self.bytes_written += sums.bytes_written

    def add_group(self, event: Event, hour: int, weight: int) -> None:
        """Count *weight* requests like this event in its group, or in each of its groups (see _groups)."""
        for key in itertools.product(*(_groups(event, hour, name) for name in self._by)):
            self.grouped.add(key, event.decision, weight)

    def add_period(self, first_ns: int, last_ns: int) -> None:
        """Add the times of the first and last event that add_sums() has counted (ns since 1970)."""
        self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
        self.last_ns = last_ns if self.last_ns is None else max(self.last_ns, last_ns)

    def add_trouble(self, item: Record | BadLine) -> None:
        """Count a record of the journal itself (such as ``gap``), or a line that is not a valid record."""
        if isinstance(item, BadLine):
            self.bad_lines += 1
        elif item.kind == KILLED:
            self.kills.append(item)
        elif item.kind in TROUBLE:
            self.trouble += 1
            self.dropped += _count(item, "dropped")
            self.refused += _count(item, "refused")

    def add_denied(self, event: Event, path: bytes, weight: int) -> None:
        """Count denied requests for a path. event: one of the events. weight: the number of requests."""
        grounds = (event.app, event.errno, event.rules, event.note, event.kind)
        refusals = self.refusals.get(grounds)
        if refusals is None and len(self.refusals) < _REFUSALS:
            refusals = self.refusals[grounds] = Refusals(event)
        if refusals is not None:
            refusals.event = event  # the event that comes last: usually of the newest policy
            refusals.count += weight
            if path in refusals.paths:
                refusals.paths[path] += weight
            elif not refusals.paths or self._refused_paths < _PATHS_LIMIT:
                refusals.paths[path] = weight
                self._refused_paths += 1
        key = event.app, path
        if key in self.denied_paths or len(self.denied_paths) < _PATHS_LIMIT:
            self.denied_paths[key] += weight


def _groups(event: Event, hour: int, name: str) -> tuple[str, ...]:
    """Return the groups of an event by one of GROUPS: one for each rule, or for each of its two paths."""
    if name == "rule":
        return event.rules or (SEVERAL if event.folded == BY_APP else "(no rule)",)
    if name in {"hour", "day"}:
        return (iso_time(hour * HOUR_NS)[: 13 if name == "hour" else 10],)
    if name in BY_PATH:
        return _places(event, name)
    absent = SEVERAL if event.folded else "(none)"
    values = {"app": event.app, "op": event.operation or SEVERAL, "kind": event.kind or absent,
              "decision": event.decision, "uid": str(event.uid) if event.uid >= 0 else absent,
              "exe": event.exe or absent, "mount": event.mount, "view": event.view or absent}  # fmt: skip
    return (values[name],)


def _places(event: Event, name: str) -> tuple[str, ...]:
    if event.folded:
        return (shown_path(event.path) + "/…" if event.folded == BY_DIRECTORY else SEVERAL,)
    paths = [event.path] if event.new_path is None else [event.path, event.new_path]
    if name == "directory":
        paths = [path.rpartition(b"/")[0] or b"/" for path in paths]
    return tuple(dict.fromkeys(map(shown_path, paths)))


def _count(record: Record, name: str) -> int:
    value = record.fields.get(name)
    return value if isinstance(value, int) and value > 0 else 0

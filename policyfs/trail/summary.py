"""Numbers about a trail (pure)."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple, Protocol

from policyfs.trail.event import DENY, Event
from policyfs.trail.record import BadLine, Record

_PATHS_LIMIT: Final = 100_000

TROUBLE: Final = frozenset({"gap", "damage", "recovered"})
"""Kinds of records that report a defect of the trail at their place."""


HOUR_NS: Final = 3600 * 1_000_000_000


class EventSums(Protocol):
    """Sums over events of one class. redacted: those with hidden bytes."""

    @property
    def weight(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def redacted(self) -> int: ...


class _Sums(NamedTuple):
    weight: int
    bytes_read: int
    bytes_written: int
    redacted: int


class Summary:
    """Counts over the added events; a denial with repeats counts as often as it was repeated."""

    def __init__(self) -> None:
        self.events = 0
        self.by_decision: Counter[str] = Counter()
        self.by_app: Counter[tuple[str, str]] = Counter()
        self.by_operation: Counter[tuple[str, str]] = Counter()
        self.by_rule: Counter[tuple[str, str]] = Counter()
        self.by_kind: Counter[tuple[str, str]] = Counter()
        self.by_hour: Counter[tuple[int, str]] = Counter()
        self.denied_paths: Counter[tuple[str, bytes]] = Counter()
        self.denied_elsewhere = 0
        self.redacted_opens = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.dropped = 0
        self.refused = 0
        self.trouble = 0
        self.bad_lines = 0

    def add(self, event: Event) -> None:
        """Count one event."""
        weight = event.weight
        sums = _Sums(weight, event.bytes_read or 0, event.bytes_written or 0, weight if event.redacted else 0)
        self.add_sums(event, event.time_ns // HOUR_NS, sums)
        self.add_period(event.time_ns, event.time_ns)
        if event.decision == DENY:
            self.add_denied(event, event.path, weight)

    def add_sums(self, event: Event, hour: int, sums: EventSums) -> None:
        """Count many events of one class and hour (hours since 1970) by their sums."""
        weight = sums.weight
        self.events += weight
        self.by_decision[event.decision] += weight
        self.by_app[event.app, event.decision] += weight
        self.by_operation[event.operation, event.decision] += weight
        for rule in event.rules:
            self.by_rule[rule, event.decision] += weight
        self.by_kind[event.kind or "", event.decision] += weight
        self.by_hour[hour, event.decision] += weight
        if event.operation != "release":
            self.redacted_opens += sums.redacted
        self.bytes_read += sums.bytes_read
        self.bytes_written += sums.bytes_written

    def add_period(self, first_ns: int, last_ns: int) -> None:
        """Note the first and last time of events that were counted by their sums."""
        self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
        self.last_ns = last_ns if self.last_ns is None else max(self.last_ns, last_ns)

    def add_trouble(self, item: Record | BadLine) -> None:
        """Count a record of the journal's own, or a line that is no record."""
        if isinstance(item, BadLine):
            self.bad_lines += 1
        elif item.kind in TROUBLE:
            self.trouble += 1
            self.dropped += _count(item, "dropped")
            self.refused += _count(item, "refused")

    def add_denied(self, event: Event, path: bytes, weight: int) -> None:
        """Count denials of a path. event: any of them."""
        key = event.app, path
        if key in self.denied_paths or len(self.denied_paths) < _PATHS_LIMIT:
            self.denied_paths[key] += weight
        else:
            self.denied_elsewhere += weight


def _count(record: Record, name: str) -> int:
    value = record.fields.get(name)
    return value if isinstance(value, int) and value > 0 else 0

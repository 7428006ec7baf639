"""Numbers about a trail (pure)."""

from __future__ import annotations

from collections import Counter
from typing import Final

from policyfs.trail.event import DENY, Event
from policyfs.trail.record import BadLine, Record

_PATHS_LIMIT: Final = 100_000

TROUBLE: Final = frozenset({"gap", "damage", "recovered"})
"""Kinds of records that report a defect of the trail at their place."""


class Summary:
    """Counts over the added events; a denial with repeats counts as often as it was repeated."""

    def __init__(self) -> None:
        self.events = 0
        self.by_decision: Counter[str] = Counter()
        self.by_app: Counter[tuple[str, str]] = Counter()
        self.by_operation: Counter[tuple[str, str]] = Counter()
        self.by_rule: Counter[tuple[str, str]] = Counter()
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
        self.events += weight
        self.by_decision[event.decision] += weight
        self.by_app[event.app, event.decision] += weight
        self.by_operation[event.operation, event.decision] += weight
        for rule in event.rules:
            self.by_rule[rule, event.decision] += weight
        if event.decision == DENY:
            self._add_denied((event.app, event.path), weight)
        if event.redacted and event.operation != "release":
            self.redacted_opens += weight
        self.bytes_read += event.bytes_read or 0
        self.bytes_written += event.bytes_written or 0
        if self.first_ns is None or event.time_ns < self.first_ns:
            self.first_ns = event.time_ns
        if self.last_ns is None or event.time_ns > self.last_ns:
            self.last_ns = event.time_ns

    def add_trouble(self, item: Record | BadLine) -> None:
        """Count a record of the journal's own, or a line that is no record."""
        if isinstance(item, BadLine):
            self.bad_lines += 1
        elif item.kind in TROUBLE:
            self.trouble += 1
            self.dropped += _count(item, "dropped")
            self.refused += _count(item, "refused")

    def _add_denied(self, key: tuple[str, bytes], weight: int) -> None:
        if key in self.denied_paths or len(self.denied_paths) < _PATHS_LIMIT:
            self.denied_paths[key] += weight
        else:
            self.denied_elsewhere += weight


def _count(record: Record, name: str) -> int:
    value = record.fields.get(name)
    return value if isinstance(value, int) and value > 0 else 0

"""Counts of events for the HTML report, from the indexes of the trail's files (pure)."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from policyfs.trail.lines.event import DENY
from policyfs.trail.query.index import Index
from policyfs.trail.query.index_rows import chosen
from policyfs.trail.text.cause import Lookup, cause_of, grounds

_NAMES: Final = 2
MINUTE_NS: Final = 60 * 1_000_000_000
_MINUTES: Final = 10_000


class Access(NamedTuple):
    """A group of accesses that the HTML report counts together.

    cause: the cause of denied accesses, such as ``no rule``, else empty. grounds: the rules that decided.
    """

    app: str
    operation: str
    directory: bytes
    decision: str
    cause: str
    grounds: str


class Overview:
    """The counts that the HTML report shows: accesses by app and directory, and redactions.

    lookup: finds rules in the texts of policies. heat: the number of all requests, for each pair of app and
    directory. heat_denied: the number of denied requests only. by_minute: the number of requests, for each
    minute since 1970 and decision; None if there are too many minutes (_MINUTES). redactions: the number of
    requests with hidden bytes, for each app, view and kind. hidden_bytes: the number of these bytes.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self.accesses: Counter[Access] = Counter()
        self.last_ns: dict[Access, int] = {}
        self.heat: Counter[tuple[str, bytes]] = Counter()
        self.heat_denied: Counter[tuple[str, bytes]] = Counter()
        self.by_minute: Counter[tuple[int, str]] | None = Counter()
        self.redactions: Counter[tuple[str, str, str]] = Counter()
        self.hidden_bytes: Counter[tuple[str, str, str]] = Counter()

    def add(self, index: Index, rows: int) -> None:
        """Count some events of an index (table of the events in a file of the trail).

        rows: the set of these events, an integer with a byte (0 or 1) for each row of the index.
        """
        if not rows:
            return
        directories = [_directory(index.path(path_id)) for path_id in range(index.path_count)]
        names = sorted(set(directories))
        number = {name: at for at, name in enumerate(names)}
        of_path = [number[name] for name in directories]
        counts: Counter[int] = Counter()
        last: dict[int, int] = {}
        few = len(names)
        some = chosen(rows, index.rows)
        class_of, path_of, times, repeats = index.class_of, index.path_of, index.times, index.repeats
        for row in some:
            key = class_of[row] * few + of_path[path_of[row]]
            counts[key] += 1
            last[key] = times[row]
        for row, times_more in repeats.items():
            key = class_of[row] * few + of_path[path_of[row]]
            if key in counts and rows >> (8 * row) & 1:
                counts[key] += times_more - 1
        for key, count in counts.items():
            class_id, at = divmod(key, few)
            self._count(index, class_id, names[at], count, last[key])
        self._count_redactions(index, rows)
        if self.by_minute is not None:
            decisions = [event.decision for event in index.classes]
            for row in some:
                self.by_minute[times[row] // MINUTE_NS, decisions[class_of[row]]] += repeats.get(row, 1)
            if len(self.by_minute) > _MINUTES:
                self.by_minute = None

    def _count(self, index: Index, class_id: int, directory: bytes, count: int, last_ns: int) -> None:
        event = index.classes[class_id]
        words = " ".join(grounds(event, self._lookup))
        cause = cause_of(event, self._lookup)
        access = Access(event.app, event.operation, directory, event.decision, cause, words)
        self.accesses[access] += count
        self.last_ns[access] = max(self.last_ns.get(access, 0), last_ns)
        self.heat[event.app, directory] += count
        if event.decision == DENY:
            self.heat_denied[event.app, directory] += count

    def _count_redactions(self, index: Index, rows: int) -> None:
        mask = rows.to_bytes(index.rows, "little")
        for row, hidden in index.numbers("hidden"):
            event = index.classes[index.class_of[row]]
            if mask[row] and event.operation != "release":
                key = event.app, event.view, event.kind or ""
                self.redactions[key] += index.repeats.get(row, 1)
                self.hidden_bytes[key] += hidden


def _directory(path: bytes) -> bytes:
    """Return the first two directories of a path, for example ``/DCIM/2026`` of ``/DCIM/2026/03/a.jpg``."""
    parts = path.split(b"/")[1:-1]
    return b"/" + b"/".join(parts[:_NAMES])

"""Counts of events for the HTML report (pure)."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from policyfs.trail.lines.event import DENY, Event
from policyfs.trail.text.cause import Lookup, cause_of, grounds

_NAMES: Final = 2
MINUTE_NS: Final = 60 * 1_000_000_000
_MINUTES: Final = 10_000


class Access(NamedTuple):
    """A group of accesses that are counted together. cause: of denials. grounds: the rules that decided."""

    app: str
    operation: str
    directory: bytes
    decision: str
    cause: str
    grounds: str


class Overview:
    """The counts of the HTML report: accesses by app and directory, and redactions.

    heat, heat_denied: all and denied requests by app and directory. by_minute: requests by minute since 1970
    and decision; None if there are too many. redactions, hidden_bytes: requests with hidden bytes, and these,
    by app, view and kind.
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

    def add_directory(self, event: Event, directory: bytes, weight: int, last_ns: int) -> None:
        """Count events of one caller and decision below a directory (directory_of()). event, last_ns: the
        last one's."""
        words, cause = " ".join(grounds(event, self._lookup)), cause_of(event, self._lookup)
        access = Access(event.app, event.operation, directory, event.decision, cause, words)
        self.accesses[access] += weight
        self.last_ns[access] = max(self.last_ns.get(access, 0), last_ns)
        self.heat[event.app, directory] += weight
        if event.decision == DENY:
            self.heat_denied[event.app, directory] += weight

    def add_minute(self, minute: int, decision: str, weight: int) -> None:
        """Count requests of one minute (since 1970)."""
        if self.by_minute is not None:
            self.by_minute[minute, decision] += weight
            if len(self.by_minute) > _MINUTES:
                self.by_minute = None

    def add_hidden(self, event: Event, weight: int, hidden: int) -> None:
        """Count requests with hidden bytes. event: one of the events. hidden: the number of the bytes."""
        if event.operation != "release":
            key = event.app, event.view, event.kind or ""
            self.redactions[key] += weight
            self.hidden_bytes[key] += hidden


def directory_of(path: bytes) -> bytes:
    """Return the first two directories of a path, for example ``/DCIM/2026`` of ``/DCIM/2026/03/a.jpg``."""
    parts = path.split(b"/")[1:-1]
    return b"/" + b"/".join(parts[:_NAMES])

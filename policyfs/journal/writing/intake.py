"""The intake of a journal: each event comes here first, and is queued for the writer, counted or dropped.

An event is only counted if it repeats a recorded denial, or its app has exceeded its limit of trail bytes
(accounts.py). All others get a line, which the intake makes and queues for best-effort events. Of these,
allowed ones first go to a list, and YOUNG of them are processed together, in a third of the time. Each other
call first processes this list, so that order, counts and budgets are the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from policyfs.domain import Audit
from policyfs.journal.writing.accounts import Accounts
from policyfs.journal.writing.backlog import Backlog, Item, counted
from policyfs.journal.writing.entry import Entry, entry_of
from policyfs.journal.writing.gap import Gap
from policyfs.journal.writing.ticket import Ticket
from policyfs.trail.lines.bounds import PATH_BYTES, bounded
from policyfs.trail.lines.event import DENY, Event, Holder
from policyfs.trail.lines.line import LineFormatter

YOUNG: Final = 32
"""The number of allowed best-effort events that are processed together, in about 0.2 ms of the event loop."""


class Intake:
    """The first part of the journal. Thread-safe. Never waits for the disk. _dropped: requests that will
    never be on record. _folded: requests that were only counted."""

    def __init__(self, queue: Backlog, accounts: Accounts, steady_ns: Callable[[], int]) -> None:
        """queue: best-effort events for the writer. accounts: the apps' limits. steady_ns: a clock that never
        goes back."""
        self._queue: Final = queue
        self._accounts: Final = accounts
        self._steady_ns: Final = steady_ns
        self._format: Final = LineFormatter()
        self._lock: Final = threading.Lock()
        self._young: Final[deque[Event]] = deque()
        self._closed = False
        self._dropped = 0
        self._folded = 0

    @property
    def aside(self) -> int:
        """Return the number of allowed best-effort events that are not processed yet (see YOUNG)."""
        return len(self._young)

    def admit(self, event: Event, audit: Audit, *, paid: bool = False) -> Ticket | None:
        """Queue, count or drop an event. Never waits for the disk.

        Return a ticket if the event must be on record before its request goes on (audit REQUIRED, not only
        counted), else None. paid: True if the app has already waited because of its limit of trail bytes.
        """
        if audit is Audit.BEST_EFFORT and event.decision != DENY and _is_small(event):
            self._young.append(event)
            if len(self._young) >= YOUNG:
                with self._lock:
                    self._settle()
            return None
        if audit is Audit.OFF:
            return None
        event = bounded(event)
        with self._lock:
            now_ns = self._settle()
            if audit is not Audit.REQUIRED:
                self._take_in(event, now_ns)
                return None
            must_be_told = event.decision != DENY
            if not must_be_told and self._accounts.absorb(event, now_ns):
                self._folded += event.weight
                return None
            item = entry_of(event, self._format)
            wait_s = 0.0 if paid else self._accounts.spend(event, now_ns, _line_bytes(item))
            return Ticket(event, wait_s if must_be_told else 0.0, item)

    def debt_s(self, holder: Holder) -> float:
        """Return the seconds until an app has paid for the bytes that it has added to the trail, or 0."""
        with self._lock:
            return self._accounts.debt_s(holder, self._steady_ns())

    def _settle(self) -> int:
        """Process the list of allowed best-effort events. Return the time of the steady clock (ns)."""
        now_ns = self._steady_ns()
        while self._young:
            self._take_in(bounded(self._young.popleft()), now_ns)
        return now_ns

    def _take_in(self, event: Event, now_ns: int) -> None:
        if self._accounts.absorb(event, now_ns):
            self._folded += event.weight
            return
        item = entry_of(event, self._format)
        if self._closed or not self._queue.add(item):
            self._drop(item)
            return
        self._accounts.spend(event, now_ns, _line_bytes(item))
        if event.decision == DENY:
            self._accounts.recorded(event, now_ns)

    def _drop(self, item: Event | Entry, reason: str = "queue full") -> None:
        self._dropped += item.weight
        self._queue.drop(item, reason)

    def recorded(self, event: Event) -> None:
        """Note that a required denial is in the trail. From now on its repeats are only counted."""
        with self._lock:
            self._accounts.recorded(event, self._steady_ns())

    def take(self, count: int, size: int) -> list[Item]:
        """Remove the oldest events and gaps for the writer, within these limits (but at least one)."""
        with self._lock:
            self._settle()
            return self._queue.take(count, size)

    def put_back(self, items: Sequence[Item]) -> None:
        """Put events and gaps back at the front of the queue, because the writer could not write them."""
        with self._lock:
            self._queue.put_back(items)

    def give_up(self, items: Sequence[Item], reason: str) -> None:
        """Drop the events in *items*, which can never be written, as a gap with this reason. Its gaps go
        back."""
        with self._lock:
            self._queue.put_back([lost for lost in items if isinstance(lost, Gap)])
            for lost in items:
                if not isinstance(lost, Gap):
                    self._drop(lost, reason)

    def collect(self, time_ns: int, *, everything: bool) -> None:
        """Queue one event for each count whose time window is over (everything: all, even into a full queue).
        If the queue is full, the accounts keep the counts. time_ns: wall-clock time."""
        with self._lock:
            now_ns = self._settle()
            if not everything and self._queue.is_full:
                return
            for event in self._accounts.collect(time_ns, now_ns, everything=everything):
                self._queue.force(event)

    def waiting(self) -> int:
        """Return the number of events and gaps that wait for the writer."""
        with self._lock:
            self._settle()
            return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """True if no event waits, all counts are recorded, and the budget of each app is full."""
        with self._lock:
            return not (self._young or len(self._queue) or len(self._accounts))

    def counts(self) -> tuple[int, int, int]:
        """Return three numbers: waiting events and gaps, dropped requests, and only counted requests."""
        with self._lock:
            self._settle()
            return len(self._queue), self._dropped, self._folded

    def lost(self, reason: str, time_ns: int) -> Gap | None:
        """Count all waiting events as dropped, but leave them. Return a gap with their number, or None."""
        with self._lock:
            self._settle()
            items = self._queue.items()
            self._dropped += sum(item.weight for item in items if not isinstance(item, Gap))
            return counted(items, reason, time_ns) if items else None

    def clear(self) -> None:
        """Remove all waiting events and gaps from the queue."""
        with self._lock:
            self._queue.clear()

    def close(self) -> None:
        """Make admit() drop all later best-effort events. Their number is counted."""
        with self._lock:
            self._settle()
            self._closed = True


def _is_small(event: Event) -> bool:
    return len(event.path) <= PATH_BYTES and event.new_path is None and not event.redacted and not event.note


def _line_bytes(item: Event | Entry) -> int:
    return item.line_bytes if isinstance(item, Entry) else 0

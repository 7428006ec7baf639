"""The intake of a journal: it queues, counts or drops each event before the writer gets it.

An event is counted, without a line, if it repeats a denial or if its app is beyond its budget (accounts.py).
All other events go on record. The intake makes the line of a best-effort event, and queues only the line.

The event loop first puts allowed best-effort events aside, and processes YOUNG of them together. This takes a
third of the time of processing each event between requests. All other calls first process the events that
were put aside. So order, counts and budgets are as if each event had been processed at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from policyfs.domain import Audit
from policyfs.journal.accounts import Accounts
from policyfs.journal.backlog import Backlog, Item, counted
from policyfs.journal.entry import Entry, entry_of
from policyfs.journal.gap import Gap
from policyfs.journal.ticket import Ticket
from policyfs.trail.bounds import PATH_BYTES, bounded
from policyfs.trail.event import DENY, Event
from policyfs.trail.line import LineFormatter

YOUNG: Final = 32
"""The number of events that are processed together. This takes about 0.2 ms of the event loop's time."""


class Intake:
    """The intake of the events of all apps. Thread-safe. Never waits for the disk.

    _dropped: the number of requests that will never be on record. _folded: the number of requests that were
    only counted.
    """

    def __init__(self, queue: Backlog, accounts: Accounts, steady_ns: Callable[[], int]) -> None:
        """steady_ns: a clock that never goes back."""
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
        """Return the number of events that were put aside."""
        return len(self._young)

    def admit(self, event: Event, audit: Audit, *, paid: bool = False) -> Ticket | None:
        """Process an event, and return a ticket or None, as Journal.admit() does."""
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

    def _settle(self) -> int:
        """Process the events that were put aside, in order. Return the present time of the steady clock."""
        now_ns = self._steady_ns()
        while self._young:
            self._take_in(bounded(self._young.popleft()), now_ns)
        return now_ns

    def _take_in(self, event: Event, now_ns: int) -> None:
        """Count, queue or drop a best-effort event."""
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
        """Note that a required denial is on record, so that its repeats are counted."""
        with self._lock:
            self._accounts.recorded(event, self._steady_ns())

    def take(self, count: int, size: int) -> list[Item]:
        """Take items from the front of the queue: at most *count* and *size* bytes, but at least one item."""
        with self._lock:
            self._settle()
            return self._queue.take(count, size)

    def put_back(self, items: Sequence[Item]) -> None:
        """Put unwritten items back at the front of the queue."""
        with self._lock:
            self._queue.put_back(items)

    def give_up(self, items: Sequence[Item], reason: str) -> None:
        """Drop items that were taken and can never be written. Put the gaps among them back."""
        with self._lock:
            self._queue.put_back([lost for lost in items if isinstance(lost, Gap)])
            for lost in items:
                if not isinstance(lost, Gap):
                    self._drop(lost, reason)

    def collect(self, time_ns: int, *, everything: bool) -> None:
        """Queue the counts that are due. If the queue is full, the accounts keep them: no count is lost."""
        with self._lock:
            now_ns = self._settle()
            if not everything and self._queue.is_full:
                return
            for event in self._accounts.collect(time_ns, now_ns, everything=everything):
                self._queue.force(event)

    def waiting(self) -> int:
        """Return the number of items that wait for the writer."""
        with self._lock:
            self._settle()
            return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """True if nothing waits, no app has counts, and all budgets are full."""
        with self._lock:
            return not (self._young or len(self._queue) or len(self._accounts))

    def counts(self) -> tuple[int, int, int]:
        """Return the numbers of waiting items, of dropped requests, and of counted requests."""
        with self._lock:
            self._settle()
            return len(self._queue), self._dropped, self._folded

    def lost(self, reason: str, time_ns: int) -> Gap | None:
        """Count all waiting items as dropped. Return one gap that counts them, or None if nothing waits."""
        with self._lock:
            self._settle()
            items = self._queue.items()
            self._dropped += sum(item.weight for item in items if not isinstance(item, Gap))
            return counted(items, reason, time_ns) if items else None

    def clear(self) -> None:
        """Remove all waiting items."""
        with self._lock:
            self._queue.clear()

    def close(self) -> None:
        """Drop and count all later best-effort events."""
        with self._lock:
            self._settle()
            self._closed = True


def _is_small(event: Event) -> bool:
    """Return True if an event takes little memory and has no text of unlimited length."""
    return len(event.path) <= PATH_BYTES and event.new_path is None and not event.redacted and not event.note


def _line_bytes(item: Event | Entry) -> int:
    """Return the bytes to charge to an app; 0 for an event whose line cannot be made."""
    return item.line_bytes if isinstance(item, Entry) else 0

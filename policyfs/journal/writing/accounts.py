"""Accounts: for each app, a limit of bytes that it adds to the trail, and counts of events beyond it, which
get one line together. Not thread-safe: the journal calls this module under its own lock."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.trail.lines.bounds import line_bytes
from policyfs.trail.lines.budget import Budget
from policyfs.trail.lines.event import DENY, Event, Holder, holder_of
from policyfs.trail.query.fold import AppFold

RATE: Final = 800_000
"""The limit of bytes that one app adds to the trail in each second, on average."""
BURST: Final = 1_000_000
"""The limit of bytes at once, beyond RATE, after a time without events: together at most 1 MB/s over any five
seconds."""

DENIED_RATE: Final = 35_000
DENIED_BURST: Final = 450_000
"""The limits RATE and BURST for denials alone. Denials beyond them are counted together, and delay no allowed
request: an app that always tries new names adds less than 1 MB to the trail in ten seconds."""

ACCOUNTS: Final = 256
"""The number of accounts after which further strangers share one. Each app always has its own."""
_STRANGERS: Final = -1
_OVERDRAFT: Final = 100_000
"""While an app exceeds its limit for denials by less than this (bytes), further directories get counts of
their own. After that, denials there are counted by operation."""
_COUNTS: Final = 100
"""An upper bound of the bytes that counts and times add to an event's line."""


class Limits(NamedTuple):
    """One app's limits: bytes of the trail a second, and at once beyond that; the same for denials alone."""

    rate: int = RATE
    burst: int = BURST
    denied_rate: int = DENIED_RATE
    denied_burst: int = DENIED_BURST


class Account(NamedTuple):
    """The account of one app: the bytes that all its events may add, its denials alone, and counts of further
    events."""

    budget: Budget
    denied: Budget
    fold: AppFold

    def left(self, event: Event, now_ns: int) -> float:
        """Return the bytes that an event may add now (monotonic time); negative if earlier ones have exceeded
        the limit."""
        left = self.budget.left(now_ns)
        return min(left, self.denied.left(now_ns)) if event.decision == DENY else left

    def spend(self, event: Event, now_ns: int, size: int) -> float:
        """Subtract the bytes of an event's line. Return the seconds until the budget is no longer exceeded,
        or 0."""
        if event.decision == DENY:
            self.denied.spend(size, now_ns)
        return self.budget.spend(size, now_ns)


class Accounts:
    """The accounts of all apps of a mount. now_ns: monotonic time. Times in events are wall-clock time."""

    def __init__(self, limits: Limits, window_ns: int) -> None:
        """window_ns: for this time (ns) after a denial was recorded, its repeats are only counted."""
        self._limits = limits
        self._window_ns = window_ns
        self._all: dict[Holder, Account] = {}

    def __len__(self) -> int:
        return len(self._all)

    def absorb(self, event: Event, now_ns: int) -> bool:
        """Count an event that repeats a recorded denial, or exceeds its app's limit. Return False for others:
        record them."""
        account = self._of(event, now_ns)
        if account.fold.absorb(event):
            return True
        if account.left(event, now_ns) > 0:
            return False
        # The event of a count by directory has the directory's path. The app chooses the length of this path.
        by_directory = event.decision != DENY or account.denied.left(now_ns) > -_OVERDRAFT
        new = account.fold.count(event, by_directory=by_directory)
        if new is not None:
            account.spend(new, now_ns, line_bytes(new) + _COUNTS)
        return True

    def spend(self, event: Event, now_ns: int, size: int | None = None) -> float:
        """Subtract the bytes of a recorded event. Return the seconds until its app's budget is no longer
        exceeded, or 0.

        size: an upper bound of its line, if known. A denial counts twice in the budget of all events: for its
        line, and for a later one with the number of repeats. Most are not repeated, so collect() subtracts
        that line from the budget for denials only if it is needed.
        """
        account = self._of(event, now_ns)
        size = line_bytes(event) if size is None else size
        beyond_s = account.spend(event, now_ns, size)
        if event.decision == DENY and self._window_ns:
            beyond_s = account.budget.spend(size, now_ns)
        return beyond_s

    def debt_s(self, holder: Holder, now_ns: int) -> float:
        """Return the seconds until the budget of an app is no longer exceeded, or 0."""
        account = self._all.get(holder) or self._all.get(_STRANGERS)
        return 0.0 if account is None else account.budget.spend(0, now_ns)

    def recorded(self, event: Event, now_ns: int) -> None:
        """Remember a denial that was recorded. From now on, absorb() counts its repeats."""
        self._of(event, now_ns).fold.recorded(event)

    def collect(self, time_ns: int, now_ns: int, *, everything: bool) -> list[Event]:
        """Remove the counts whose time window is over (everything: all), and return each as one event.
        time_ns: wall-clock time."""
        told: list[Event] = []
        for holder, account in list(self._all.items()):
            for event in account.fold.collect(time_ns, all_of_them=everything):
                if not event.folded and event.decision == DENY:
                    account.denied.spend(line_bytes(event), now_ns)
                told.append(event)
            if not len(account.fold) and account.budget.is_full(now_ns) and account.denied.is_full(now_ns):
                del self._all[holder]
        return told

    def _of(self, event: Event, now_ns: int) -> Account:
        holder = holder_of(event)
        account = self._all.get(holder)
        if account is None and len(self._all) >= ACCOUNTS and isinstance(holder, int):
            holder = _STRANGERS
            account = self._all.get(holder)
        if account is None:
            limits = self._limits
            budget = Budget(limits.rate, limits.burst, now_ns)
            denied = Budget(limits.denied_rate, limits.denied_burst, now_ns)
            account = self._all[holder] = Account(budget, denied, AppFold(self._window_ns))
        return account

"""Accounts: each app's budget of trail bytes, and the counts of events that get no line of their own.

Not thread-safe: the journal calls this module under its own lock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.trail.bounds import line_bytes
from policyfs.trail.budget import Budget
from policyfs.trail.event import DENY, Event, Holder, holder_of
from policyfs.trail.fold import AppFold

RATE: Final = 800_000
"""The limit of trail bytes that one app causes in each second, on average."""
BURST: Final = 1_000_000
"""The trail bytes that an app may cause in addition, all at once, after a time without events.

RATE and BURST together allow at most 1 MB/s over any five seconds."""

DENIED_RATE: Final = 35_000
DENIED_BURST: Final = 450_000
"""RATE and BURST for denials alone. Denials beyond these limits are counted together.

So an app that always tries new names causes less than 1 MB in ten seconds. Denials never delay a grant."""

ACCOUNTS: Final = 256
"""The limit of apps and strangers (uids) with their own accounts. Further strangers share one account."""
_STRANGERS: Final = -1
_OVERDRAFT: Final = 100_000
"""The bytes by which an app's counts for single directories may exceed its budget of denials.

Beyond that, all directories of the app share one count."""
_COUNTS: Final = 100
"""The bytes of the counts and times in one line of counts."""


class Limits(NamedTuple):
    """One app's limits in bytes of the trail (see RATE, BURST). denied_*: the limits of its denials."""

    rate: int = RATE
    burst: int = BURST
    denied_rate: int = DENIED_RATE
    denied_burst: int = DENIED_BURST


class Account(NamedTuple):
    """The account of one app. budget: for all its events. denied: a smaller budget for its denials."""

    budget: Budget
    denied: Budget
    fold: AppFold

    def left(self, event: Event, now_ns: int) -> float:
        """Return the trail bytes that the budget still allows for an event."""
        left = self.budget.left(now_ns)
        return min(left, self.denied.left(now_ns)) if event.decision == DENY else left

    def spend(self, event: Event, now_ns: int, size: int) -> float:
        """Charge *size* bytes for an event. Return the seconds until the app has a budget again."""
        if event.decision == DENY:
            self.denied.spend(size, now_ns)
        return self.budget.spend(size, now_ns)


class Accounts:
    """The accounts of a mount. now_ns: monotonic time. Times in events are wall-clock time."""

    def __init__(self, limits: Limits, window_ns: int) -> None:
        """window_ns: the time in which the record of a denial also stands for its repeats (see AppFold)."""
        self._limits = limits
        self._window_ns = window_ns
        self._all: dict[Holder, Account] = {}

    def __len__(self) -> int:
        return len(self._all)

    def absorb(self, event: Event, now_ns: int) -> bool:
        """Count an event that repeats a denial or exceeds its app's budget, and return True.

        Return False for all other events. These must be recorded.
        """
        account = self._of(event, now_ns)
        if account.fold.absorb(event):
            return True
        if account.left(event, now_ns) > 0:
            return False
        # A count by directory has the path of the directory. The app chooses its length.
        by_directory = event.decision != DENY or account.denied.left(now_ns) > -_OVERDRAFT
        new = account.fold.count(event, by_directory=by_directory)
        if new is not None:
            account.spend(new, now_ns, line_bytes(new) + _COUNTS)
        return True

    def spend(self, event: Event, now_ns: int, size: int | None = None) -> float:
        """Charge a recorded event to its app. Return the seconds until the app has a budget again.

        size: an upper bound of the line's length in bytes, if known. A denial is charged to the app's budget
        twice: for its line, and for a later line with the count of its repeats. Most denials are not
        repeated. So the budget for denials is charged for the later line only once that line is written.
        """
        account = self._of(event, now_ns)
        size = line_bytes(event) if size is None else size
        beyond_s = account.spend(event, now_ns, size)
        if event.decision == DENY and self._window_ns:
            beyond_s = account.budget.spend(size, now_ns)
        return beyond_s

    def recorded(self, event: Event, now_ns: int) -> None:
        """Remember a recorded denial, so that its repeats are counted from now on."""
        self._of(event, now_ns).fold.recorded(event)

    def collect(self, time_ns: int, now_ns: int, *, everything: bool) -> list[Event]:
        """Return the counts that are due, as events. time_ns: wall-clock time, as in events.

        everything: True to return all counts, due or not.
        """
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

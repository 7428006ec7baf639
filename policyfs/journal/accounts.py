"""Accounts: each app's budget of trail, and the counts of its events that exceed it.

Not thread-safe: the journal calls it under its own lock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.trail.bounds import line_bytes
from policyfs.trail.budget import Budget
from policyfs.trail.event import DENY, Event, Holder, holder_of
from policyfs.trail.fold import AppFold

RATE: Final = 800_000
"""Bytes of trail that one app may cause each second, in the long run."""
BURST: Final = 1_000_000
"""Bytes beyond that at once, after a silence. So it is at most 1 MB/s over any five seconds."""

ACCOUNTS: Final = 256
"""Apps, and uids of strangers, with an account of their own at one time; more strangers share one."""
_STRANGERS: Final = -1


class Limits(NamedTuple):
    """rate, burst: bytes of trail for each app, see RATE and BURST."""

    rate: int = RATE
    burst: int = BURST


class Account(NamedTuple):
    """The account of one app."""

    budget: Budget
    fold: AppFold


class Accounts:
    """The accounts of a mount. Clocks: now_ns only goes forward, an event's time may be stepped."""

    def __init__(self, limits: Limits, window_ns: int) -> None:
        """window_ns: see AppFold."""
        self._limits = limits
        self._window_ns = window_ns
        self._all: dict[Holder, Account] = {}

    def __len__(self) -> int:
        return len(self._all)

    def absorb(self, event: Event, now_ns: int) -> bool:
        """True if the event is counted: as a repeat, or because its app is beyond its budget."""
        account = self._of(event, now_ns)
        if account.fold.absorb(event):
            return True
        if account.budget.left(now_ns) > 0:
            return False
        account.fold.count(event)
        return True

    def spend(self, event: Event, now_ns: int) -> float:
        """Charge a recorded event to its app. Return the seconds by which it is now beyond its budget.

        A denial is charged twice, so that the later line with the count of its repeats is paid for, too.
        """
        size = line_bytes(event) * (2 if event.decision == DENY and self._window_ns else 1)
        return self._of(event, now_ns).budget.spend(size, now_ns)

    def recorded(self, event: Event, now_ns: int) -> None:
        """Note a recorded denial, which from now on stands for its repeats."""
        self._of(event, now_ns).fold.recorded(event)

    def collect(self, time_ns: int, now_ns: int, *, everything: bool) -> list[Event]:
        """Return the counts that are due, as events. time_ns: of the clock that events have."""
        told: list[Event] = []
        for holder, account in list(self._all.items()):
            for event in account.fold.collect(time_ns, all_of_them=everything):
                if event.folded:
                    account.budget.spend(line_bytes(event), now_ns)
                told.append(event)
            if not len(account.fold) and account.budget.is_full(now_ns):
                del self._all[holder]
        return told

    def _of(self, event: Event, now_ns: int) -> Account:
        holder = holder_of(event)
        account = self._all.get(holder)
        if account is None and len(self._all) >= ACCOUNTS and isinstance(holder, int):
            holder = _STRANGERS
            account = self._all.get(holder)
        if account is None:
            budget = Budget(self._limits.rate, self._limits.burst, now_ns)
            account = self._all[holder] = Account(budget, AppFold(self._window_ns))
        return account

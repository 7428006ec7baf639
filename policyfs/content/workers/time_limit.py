"""The time limit of a request to the workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import trio

LONGEST: Final = 6
"""The longest time that a request may take, as a multiple of its time limit. (Some waits do not count for the
time limit itself: see TimeLimit.)
"""


class TimeLimit:
    """A time limit that does not count the waits for a processor and for a worker.

    These waits (Look.waited_s, suspended()) are not the file's fault. So a file is not refused only because
    the machine is busy for a while. But after LONGEST times the limit, the request ends in any case.
    """

    def __init__(self, limit_s: float) -> None:
        """Start the limit. limit_s: seconds."""
        begin_s = trio.current_time()
        self.scope = trio.CancelScope(deadline=begin_s + limit_s)
        """The scope for the request. It is cancelled when the limit is reached."""
        self.started = True
        """False if no worker had started when the limit was reached."""
        self._limit_s = limit_s
        self._latest_s = begin_s + LONGEST * limit_s

    def lengthen(self, seconds: float) -> None:
        """Do not count these seconds, which have passed."""
        self.scope.deadline = min(self._latest_s, self.scope.deadline + seconds)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Do not count the time in this context."""
        begin_s, deadline_s = trio.current_time(), self.scope.deadline
        self.scope.deadline = self._latest_s
        try:
            yield
        finally:
            self.started = not self.scope.cancel_called
            self.scope.deadline = min(self._latest_s, deadline_s + trio.current_time() - begin_s)

    def reason(self) -> str:
        """Return the reason for the end of a request that reached the limit, for the trail."""
        if trio.current_time() < self._latest_s:
            return f"no answer within {self._limit_s:g} s"
        return f"no answer within {LONGEST * self._limit_s:g} s: the machine is busy, or no worker starts"


class Look(NamedTuple):
    """The state of a worker's process at one instant.

    state: a letter of proc_pid_stat(5), field 3; "" if unknown. used_s: the processor time (seconds) that the
    process has used so far (fields 14 and 15). at_s: the instant (trio.current_time()).
    """

    state: str
    used_s: float
    at_s: float

    @property
    def stopped(self) -> bool:
        """True if a signal or a debugger stopped the worker."""
        return self.state in {"T", "t"}

    def waited_s(self, before: Look) -> float:
        """Return the seconds since the look *before* that count as a wait for a processor.

        If the worker is ready to run now, these are all seconds in which it used no processor. Otherwise it
        waits for a disk, or has answered: then return 0.
        """
        return max(0.0, self.at_s - before.at_s - (self.used_s - before.used_s)) if self.state == "R" else 0.0

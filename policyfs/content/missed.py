"""Files for which the last try gave no answer: for a while they are refused without another try.

A file that keeps a worker busy until the deadline, or kills the worker, would do so at every open. On an
overloaded machine the same happens with a harmless file, so each refusal ends by itself. It lasts FIRST_S
after the first failure, and twice as long after each further one, up to LONGEST_S. One good answer clears
all.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

FIRST_S: Final = 1.0
LONGEST_S: Final = 300.0
KEPT_S: Final = 600.0
"""For so many seconds after the end of a refusal, a new failure of the file counts as a further one, not as a
first one.
"""
MAX_FILES: Final = 4096
"""Failures kept; the oldest go first. One takes about 500 bytes."""


class _Failure(NamedTuple):
    """One failure. why: in words. at_s, until_s: monotonic times of the failure and of the refusal's end."""

    why: str
    at_s: float
    until_s: float


class Missed:
    """A bounded map from a version of a file, for one app, to its failure.

    The map is used only to refuse files. So a version from stat is enough, although it does not prove the
    bytes.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic, capacity: int = MAX_FILES) -> None:
        self._clock_s = clock_s
        self._capacity = capacity
        self._failures: OrderedDict[Hashable, _Failure] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of failures that are kept."""
        return len(self._failures)

    def refusal(self, key: Hashable) -> str | None:
        """Return the reason for not looking into the file now; None if there is none."""
        failure = self._failures.get(key)
        now_s = self._clock_s()
        if failure is None or now_s >= failure.until_s:
            return None
        return (
            f"{failure.why}, {now_s - failure.at_s:.0f} s ago; "
            f"not tried again for {failure.until_s - now_s:.0f} s"
        )

    def note(self, key: Hashable, why: str) -> None:
        """Record a failure. why: the cause, in words for the trail."""
        now_s = self._clock_s()
        before = self._failures.pop(key, None)
        pause_s = FIRST_S
        if before is not None and now_s - before.until_s < KEPT_S:
            pause_s = min(LONGEST_S, 2 * (before.until_s - before.at_s))
        self._failures[key] = _Failure(why, now_s, now_s + pause_s)
        while len(self._failures) > self._capacity:
            self._failures.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """Forget a failure, after a successful look."""
        self._failures.pop(key, None)

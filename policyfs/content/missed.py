"""Refusals of files for which the workers found no answer. A refused file is not tried again for a while.

A file that keeps a worker busy until the deadline, kills the worker, or needs more memory than the worker may
have, would do the same at every open. On an overloaded machine a harmless file can also miss the deadline, so
each refusal ends by itself. The refusal lasts FIRST_S after the first failure. Each further failure doubles
this time, up to LONGEST_S. After one good answer the next failure counts as the first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

FIRST_S: Final = 1.0
LONGEST_S: Final = 300.0
KEPT_S: Final = 600.0
"""Seconds that a failure is remembered after the end of its refusal.

If the file fails again within these seconds, this counts as a further failure, not as the first.
"""
MAX_FILES: Final = 4096
"""The limit of stored failures. The oldest failures are dropped first. A failure takes about 500 bytes."""


class _Failure(NamedTuple):
    """A failure. why: the cause in words. at_s: the monotonic time of the failure. until_s: the monotonic
    time at which the refusal of the file ends."""

    why: str
    at_s: float
    until_s: float


class Missed:
    """A bounded map from a request (Sniffer.locate) to the workers' last failure at this request.

    The key of a request has its lane, the version of its file, and the words to hide. The map is used only to
    refuse files. So a version from stat is enough, although stat does not prove that the bytes are the same.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic, capacity: int = MAX_FILES) -> None:
        self._clock_s = clock_s
        self._capacity = capacity
        self._failures: OrderedDict[Hashable, _Failure] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def refusal(self, key: Hashable) -> str | None:
        """Return the reason why the file is refused now, or None if a worker may read the file."""
        failure = self._failures.get(key)
        now_s = self._clock_s()
        if failure is None or now_s >= failure.until_s:
            return None
        return (
            f"{failure.why}, {now_s - failure.at_s:.0f} s ago; "
            f"not tried again for {failure.until_s - now_s:.0f} s"
        )

    def note(self, key: Hashable, why: str) -> None:
        """Record a failure of the workers at this file. why: the cause, in words for the trail."""
        now_s = self._clock_s()
        before = self._failures.pop(key, None)
        pause_s = FIRST_S
        if before is not None and now_s - before.until_s < KEPT_S:
            pause_s = min(LONGEST_S, 2 * (before.until_s - before.at_s))
        self._failures[key] = _Failure(why, now_s, now_s + pause_s)
        while len(self._failures) > self._capacity:
            self._failures.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """Forget the failures of this file, after a worker has given a good answer."""
        self._failures.pop(key, None)

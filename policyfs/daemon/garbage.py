"""Garbage collection: in small steps while requests come, and completely while no requests come.

A complete collection visits every object. With 110,000 files known to the kernel, such a collection took 0.4
s, and every request waited. So objects that survive a collection are frozen here (gc.freeze): later
collections leave them out. Reference counts still free frozen objects. But a reference cycle that was alive
when it was frozen stays in memory until a complete collection. Such a collection is done when no request has
come for some seconds.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final

from policyfs.linux.libc import LIBC

_YOUNG: Final = 700
_MIDDLE: Final = 10
_NEVER: Final = 1 << 30
"""The threshold that switches Python's own complete collections off."""
_DUE: Final = 2
"""After this number of collections of the middle generation (one for each 7,000 new objects), all new objects
are collected. This takes about 20 ms."""
OFTEN_S: Final = 1.0
"""The longest time between two collections while requests come. Python's own trigger does not suffice: it
counts created objects minus freed ones. A full cache drops an old answer for each new one, so the count stays
0 while 100,000 objects are new."""
IDLE_S: Final = 5.0
MOST_FREEZES: Final = 1000
"""The number of freezes after which a complete collection is due. Each freeze may keep some KiB of garbage,
from requests that were under way."""
_NEVER_IDLE: Final = 50
"""A complete collection is done after _NEVER_IDLE * MOST_FREEZES freezes, even while requests come."""


class Garbage:
    """A scheduler that collects the garbage of one process. Call tick() several times a second. freezes: the
    number of freezes since the last complete collection."""

    def __init__(self, requests: Callable[[], int], *, most_freezes: int = MOST_FREEZES) -> None:
        """requests: returns their number so far. most_freezes: the freezes until a complete collection."""
        self._requests = requests
        self._most_freezes = most_freezes
        self._seen = self._collected = -1
        self._since_s = self._collected_s = 0.0
        self.freezes = 0

    def start(self) -> None:
        """Freeze all present objects, and give memory that the imports used back to the system."""
        _collect()
        LIBC.malloc_trim(0)
        gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)

    def tick(self, now_s: float | None = None) -> None:
        """Do the collection that is due, if any. now_s: the time by time.monotonic(); None: now."""
        if not gc.isenabled():
            return  # a thread makes a policy's many objects, and freezes them itself (large_work.py)
        now_s = time.monotonic() if now_s is None else now_s
        asked = self._requests()
        if gc.get_count()[2] >= _DUE or (asked != self._collected and now_s - self._collected_s >= OFTEN_S):
            _collect()
            self.freezes += 1
            self._collected, self._collected_s = asked, now_s
        if asked != self._seen:
            self._seen, self._since_s = asked, now_s
        idle = self.freezes >= self._most_freezes and now_s - self._since_s >= IDLE_S
        if idle or self.freezes >= self._most_freezes * _NEVER_IDLE:
            gc.unfreeze()
            _collect()
            self.freezes = 0


def _collect() -> None:
    gc.collect()
    gc.freeze()

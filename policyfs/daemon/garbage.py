"""Garbage collection while others wait: of what is new, a little at a time; of everything, when nobody asks.

A full collection goes through every object there is: with 110,000 files known to the kernel it took 0.4 s,
and everybody waited. Here what has outlived a collection is frozen (gc.freeze): later ones leave it out.
Reference counts free frozen objects as ever; only a circle that was alive when it was frozen stays, until
nothing has been asked for some seconds and everything is gone through once.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final

_YOUNG: Final = 700
_MIDDLE: Final = 10
_NEVER: Final = 1 << 30
"""Python's own full collections."""
_DUE: Final = 2
"""Collections of the middle generation, of 7,000 objects more each, after which one of all that is new is
due: some 20 ms."""
OFTEN_S: Final = 1.0
"""So long after the last at most, if anything was asked. Python counts what was made less what was freed:
where a full cache drops an old answer for each new one it sees nothing new, while 100,000 objects are."""
IDLE_S: Final = 5.0
MOST_FREEZES: Final = 1000
"""Before everything is due: one may leave behind what requests under way hold, some KiB."""
_NEVER_IDLE: Final = 50
"""So many times as many freezes, and everything is gone through whoever waits."""


class Garbage:
    """Collects for one process, when tick() is called several times a second.

    freezes: so many since everything was gone through.
    """

    def __init__(self, requests: Callable[[], int], *, most_freezes: int = MOST_FREEZES) -> None:
        """requests: counts all that were ever read. most_freezes: after so many, everything is due."""
        self._requests = requests
        self._most_freezes = most_freezes
        self._seen = self._collected = -1
        self._since_s = self._collected_s = 0.0
        self.freezes = 0

    def start(self) -> None:
        """Freeze what is there now."""
        _collect()
        gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)

    def tick(self, now_s: float | None = None) -> None:
        """Collect what is due. now_s: as time.monotonic() says."""
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
    """Collect what is not frozen, and freeze what is left of it."""
    gc.collect()
    gc.freeze()

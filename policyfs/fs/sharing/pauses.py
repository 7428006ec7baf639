"""Pauses in long work: other requests then run before the work is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

SLICE: Final = 64
"""The number of names after which other requests may run in any case: about 0.2 ms."""
_LOOK: Final = 16
"""The number of names after which the work checks whether other requests wait: about 0.05 ms. Another request
needs a few rounds of the event loop, and waits for the work in each round."""


SLICE_S: Final = 0.001
"""The length of a slice of work, in seconds. With shorter slices the whole work would take longer: up to 32
requests may run before the next slice (kernel/readiness.py)."""


async def in_slices(go_on: Callable[[], bool]) -> None:
    """Call *go_on* until it returns False. After each SLICE_S, let other tasks run. One call of *go_on* must
    take only a small part of SLICE_S."""
    until = time.perf_counter() + SLICE_S
    while go_on():
        if time.perf_counter() >= until:
            await trio.lowlevel.checkpoint()
            until = time.perf_counter() + SLICE_S


class Pauses:
    """A counter that tells one request when to pause, so that other requests run. others_wait: returns True
    if another request waits or is under way."""

    __slots__ = ("_look", "_others_wait", "_work")

    def __init__(self, others_wait: Callable[[], bool]) -> None:
        self._others_wait = others_wait
        self._work = 0
        self._look = _LOOK

    def due(self, work: int = 1) -> bool:
        """Add *work* (a number of names) to the count. Return True if the caller must pause now."""
        self._work += work
        if self._work < self._look:
            return False
        if self._work >= SLICE or self._others_wait():
            self._work, self._look = 0, _LOOK
            return True
        self._look = self._work + _LOOK
        return False

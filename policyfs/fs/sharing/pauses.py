"""Pauses in work that takes long, so that the others need not wait for all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

SLICE: Final = 64
"""Names after which others get their turn in any case: some 0.2 ms."""
_LOOK: Final = 16
"""Names after which to look whether others wait: some 0.05 ms. A request of theirs takes a few turns of
the event loop, and waits for us at each."""


SLICE_S: Final = 0.001
"""Of work that nobody waits for. A turn may come as seldom as after 32 requests (kernel/readiness.py), so a
slice is not too small."""


async def in_slices(go_on: Callable[[], bool]) -> None:
    """Call *go_on* until it returns False, and let others have a turn after each SLICE_S of it.

    A call takes a small part of a slice.
    """
    until = time.perf_counter() + SLICE_S
    while go_on():
        if time.perf_counter() >= until:
            await trio.lowlevel.checkpoint()
            until = time.perf_counter() + SLICE_S


class Pauses:
    """Of one request. others_wait: is another request there, or under way."""

    __slots__ = ("_look", "_others_wait", "_work")

    def __init__(self, others_wait: Callable[[], bool]) -> None:
        self._others_wait = others_wait
        self._work = 0
        self._look = _LOOK

    def due(self, work: int = 1) -> bool:
        """Count what was done, in names; True when it is time to let others in."""
        self._work += work
        if self._work < self._look:
            return False
        if self._work >= SLICE or self._others_wait():
            self._work, self._look = 0, _LOOK
            return True
        self._look = self._work + _LOOK
        return False

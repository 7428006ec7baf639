"""Pauses in one request that goes through many names, so that the others need not wait for all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SLICE: Final = 64
"""Names after which others get their turn in any case: some 0.2 ms."""
_LOOK: Final = 16
"""Names after which to look whether others wait: some 0.05 ms. A request of theirs takes a few turns of
the event loop, and waits for us at each."""


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

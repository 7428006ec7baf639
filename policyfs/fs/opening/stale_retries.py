"""Opens that were answered with ESTALE and that the kernel tries once more, and no more than that.

The second try must find the node that this open needs, by the policy that LOOKUP went by: a second ESTALE
is the app's. So a reload waits a moment for second tries to end (settled).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

_COMES_S: Final = 0.25
"""A second try comes within so long, or never: its name is gone, or its thread."""
_LOOKS_S: Final = 0.001
_MOST: Final = 4096


class SecondTries:
    """Threads whose open was sent back, by number, until their second try has ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._awaited: dict[int, float] = {}
        self._under_way: dict[int, int] = {}

    def begins(self, thread: int) -> bool:
        """An open of a thread begins: True if it is a second try, which must be told of its end."""
        if self._awaited.pop(thread, None) is None:
            return False
        self._under_way[thread] = self._under_way.get(thread, 0) + 1
        return True

    def ends(self, thread: int) -> None:
        """A second try was answered, whatever the answer is."""
        left = self._under_way.pop(thread) - 1
        if left:
            self._under_way[thread] = left

    def sent_back(self, thread: int) -> None:
        """A first try was answered with ESTALE."""
        if len(self._awaited) >= _MOST:
            self._forget_late()
        if len(self._awaited) < _MOST:
            self._awaited[thread] = self._clock() + _COMES_S

    async def settled(self, most_s: float) -> bool:
        """Wait until no second try is awaited or under way; False if that took longer than *most_s* seconds.

        INVARIANT: no await between this and what they must not see half of.
        """
        with trio.move_on_after(most_s):
            while self._is_any():  # noqa: ASYNC110 - some never come, and nothing tells of that
                await trio.sleep(_LOOKS_S)
            return True
        return False

    def _is_any(self) -> bool:
        self._forget_late()
        return bool(self._awaited or self._under_way)

    def _forget_late(self) -> None:
        now = self._clock()
        self._awaited = {thread: until for thread, until in self._awaited.items() if until > now}

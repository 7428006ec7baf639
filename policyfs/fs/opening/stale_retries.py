"""Second tries of opens: after ESTALE the kernel tries an open once more, and no third time.

The second try must find the node that this open needs, under the same policy as its LOOKUP. A second ESTALE
would reach the app. So a reload waits a moment until all second tries have ended (settled()). Meanwhile no
first try begins: apps that open files all the time would otherwise always leave a second try to wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

_COMES_S: Final = 0.25
"""The longest time until the kernel tries an open again. After that, the file's name or the thread is
gone.
"""
_HELD_S: Final = 0.25
"""The longest time for which no first try of an open begins (settled())."""
_LOOKS_S: Final = 0.001
_MOST: Final = 4096


class SecondTries:
    """The threads, by number, that got ESTALE for an open, until the kernel's second try of the open has
    ended.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._awaited: dict[int, float] = {}
        self._under_way: dict[int, int] = {}
        self._held: trio.Event | None = None

    def begins(self, thread: int) -> bool:
        """Note that a thread's open begins. Return True if the kernel tries this open again after ESTALE.
        Then the caller must call ends() when the open ends.
        """
        if self._awaited.pop(thread, None) is None:
            return False
        self._under_way[thread] = self._under_way.get(thread, 0) + 1
        return True

    def ends(self, thread: int) -> None:
        """Note that the second try of an open, after ESTALE, was answered, whatever the answer."""
        left = self._under_way.pop(thread) - 1
        if left:
            self._under_way[thread] = left

    def sent_back(self, thread: int) -> None:
        """Note that an open got ESTALE at its first try: the kernel will try once more."""
        if len(self._awaited) >= _MOST:
            self._forget_late()
        if len(self._awaited) < _MOST:
            self._awaited[thread] = self._clock() + _COMES_S

    async def may_begin(self) -> None:
        """Wait until first tries of opens may begin: at most _HELD_S for one call of settled()."""
        while self._held is not None:
            await self._held.wait()

    async def settled(self, most_s: float) -> bool:
        """Wait until no second try of an open (after ESTALE) is expected or under way. Return False if that
        took more than *most_s* seconds. For the first _HELD_S seconds, make first tries wait (may_begin()).

        INVARIANT: the caller puts the new policy in force right after this call, with no await in between. So
        no second try of an open meets another policy than its LOOKUP.
        """
        self._held = self._held or trio.Event()
        free_at = self._clock() + _HELD_S
        try:
            with trio.move_on_after(most_s):
                while self.is_any:
                    await trio.sleep(_LOOKS_S)  # some second tries never come, and no event reports that
                    if self._clock() >= free_at:
                        self._free_held()
                return True
            return False
        finally:
            self._free_held()

    def _free_held(self) -> None:
        if self._held is not None:
            self._held.set()
            self._held = None

    @property
    def is_any(self) -> bool:
        """True if a second try of an open (after ESTALE) is expected or under way."""
        self._forget_late()
        return bool(self._awaited or self._under_way)

    def _forget_late(self) -> None:
        if not self._awaited:
            return
        now = self._clock()
        self._awaited = {thread: until for thread, until in self._awaited.items() if until > now}

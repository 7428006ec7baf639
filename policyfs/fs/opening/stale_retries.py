"""Second tries of opens: after ESTALE the kernel tries an open once more, and no third time.

The second try must find the node that this open needs, under the same policy as its LOOKUP. A second ESTALE
would reach the app. So a reload waits a moment until all second tries have ended (settled()). Meanwhile no
first try begins: apps that open files all the time would otherwise always leave a second try to wait for.
A first try that waits lets its request rest (RawRequest.rests()), so that the second try of another thread
of the same app can begin.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio

_COMES_S: Final = 1.0
"""The longest time until the kernel tries an open again: it looks the name up before, and a machine under
load takes longer. After that, the file's name or the thread is gone.
"""
_LOOKS_S: Final = 0.001
MOST_RESTING: Final = 256
"""The most opens whose requests rest, from their wait for a reload until their end. The requests of further
opens count as under way while they wait.
"""
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
        self._resting = 0

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

    def holds(self, thread: int) -> bool:
        """True if an open of this thread must wait before it begins (held()): a reload waits for the end of
        second tries, and this open is a first try. Thread 0 stands for all threads outside the daemon's pid
        namespace, so that an open of thread 0 may be a second try: it does not wait.
        """
        return self._held is not None and thread != 0 and thread not in self._awaited

    @contextlib.asynccontextmanager
    async def held(self, rests: Callable[[], None]) -> AsyncIterator[None]:
        """Wait until first tries of opens may begin: as long as a call of settled() waits. The open runs in
        the block, and keeps its place among MOST_RESTING until the block ends.

        rests: stops counting the request of this open as under way (RawRequest.rests()). It is called at
        once, if there is a place.
        """
        rest = self._resting < MOST_RESTING
        if rest:
            rests()
        self._resting += rest
        try:
            while self._held is not None:
                await self._held.wait()
            yield
        finally:
            self._resting -= rest

    async def settled(self, most_s: float) -> bool:
        """Wait until no second try of an open (after ESTALE) is expected or under way. Return False if that
        took more than *most_s* seconds. Meanwhile first tries wait (held()).

        INVARIANT: the caller puts the new policy in force right after this call, with no await in between. So
        no second try of an open meets another policy than its LOOKUP.
        """
        held = self._held = self._held or trio.Event()
        try:
            with trio.move_on_after(most_s):
                while self.is_any:  # noqa: ASYNC110 - some second tries never come: no event reports that
                    await trio.sleep(_LOOKS_S)
                return True
            return False
        finally:
            held.set()
            if self._held is held:
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

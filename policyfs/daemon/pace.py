"""The pace of periodic work on the event loop: fast while the loop works, slow while the mount is idle."""

from __future__ import annotations

from typing import Final

import trio

from policyfs.kernel import vectors

PERIOD_S: Final = 0.05
"""The time from one turn to the next while the event loop works."""
REST_S: Final = 5.0
"""The longest time from one turn to the next while nothing happens."""


class Pace(trio.abc.Instrument):
    """A schedule of the turns of periodic work: tasks that use one pace have theirs at the same times, so
    that the event loop wakes up once for all.

    A task whose work is done rests. INVARIANT: every wake-up of the event loop ends the rest, so that all
    that happens on it (a request, a change of the store, the result of a thread) is followed by a turn within
    1.5 periods. The bridge's readers answer opens without it: while tasks rest, the first event of such an
    open wakes it (vectors.ring_early)."""

    def __init__(self) -> None:
        self._due_s = 0.0  # of trio's clock: the next turn of all tasks, if it is in the future
        self._until_s = 0.0
        self._woken: trio.Event | None = None  # while tasks rest

    async def next_turn(self, *, again: bool) -> None:
        """Wait until the next turn. again: True if work is left that does not wake the event loop: then for
        .5 to 1.5 periods. Else the task rests first, unless a turn is due for others."""
        if self._due_s <= trio.current_time():
            if again:
                self._due_s = _after_a_period()
            else:
                await self._rest()
        if self._due_s > trio.current_time():
            await trio.sleep_until(self._due_s)

    async def _rest(self) -> None:
        """Wait until the event loop wakes up, but at most until the end of the rest."""
        if self._woken is None or self._until_s <= trio.current_time():
            self._woken, self._until_s = trio.Event(), at_next(REST_S)
            trio.lowlevel.add_instrument(self)
            vectors.ring_early(True)
        with trio.move_on_at(self._until_s):
            await self._woken.wait()

    def after_io_wait(self, timeout: float) -> None:
        """End the rest. trio calls this when the event loop wakes up."""
        del timeout
        trio.lowlevel.remove_instrument(self)
        vectors.ring_early(False)
        if trio.current_time() < self._until_s:
            self._due_s = _after_a_period()
        if self._woken is not None:
            self._woken.set()
            self._woken = None


def _after_a_period() -> float:
    """Return the time of the next turn, about a period from now."""
    return ((trio.current_time() + PERIOD_S / 2) // PERIOD_S + 1) * PERIOD_S


def at_next(period_s: float) -> float:
    """Return the next time of trio's clock that is a multiple of *period_s* seconds. Tasks that wait for the
    same multiples wake the event loop only once."""
    return (trio.current_time() // period_s + 1) * period_s

"""Second tries of opens: after ESTALE the kernel tries an open once more, and no third time.

The second try must find the node that this open needs, under the same policy as its LOOKUP. A second ESTALE
would reach the app. So a reload waits a moment until all second tries have ended (settled()). Meanwhile no
first try begins for an app with such a second try. Otherwise an app that opens files all the time could
always have a second try, and the reload would wait long. A first try that waits lets its request rest
(RawRequest.rests()), so that the second try of another thread of the same app can begin.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

import trio

from policyfs.fs.sharing.shares import Holder, Shares
from policyfs.linux.threads import has_ended

_COMES_S: Final = 1.0
"""The longest time from ESTALE to the kernel's second try, with the LOOKUP before this try, on a machine
under load. If no second try has come after this time, none will come: the name or the thread is gone."""
_ENDS_S: Final = 0.1
"""The longest time from a failed LOOKUP to the second try of the open. If the kernel knew another file by the
name, the kernel looks the name up twice. So after a failed LOOKUP, the second LOOKUP may still find a file.
"""
_LOOKS_S: Final = 0.001
_SEEKS_S: Final = 0.02
"""The time between two searches for threads that have ended."""
_SOUGHT: Final = 64
"""The limit of threads in one search, some 6 microseconds each."""
MOST_RESTING: Final = 256
"""The limit of opens whose requests rest. A request rests from its wait for a reload until the end of its
open. The requests of further opens count as under way while they wait. One holder can have as many as are
left for all others."""
_MOST: Final = 4096
"""The limit of expected second tries. One holder can have as many as are left for all others."""


class _Try(NamedTuple):
    """An expected second try: the time until which it may come, and its holder."""

    until_s: float
    holder: Holder


class FirstTry:
    """An open of an app that may have to wait for a reload, and its place among MOST_RESTING."""

    def __init__(
        self, tries: SecondTries, resting: Shares, holder: Holder, rests: Callable[[], None]
    ) -> None:
        self._tries = tries
        self._resting = resting
        self._holder = holder
        self._rests = rests
        self._rest = False

    async def waits(self) -> None:
        """Wait until no call of settled() waits: then first tries of opens may begin. If there is a place,
        the request rests, until the open ends."""
        resting = self._resting
        if not self._rest and resting.held(self._holder) < MOST_RESTING - resting.used:
            self._rests()
            self._rest = True
            resting.take(self._holder)
        await self._tries.freed()

    def ends(self) -> None:
        """Note that the open has ended, and give its place back."""
        if self._rest:
            self._rest = False
            self._resting.give(self._holder)


class SecondTries:
    """The threads, by number, that got ESTALE for an open, until the kernel's second try has ended. Its
    holder is that of its caller (Caller.holder).

    An expected second try is forgotten if it has not come within _COMES_S, or within _ENDS_S after its LOOKUP
    has failed (failed()), or if its thread has ended."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected: dict[int, _Try] = {}  # the oldest first
        self._failed: dict[int, float] = {}  # the times until which they are expected
        self._under_way: dict[int, list[Holder]] = {}
        self._of: Counter[Holder] = Counter()
        self._held: trio.Event | None = None
        self._busy: set[Holder] = set()
        self._resting = Shares(MOST_RESTING, "opens that rest")

    def begins(self, thread: int) -> bool:
        """Note that a thread's open begins. Return True if this open is the kernel's second try after ESTALE:
        the caller must call ends() when it ends."""
        self._forget_late()
        found = self._expected.pop(thread, None)
        if found is None:
            return False
        self._failed.pop(thread, None)
        self._under_way.setdefault(thread, []).append(found.holder)
        return True

    def ends(self, thread: int) -> None:
        """Note that the second try of an open (after ESTALE) was answered, with success or with an error."""
        holders = self._under_way[thread]
        self._count_down(holders.pop())
        if not holders:
            del self._under_way[thread]

    def sent_back(self, thread: int, holder: Holder) -> None:
        """Note that an open got ESTALE at its first try: the kernel will try once more."""
        self._forget(thread)
        self._forget_late()
        if self._of[holder] < _MOST - len(self._expected):
            self._expected[thread] = _Try(self._clock() + _COMES_S, holder)
            self._of[holder] += 1
            if self._held is not None:
                self._busy.add(holder)

    def failed(self, thread: int) -> None:
        """Note that a LOOKUP of a thread has failed: its open has ended, unless the kernel looks the name up
        once more, and finds a file."""
        if thread and thread in self._expected:  # 0: any thread outside the daemon's pid namespace
            self._failed.pop(thread, None)  # so that the oldest stay first
            self._failed[thread] = self._clock() + _ENDS_S

    def holds(self, thread: int, holder: Holder) -> bool:
        """Return True if a thread's open must wait (FirstTry.waits()): a first try, while a reload waits for
        second tries of this holder. Not of thread 0: all outside the daemon's pid namespace."""
        if self._held is None or holder not in self._busy:
            return False
        return thread != 0 and thread not in self._expected

    def first_try(self, holder: Holder, rests: Callable[[], None]) -> FirstTry:
        """Return an object for one open: waits() while holds() is True, and ends() when the open ends. rests:
        RawRequest.rests(). While the open waits, its request leaves room for others."""
        return FirstTry(self, self._resting, holder, rests)

    async def freed(self) -> None:
        """Wait until no call of settled() waits."""
        while self._held is not None:
            await self._held.wait()

    async def settled(self, most_s: float) -> bool:
        """Wait until no second try of an open (after ESTALE) is expected or under way; meanwhile first tries
        of the same holders wait. Return False after *most_s* seconds: then the policy may change between a
        second try and its LOOKUP. INVARIANT: the caller puts the new policy in force next, with no await in
        between."""
        if self._held is None:
            self._held, self._busy = trio.Event(), set(self._of)
        held, sought_s = self._held, self._clock()
        try:
            with trio.move_on_after(most_s):
                while self.is_any:
                    await trio.sleep(_LOOKS_S)
                    if (now_s := self._clock()) - sought_s >= _SEEKS_S:
                        sought_s = now_s
                        self._forget_ended()
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
        return bool(self._of)

    def is_any_of(self, holder: Holder) -> bool:
        """Return True if a second try of one holder's open is expected or under way."""
        return self.is_any and holder in self._of

    def _forget_late(self) -> None:
        now = self._clock()
        while self._expected and next(iter(self._expected.values())).until_s <= now:
            self._forget(next(iter(self._expected)))
        while self._failed and next(iter(self._failed.values())) <= now:
            self._forget(next(iter(self._failed)))

    def _forget_ended(self) -> None:
        for thread in list(islice(self._expected, _SOUGHT)):
            if thread and has_ended(thread):
                self._forget(thread)

    def _forget(self, thread: int) -> None:
        self._failed.pop(thread, None)
        found = self._expected.pop(thread, None)
        if found is not None:
            self._count_down(found.holder)

    def _count_down(self, holder: Holder) -> None:
        self._of[holder] -= 1
        if not self._of[holder]:
            del self._of[holder]

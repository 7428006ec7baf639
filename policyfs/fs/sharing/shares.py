"""Shares of a limited resource. A holder gets EMFILE if it has more of the resource than is still free.

A holder is an app, or the uid of a stranger. No holder can use up the resource alone. Resources that
are divided in this way are, for example, open files and descriptors (fs/inodes/handles.py) and listed names
(fs/namespace/open_directories.py).

A holder can take more as long as its own amount is not larger than the free amount. So a single holder can
have half of the resource, two holders can have a third each, and a holder that has nothing always gets some.
The number of holders need not be known in advance.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

Holder = str | int
"""An app's name, or the uid of a stranger."""


class Shares:
    """A counter that knows each holder's amount of one limited resource.

    limit: the total amount of the resource. what: the name of the resource in the error message. Every thread
    may call take() and give(): after a thread has stored held bytes, the same thread calls give().
    """

    def __init__(self, limit: int, what: str) -> None:
        self.limit: Final = limit
        self.what: Final = what
        self._held: dict[Holder, int] = {}
        self.used = 0
        self.refused = 0
        self._lock = threading.Lock()  # a sum is read and written in two steps

    def held(self, holder: Holder) -> int:
        """Return the amount of the resource that a holder has."""
        return self._held.get(holder, 0)

    def may_take(self, holder: Holder) -> bool:
        """Return False if a holder has more of the resource than is still free."""
        return self.held(holder) <= self.limit - self.used

    def check(self, holder: Holder) -> None:
        """Raise OSError(EMFILE) if may_take() is False."""
        if not self.may_take(holder):
            self.refused += 1
            raise OSError(
                errno.EMFILE,
                f"limit reached ({self.what}): this app already has more"
                " than is still free for all apps together",
            )

    def take(self, holder: Holder, amount: int = 1) -> None:
        """Count *amount* more of the resource for a holder. Callers call check() before, and give() for the
        same amount later. The total can exceed the limit, because check() does not count *amount*."""
        if amount:
            with self._lock:
                self._held[holder] = self.held(holder) + amount
                self.used += amount

    def give(self, holder: Holder, amount: int = 1) -> None:
        """Count *amount* less of the resource for a holder. This undoes take()."""
        with self._lock:
            left = self.held(holder) - amount
            if left:
                self._held[holder] = left
            else:
                self._held.pop(holder, None)
            self.used -= amount


class Turns:
    """A limiter that gives turns to the slow requests of all apps: each may hold one of the few threads.
    most: the limit of turns that one app has at once. At it the app waits for its own requests alone."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._limiters: dict[Holder, trio.CapacityLimiter] = {}

    def __len__(self) -> int:
        return len(self._limiters)

    @asynccontextmanager
    async def of(self, holder: Holder) -> AsyncIterator[None]:
        """Wait for a turn of an app, in the order of arrival. Keep the turn until the context ends."""
        limiter = self._limiters.get(holder)
        if limiter is None:
            limiter = self._limiters[holder] = trio.CapacityLimiter(self._most)
        try:
            async with limiter:
                yield
        finally:
            if not limiter.borrowed_tokens and not limiter.statistics().tasks_waiting:
                self._limiters.pop(holder, None)

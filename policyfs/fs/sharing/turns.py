"""Turns: permissions for slow requests. A slow request may need a thread for a long time.

Threads are few, and each read or write of bytes that are not in memory needs a thread. So an app can have
only a few turns at once. At this limit the app waits until one of its own requests ends. It never waits for
another app's request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from policyfs.fs.sharing.shares import Holder


class Turns:
    """A limiter that gives turns to the slow requests of all apps. most: the limit of turns that one app has
    at once."""

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

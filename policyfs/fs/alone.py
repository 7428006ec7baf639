"""Changing a file while no other daemon of the store does: see store/latches.py."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from policyfs.store.latches import Latches

_WAIT_S: Final = 5.0
"""What a latch is held for takes microseconds: a daemon that has it for so long stands still."""
_PAUSE_S: Final = 0.0005


class Alone:
    """Keeps the daemons of one store apart for the moment of a change."""

    def __init__(self, latches: Latches) -> None:
        self._latches = latches

    @asynccontextmanager
    async def on(self, fd: int) -> AsyncIterator[None]:
        """While in it, no other daemon changes the file behind *fd* by what it judged, or cuts it.

        INVARIANT: no await inside; what the change hangs on is looked at inside, for it may have come
        to a wait. Raises OSError(EBUSY) if another daemon stands still in the midst of its change.
        """
        at = self._latches.take(fd)
        if at is None:
            at = await self._waited(fd)
        try:
            yield
        finally:
            self._latches.give(at)

    async def _waited(self, fd: int) -> int:
        with trio.move_on_after(_WAIT_S):
            while (at := self._latches.take(fd)) is None:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(_PAUSE_S)
            return at
        raise OSError(errno.EBUSY, "another daemon does not end its change of this file")

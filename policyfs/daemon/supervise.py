"""Background tasks of the daemon: their bugs are logged, and end neither the tasks nor the mount."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

PAUSE_S: Final = 1.0
"""Pause before a failed task is started again, so that a task that always fails costs little."""


class BugLog(Protocol):
    """Receiver of unexpected exceptions."""

    def bug(self, where: str, error: BaseException) -> None:
        """Log a bug with its traceback and count it."""


async def kept(bugs: BugLog, name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run *work* until it returns or is cancelled; after an exception, again.

    INVARIANT: nothing but the end of the FUSE session ends the daemon: an exception in one task
    of a nursery would cancel all others, and with them the mount.
    """
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - see INVARIANT
            bugs.bug(name, error)
        else:
            return
        await trio.sleep(PAUSE_S)


async def once(bugs: BugLog, name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run *work* once. An exception is logged, and cancels no other task of the nursery."""
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - as in kept()
        bugs.bug(name, error)

"""Background tasks of the daemon: their bugs are logged, and end neither the task nor the mount."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from policyfs.kernel.operations import BugLog

PAUSE_S: Final = 1.0
"""The pause before a failed task is started again. With this pause, a task that always fails takes little
time."""


async def kept(bugs: BugLog, name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run *work* until it returns or is cancelled. After an exception, run it again.

    INVARIANT: only the end of the FUSE session ends the daemon. An exception in one task of a nursery (a
    group of trio tasks) would cancel all other tasks, and with them the mount.
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
    """Run *work* once. An exception is logged, and cancels no other task of the nursery (a group of trio
    tasks)."""
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - as in kept()
        bugs.bug(name, error)

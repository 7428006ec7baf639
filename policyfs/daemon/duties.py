"""The daemon's periodic duties. Each duty that may wait for a disk has a task of its own.

So while a disk hangs, only the duty that writes to it waits. The other duties go on: they release resources
that are kept only for a moment, and look after notifications, garbage and the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from policyfs.content.disk_cache import Remembered
from policyfs.daemon.kills import Kills
from policyfs.daemon.pace import Pace
from policyfs.daemon.worker_losses import WorkerLosses
from policyfs.journal.writing.journal import Journal
from policyfs.kernel.operations import BugLog
from policyfs.store.kept.kept_files import KeptFiles

_TEND_S: Final = 3600.0


class Duties:
    """A scheduler of one mount's periodic duties on the event loop. Calls that may wait run on threads.

    at_once: functions that never wait, called in this order; if one returns True, all are called again after
    a period (pace.py), even if nothing happens. settle: called before each flush of the trail; records the
    opens that the bridge has answered. lost: returns the number of lost workers by cause, and the last error.
    links: takes the watch's events about link counts, which come from the whole file system and must wake no
    idle daemon; returns True if there were many."""

    def __init__(
        self, at_once: tuple[Callable[[], bool | None], ...], *, settle: Callable[[], None], trail: Journal,
        losses: WorkerLosses, kills: Kills,
        lost: Callable[[], tuple[Mapping[str, int], str]], findings: Remembered | None,
        links: Callable[[], Awaitable[bool]] | None,
    ) -> None:  # fmt: skip
        self._at_once = at_once
        self._settle = settle
        self._trail = trail
        self._losses = losses
        self._kills = kills
        self._lost = lost
        self._findings = findings
        self._links = links
        self._pace = Pace()

    def works(self, kept: KeptFiles) -> tuple[Callable[[], Awaitable[None]], ...]:
        """Return the background tasks. kept: what is kept for undo."""

        async def tend_kept() -> None:
            await self._tend_kept(kept)

        keeping = () if self._findings is None else (self.keep_findings,)
        taking = () if self._links is None else (self.take_links,)
        return self.tend, self.flush_trail, tend_kept, *keeping, *taking

    async def tend(self) -> None:
        """Call the functions that never wait (at_once), once in each turn, until cancelled."""
        again = True
        while True:
            await self._pace.next_turn(again=again)
            left = [call() for call in self._at_once]
            again = any(left)

    async def flush_trail(self) -> None:
        """Write to the trail whenever something is due: waiting events, killed processes of apps, and lost
        workers. Run until cancelled."""
        again = True
        while True:
            await self._pace.next_turn(again=again)
            self._settle()
            for _ in self._trail.flush_steps():
                await trio.lowlevel.checkpoint()
            if self._kills.is_due:
                await trio.to_thread.run_sync(self._kills.flush)
            counts, error = self._lost()
            if self._trail.is_due or self._losses.is_due(counts):
                await trio.to_thread.run_sync(self._losses.flush, counts, error)
            again = self._trail.is_busy or self._losses.is_due(self._lost()[0])

    async def _tend_kept(self, kept: KeptFiles) -> None:
        """Write records for undo to the disk, and remove what is kept no longer, until cancelled."""
        due = 0.0
        while True:
            if trio.current_time() >= due or kept.room.is_crowded:
                due = trio.current_time() + _TEND_S
                await trio.to_thread.run_sync(kept.tend, abandon_on_cancel=True)  # the store may hang
            if not kept.bins.is_synced:
                await trio.to_thread.run_sync(kept.bins.sync, abandon_on_cancel=True)
            await self._pace.next_turn(again=not kept.bins.is_synced)

    async def keep_findings(self) -> None:
        """Write kinds and plans of files into their database when there are new ones, until cancelled."""
        findings, again = self._findings, True
        while findings is not None:
            await self._pace.next_turn(again=again)
            if findings.is_waiting:
                await trio.to_thread.run_sync(findings.flush)
            again = findings.is_waiting

    async def take_links(self) -> None:
        """Take events about link counts, until cancelled."""
        links, again = self._links, True
        while links is not None:
            await self._pace.next_turn(again=again)
            again = await links()


PAUSE_S: Final = 1.0
"""The pause before a failed task is started again. With this pause, a task that always fails takes little
time."""


async def kept(bugs: BugLog, name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run *work* until it returns or is cancelled; after an exception again. INVARIANT: only the end of the
    FUSE session ends the daemon: an exception in one task would cancel all others, and the mount."""
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

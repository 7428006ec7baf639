"""The workers of one daemon, by their lanes; the spare workers; and the zygote, which forks all workers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable
from typing import Final

import trio

from policyfs.content.connection import WorkerGoneError, WorkerLink
from policyfs.content.sandbox import Limits
from policyfs.content.spawner import Launcher, ZygoteError, ZygoteProcess

SERVED_MAX: Final = 10_000
"""Requests after which a worker is replaced, so that a worker that was taken over does not live on."""
SPARES: Final = 1
"""The number of spare workers. A spare is confined and ready for an app without a worker.

So no open waits for a fork.
"""
_KEPT_MIN: Final = 4
"""The number of workers that the pool keeps for their apps, even on a small machine.

If an app has no worker any more, its next request uses up a spare.
"""
_UNDEAD_MAX: Final = 8
"""The limit of killed workers that have not ended, because they hang in a disk read.

While there are more, the pool forks no worker.
"""
_PAUSE_FIRST_S: Final = 0.25
_PAUSE_MAX_S: Final = 30.0
_PROVEN_S: Final = 60.0
"""If a zygote has lived for so many seconds, its successor starts without a pause."""
_LOOK_S: Final = 5.0
"""Seconds between checks that the spares still live."""


class NoWorkerError(Exception):
    """No worker is available. why: ``died`` or ``busy``; the message is for people."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class Pool:
    """The workers, by their lanes. Only for use from one trio run at a time.

    A lane is the callers that may share a worker: an app, or one uid. INVARIANT: a worker serves one lane in
    all its life. So a worker that reads one app's files never has data of another app's files in its memory.
    """

    def __init__(self, limits: Limits, size: int) -> None:
        """Start nothing yet. size: the number of workers that may have a request at the same time."""
        self._limits = limits
        self._kept = max(size, _KEPT_MIN)
        self._launcher: Launcher | None = None
        self._zygote: ZygoteProcess | None = None
        self._spawning = trio.Lock()
        self._pause_s = self._not_before_s = 0.0
        self._wanted = trio.Event()
        self.fresh: deque[WorkerLink] = deque()
        self.idle: list[WorkerLink] = []
        """Workers that wait for the next request of their lane; the one that served last is at the end."""
        self.busy: set[WorkerLink] = set()
        self.apart: set[WorkerLink] = set()
        """Workers for one second look each; they end afterwards."""
        self.killed: list[WorkerLink] = []
        self.started = self.zygotes_started = 0
        self.confinement = ""
        self.closed = False

    @property
    def zygote_pid(self) -> int:
        """The pid of the zygote, 0 if there is none."""
        return self._zygote.pid if self._zygote is not None else 0

    @property
    def workers(self) -> list[WorkerLink]:
        """All living workers."""
        return [*self.fresh, *self.idle, *self.busy, *self.apart]

    def zygote_died(self) -> bool:
        """Return True if the zygote has ended. Its workers ended with it."""
        return self._zygote is not None and self._zygote.died()

    async def fill(self, count: int) -> None:
        """Fork workers until there are ``count`` spares. Raises NoWorkerError."""
        while len(self.fresh) < count:
            worker = await self._spawn()
            self.busy.remove(worker)
            self.fresh.append(worker)

    async def tend(self) -> None:
        """Keep a spare ready, until cancelled."""
        pause_s = _PAUSE_FIRST_S
        while not self.closed:
            self._wanted = trio.Event()
            for worker in [worker for worker in self.fresh if not worker.fit()]:
                self.kill(worker)
            try:
                await self.fill(SPARES)
                pause_s = _PAUSE_FIRST_S
            except NoWorkerError:
                await trio.sleep(pause_s)
                pause_s = min(_PAUSE_MAX_S, 2 * pause_s)
                continue
            with trio.move_on_after(_LOOK_S):
                await self._wanted.wait()

    async def take(self, lane: Hashable) -> WorkerLink:
        """Return a worker for a lane: its own, a spare, or a new one. Raises NoWorkerError."""
        self.forget_gone()
        for worker in [worker for worker in reversed(self.idle) if worker.lane == lane]:
            self.idle.remove(worker)
            self.busy.add(worker)
            if worker.fit():
                return worker
            self.kill(worker)
        return self._spare(lane) or await self._spawn(lane)

    async def another(self, lane: Hashable) -> WorkerLink:
        """Return a new worker; if none may be forked, an existing one. Raises NoWorkerError."""
        self.forget_gone()
        return await (self.take(lane) if len(self.killed) > _UNDEAD_MAX else self._spawn(lane))

    async def unbiased(self) -> WorkerLink:
        """Return a new worker that has seen no file and runs at idle priority. Raises NoWorkerError."""
        worker = await self._spawn(idle=True)
        self.busy.remove(worker)
        self.apart.add(worker)
        return worker

    def give_back(self, worker: WorkerLink) -> None:
        """Take back a worker that has answered; it may get another request."""
        self.busy.remove(worker)
        self.idle.append(worker)
        if len(self.idle) + len(self.busy) > self._kept and self.idle[0] is not worker:
            self.kill(self.idle[0])

    def kill(self, worker: WorkerLink) -> None:
        """Kill a worker and remove it from the lists."""
        worker.kill()
        self.busy.discard(worker)
        self.apart.discard(worker)
        for waiting in (self.idle, self.fresh):
            if worker in waiting:
                waiting.remove(worker)
        if worker not in self.killed:
            self.killed.append(worker)

    def kill_lane(self, lane: Hashable) -> None:
        """Kill the workers of a lane. Requests to these workers get no answer."""
        for worker in self.workers:
            if worker.served and worker.lane == lane:
                self.kill(worker)

    def forget_gone(self) -> None:
        """Forget killed workers that have ended."""
        if self.killed:
            self.killed = [worker for worker in self.killed if not worker.gone()]

    async def close(self, grace_s: float) -> None:
        """End the workers, the zygote and the launcher. Further calls do nothing.

        grace_s: the longest wait for the workers, then for the zygote, then for the launcher, in seconds.
        """
        self.closed = True
        self._wanted.set()
        for worker in self.workers:
            self.kill(worker)
        with trio.move_on_after(grace_s):
            for worker in self.killed:
                await worker.ended()
        if self._zygote is not None:
            await self._zygote.close(grace_s)
            self._zygote = None
        if self._launcher is not None:
            await self._launcher.close(grace_s)
            self._launcher = None

    def _spare(self, lane: Hashable) -> WorkerLink | None:
        while self.fresh:
            worker = self.fresh.popleft()
            self._wanted.set()
            self.busy.add(worker)
            if worker.fit():
                worker.lane = lane
                return worker
            self.kill(worker)
        return None

    async def _spawn(self, lane: Hashable = None, *, idle: bool = False) -> WorkerLink:
        self.forget_gone()
        if len(self.killed) > _UNDEAD_MAX:
            raise NoWorkerError("busy", f"{len(self.killed)} killed workers do not end (hung storage?)")
        try:
            async with self._spawning:
                worker = await (await self._living_zygote()).worker(idle=idle)
            self.started += 1
            self.busy.add(worker)
            worker.lane = lane
            try:
                self.confinement = await worker.hello()
            except BaseException:
                self.kill(worker)
                raise
        except (ZygoteError, WorkerGoneError, OSError) as error:
            raise NoWorkerError("died", str(error)) from error
        return worker

    async def _living_zygote(self) -> ZygoteProcess:
        if self._zygote is not None and not self._zygote.fit():
            now_s = time.monotonic()
            if now_s - self._zygote.started_s > _PROVEN_S:
                self._pause_s = 0.0
            self._not_before_s = now_s + self._pause_s
            self._pause_s = min(_PAUSE_MAX_S, max(_PAUSE_FIRST_S, self._pause_s * 2))
            self._zygote.kill()
            self._zygote = None
        if self._zygote is None:
            await trio.sleep(max(0.0, self._not_before_s - time.monotonic()))
            if self.closed:
                raise ZygoteError("the sniffer is closed")
            if self._launcher is None:
                # INVARIANT: the launcher starts before the daemon serves: a serving daemon executes nothing.
                self._launcher = Launcher(self._limits)
            self._zygote = await self._launcher.zygote()
            self.zygotes_started += 1
        return self._zygote

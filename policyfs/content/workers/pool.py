"""The worker processes of one daemon: workers that serve a lane, spare workers, and the zygote that forks all
workers.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Hashable
from typing import Final

import trio

from policyfs.content.workers.connection import WorkerGoneError, WorkerLink
from policyfs.content.workers.execution import LauncherProcess
from policyfs.content.workers.sandbox import Limits
from policyfs.content.workers.spawner import Launcher, ZygoteError, ZygoteProcess
from policyfs.domain import in_turn

SERVED_MAX: Final = 500
"""Requests after which a worker is replaced, so that an attacker in a worker cannot stay there for long. (A
new worker costs 7 ms of processor time: 3 % of 500 plans of photos.)
"""
SPARES: Final = 1
"""The number of spare workers. A spare has given up its rights, has served nobody, and is ready for any app.

So no open waits for a fork.
"""
_KEPT_MIN: Final = 4
"""The number of workers that may stay alive for further requests of their lanes, even on a small machine.

If the worker of a lane was ended, the next request of the lane takes a spare worker (SPARES).
"""
_UNDEAD_MAX: Final = 8
"""The limit of killed workers that have not ended, because they hang in a disk read.

While there are more, the pool forks no worker.
"""
_UNDEAD_OF_APP: Final = 2
"""If this number of killed workers of one app have not ended, the app gets no further worker.

On xfs a read waits until a write to the file ends, even after SIGKILL, and an app can make a write take long.
An app uses at most 7 workers at once. So one app alone does not exceed _UNDEAD_MAX.
"""
_DYING_S: Final = 1.0
"""The time after which a killed worker should have ended, in seconds."""
_PAUSE_FIRST_S: Final = 0.25
_PAUSE_MAX_S: Final = 30.0
_PROVEN_S: Final = 60.0
"""If a zygote has lived for this number of seconds, its successor starts without a pause."""
_LOOK_S: Final = 5.0
"""Seconds between checks that the spare workers (SPARES) are alive."""


class NoWorkerError(Exception):
    """The error if no worker is available. why: ``died`` (no worker could be started) or ``busy`` (too many
    killed workers have not ended).

    The message is for people. outside: True if another process ended the zygote, or ended or stopped the new
    worker.
    """

    def __init__(self, why: str, text: str, *, outside: bool = False) -> None:
        super().__init__(text)
        self.why = why
        self.outside = outside


class Pool:
    """A pool of workers that belong to lanes. Only for use from one trio run at a time.

    A lane is a group of callers that may share a worker: an app, or one uid. INVARIANT: a worker serves one
    lane in all its life. So a worker that reads one app's files never has data of another app's files in its
    memory.
    """

    def __init__(self, limits: Limits, size: int, launcher: LauncherProcess | None = None) -> None:
        """Start nothing yet. size: the number of workers that may have a request at the same time. launcher:
        the executed launcher; None: it is executed when it is needed.
        """
        self._limits = limits
        self._kept = max(size, _KEPT_MIN)
        self._launcher = None if launcher is None else Launcher(launcher)
        self._zygote: ZygoteProcess | None = None
        self._spawning = trio.Lock()
        self._pause_s = self._not_before_s = 0.0
        self._wanted = trio.Event()
        self.fresh: deque[WorkerLink] = deque()
        self.idle: list[WorkerLink] = []
        """Workers that wait for the next request of their lane. The worker that served last is at the end."""
        self.busy: set[WorkerLink] = set()
        self.killed: list[WorkerLink] = []
        self.started = self.zygotes_started = 0
        self.confinement = ""
        self.closed = False

    @property
    def zygote_pid(self) -> int:
        """The pid of the zygote, the process that forks the workers; 0 if there is none."""
        return self._zygote.pid if self._zygote is not None else 0

    @property
    def workers(self) -> list[WorkerLink]:
        """All workers that were not killed."""
        return [*self.fresh, *self.idle, *self.busy]

    def guard(self, abort_fd: int, *, keeper: int = 0) -> None:
        """Let the launcher end a FUSE connection if the daemon is killed (Launcher.guard).

        Raises ZygoteError.
        """
        if self._launcher is None:
            raise ZygoteError("there is no launcher")
        self._launcher.guard(abort_fd, keeper=keeper)

    async def announcer(self) -> tuple[int, int, socket.socket]:
        """Start an announcer (Launcher.announcer). Raises ZygoteError."""
        if self._launcher is None:
            raise ZygoteError("there is no launcher")
        return await self._launcher.announcer()

    async def parser(self) -> tuple[int, int, socket.socket]:
        """Start a process that parses a policy (Launcher.parser). Raises ZygoteError."""
        if self._launcher is None:
            raise ZygoteError("there is no launcher")
        return await self._launcher.parser()

    async def fill(self, count: int) -> None:
        """Fork workers until there are ``count`` spare workers, which have served nobody. Raises
        NoWorkerError.
        """
        while len(self.fresh) < count:
            worker = await self._spawn()
            self.busy.remove(worker)
            self.fresh.append(worker)

    async def tend(self) -> None:
        """Make sure that one unused worker is always ready, until this task is cancelled."""
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
        """Return a worker for a lane: the lane's own idle worker, else an unused worker, else a new one.

        Raises NoWorkerError.
        """
        self.forget_gone()
        self._check_undead(lane)
        for worker in [worker for worker in reversed(self.idle) if worker.lane == lane]:
            self.idle.remove(worker)
            self.busy.add(worker)
            if worker.fit():
                return worker
            self.kill(worker)
        return self._spare(lane) or await self._spawn(lane)

    async def another(self, lane: Hashable) -> WorkerLink:
        """Return a newly forked worker for a lane.

        If too many killed workers have not ended, return the result of take() instead. Raises NoWorkerError.
        """
        self.forget_gone()
        self._check_undead(lane)
        return await (self.take(lane) if len(self.killed) > _UNDEAD_MAX else self._spawn(lane))

    def give_back(self, worker: WorkerLink) -> None:
        """Take back a worker that has answered, so that it can get another request.

        If the pool then has too many workers, kill the worker that has been idle for the longest time.
        """
        self.busy.remove(worker)
        self.idle.append(worker)
        if len(self.idle) + len(self.busy) > self._kept and self.idle[0] is not worker:
            self.kill(self.idle[0])

    def kill(self, worker: WorkerLink) -> None:
        """Kill a worker. From then on it gets no request."""
        worker.kill()
        self.busy.discard(worker)
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
        """Remove killed workers that have ended from the list of killed workers."""
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

    @property
    def is_over(self) -> bool:
        """True if close() has ended all processes."""
        return self.closed and self._zygote is None and self._launcher is None

    def _check_undead(self, lane: Hashable) -> None:
        """Raise NoWorkerError if too many killed workers of this app do not end."""
        since_s, app = time.monotonic() - _DYING_S, in_turn(lane)
        of_app = [worker for worker in self.killed if worker.served and in_turn(worker.lane) == app]
        if sum(worker.killed_s < since_s for worker in of_app) >= _UNDEAD_OF_APP:
            raise NoWorkerError("busy", "killed workers of this app do not end (their disk may hang)")

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

    async def _spawn(self, lane: Hashable = None) -> WorkerLink:
        self.forget_gone()
        if len(self.killed) > _UNDEAD_MAX:
            raise NoWorkerError("busy", f"{len(self.killed)} killed workers do not end (their disk may hang)")
        try:
            async with self._spawning:
                worker = await (await self._living_zygote()).worker()
            self.started += 1
            self.busy.add(worker)
            worker.lane = lane
            try:
                self.confinement = await worker.hello()
            except BaseException:
                self.kill(worker)
                raise
        except (ZygoteError, WorkerGoneError) as error:
            raise NoWorkerError("died", str(error), outside=error.outside) from error
        except OSError as error:
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
                # INVARIANT: the launcher starts before the daemon serves. Later the daemon can execute no
                # program.
                self._launcher = Launcher(LauncherProcess(self._limits))
            self._zygote = await self._launcher.zygote()
            self.zygotes_started += 1
        return self._zygote

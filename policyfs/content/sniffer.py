"""The daemon's door to the sniffing workers."""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final

import trio

from policyfs.content.confine import Limits
from policyfs.content.kinds import SNIFF_BYTES, is_kind
from policyfs.content.line import Line
from policyfs.content.link import WorkerGoneError, WorkerLink
from policyfs.content.plans import refusal, unpack_plan
from policyfs.content.spawner import Launcher, ZygoteError, ZygoteProcess
from policyfs.content.wire import Command, Reply, Status, WireError
from policyfs.errors import PolicyfsError
from policyfs.redact.plan import Plan

_START_S: Final = 60.0
_CLOSE_S: Final = 5.0
_SERVED_MAX: Final = 10_000
"""Requests after which a worker is replaced: how long one that was taken over stays, at most."""
_UNDEAD_MAX: Final = 8
"""Killed workers that have not ended (hung in a disk read) beyond which no more are forked."""
_LARGE_PLAN: Final = 64 * 1024
"""Bytes of a plan beyond which it is unpacked in a thread: the worst one takes 15 ms."""
_PAUSE_FIRST_S: Final = 0.25
_PAUSE_MAX_S: Final = 30.0
_PROVEN_S: Final = 60.0
"""A zygote that lived this long does not count as one that keeps dying."""


class SnifferError(PolicyfsError):
    """The sniffing workers cannot be started."""


@dataclass(frozen=True, slots=True)
class SnifferStats:
    """Counts since the start; pids, queued and in_flight are now.

    repeated: requests asked of a second worker because the first one died.
    failed: reason (``died``, ``deadline``, ``busy``, ``refused``) -> requests that ended so.
    confinement: what a worker gave up, e.g. ``chroot, uid 65534, no_new_privs, limits,
    landlock 7, seccomp``. last_error: the last failure in words, "" if there was none.
    """

    zygote_pid: int
    worker_pids: tuple[int, ...]
    requests: int
    repeated: int
    failed: dict[str, int]
    queued: int
    in_flight: int
    workers_started: int
    zygotes_started: int
    confinement: str
    last_error: str


class _FailedError(Exception):
    """A request has no answer. why: a key of SnifferStats.failed; the message is for people."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class Sniffer:
    """Asks a pool of unprivileged workers for content kinds and redaction plans.

    Every request ends within three deadlines (two waiting for a worker, one asking it) and never
    raises because of a file: what cannot be told is None, or a plan that refuses. A worker
    that dies, hangs or eats memory is replaced. Over a file at which two died, or one hung, nothing
    more is tried: that request has no answer, and no other is hurt.

    The optional ``lane`` of a request names whom it is for (an app): lanes take turns, so nobody
    waits for more than one of another's files. Only for use from one trio run at a time.
    """

    def __init__(self, limits: Limits, *, workers: int, deadline_s: float, queue: int) -> None:
        """Starts nothing; use start()."""
        self._limits = limits
        self._workers = workers
        self._deadline_s = deadline_s
        self._line = Line(workers, queue)
        self._launcher: Launcher | None = None
        self._zygote: ZygoteProcess | None = None
        self._spawning = trio.Lock()
        self._pause_s = self._not_before_s = 0.0
        self._idle: list[WorkerLink] = []
        self._busy: set[WorkerLink] = set()
        self._killed: list[WorkerLink] = []
        self._failed: Counter[str] = Counter()
        self._requests = self._repeated = self._workers_started = self._zygotes_started = 0
        self._confinement = self._last_error = ""
        self._closed = False

    @classmethod
    def start(
        cls,
        *,
        workers: int | None = None,
        uid: int = 65534,
        gid: int = 65534,
        deadline_s: float = 5.0,
        queue: int = 1024,
        address_space: int = 512 * 1024 * 1024,
    ) -> Sniffer:
        """Start the zygote and all workers, before trio runs; takes about 0.3 s. Needs root.

        workers: as many as there are processors by default, but 2 to 8; one app never has the last one.
        uid, gid: what the workers run as; best one that nothing else uses, since whoever shares
        it can kill them. queue: requests that may wait. address_space: bytes per worker.
        Raises SnifferError with what to do if libmagic is missing or rights cannot be dropped.
        """
        if workers is None:
            workers = min(8, max(2, len(os.sched_getaffinity(0))))
        limits = Limits(uid=uid, gid=gid, address_space=address_space, cpu_s=600, descriptors=8)
        sniffer = cls(limits, workers=workers, deadline_s=deadline_s, queue=queue)
        trio.run(sniffer._start)
        return sniffer

    async def kind_of_fd(self, fd: int, *, lane: Hashable = None) -> str | None:
        """The content kind of the regular file behind an O_RDONLY descriptor; None if unknown.

        The descriptor's offset stays. Raises ValueError for a descriptor that is not read-only.
        """
        size = _checked_size(fd)
        reply = await self._ask(Command.KIND_FD, fd, size, b"", lane)
        return None if isinstance(reply, _FailedError) else self._kind(reply.payload)

    async def kind_of_head(self, head: bytes, *, lane: Hashable = None) -> str | None:
        """The content kind of a file that begins with these bytes; None if unknown.

        Raises ValueError for more than SNIFF_BYTES.
        """
        if len(head) > SNIFF_BYTES:
            raise ValueError(f"a head of {len(head)} bytes; only {SNIFF_BYTES} decide")
        reply = await self._ask(Command.KIND_HEAD, None, 0, head, lane)
        return None if isinstance(reply, _FailedError) else self._kind(reply.payload)

    async def locate(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None
    ) -> tuple[str | None, Plan]:
        """The kind of the file behind an O_RDONLY descriptor, and where in it *what* is to be hidden.

        Without an answer: (None, a plan that refuses, with the reason). The plan holds for the
        bytes that the file had; the caller keeps them from changing. Raises ValueError for a
        descriptor that is not read-only.
        """
        size = _checked_size(fd)
        reply = await self._ask(Command.LOCATE, fd, size, "\n".join(sorted(what)).encode("ascii"), lane)
        if isinstance(reply, _FailedError):
            return None, refusal(f"no plan could be made: {reply}")
        try:
            if len(reply.payload) > _LARGE_PLAN:
                return await trio.to_thread.run_sync(unpack_plan, reply.payload, size)
            return unpack_plan(reply.payload, size)
        except WireError as error:
            self._note("died", f"a worker's plan was malformed: {error}")
            return None, refusal("no plan could be made: a worker's answer was malformed")

    def stats(self) -> SnifferStats:
        """A snapshot for ``status``, ``doctor`` and tests."""
        workers = [*self._idle, *self._busy]
        return SnifferStats(
            zygote_pid=self._zygote.pid if self._zygote is not None else 0,
            worker_pids=tuple(worker.pid for worker in workers),
            requests=self._requests,
            repeated=self._repeated,
            failed=dict(self._failed),
            queued=self._line.waiting,
            in_flight=len(self._busy),
            workers_started=self._workers_started,
            zygotes_started=self._zygotes_started,
            confinement=self._confinement,
            last_error=self._last_error,
        )

    async def aclose(self) -> None:
        """End every process. Requests under way fail; later ones too. May be called twice."""
        self._closed = True
        self._line.close()
        with trio.CancelScope(shield=True):
            for worker in [*self._idle, *self._busy]:
                self._kill(worker)
            with trio.move_on_after(_CLOSE_S):
                for worker in self._killed:
                    await worker.ended()
            if self._zygote is not None:
                await self._zygote.close(_CLOSE_S)
                self._zygote = None
            if self._launcher is not None:
                await self._launcher.close(_CLOSE_S)
                self._launcher = None

    def close(self) -> None:
        """aclose() for where no trio runs."""
        trio.run(self.aclose)

    # ------------------------------------------------------------- one request

    async def _ask(
        self, command: Command, fd: int | None, size: int, payload: bytes, lane: Hashable
    ) -> Reply | _FailedError:
        self._requests += 1
        try:
            return await self._in_turn(command, fd, size, payload, lane)
        except _FailedError as failure:
            self._note(failure.why, str(failure))
            return failure

    async def _in_turn(
        self, command: Command, fd: int | None, size: int, payload: bytes, lane: Hashable
    ) -> Reply:
        admitted = False
        # Longer than the deadline, or all who wait behind one hanging file would fail with it.
        with trio.move_on_after(2 * self._deadline_s):
            admitted = await self._line.enter(lane)
        if not admitted:
            raise _FailedError("busy", "no worker was free")
        try:
            with trio.move_on_after(self._deadline_s):
                return await self._with_workers(command, fd, size, payload)
            raise _FailedError("deadline", f"no answer within {self._deadline_s:g} s")
        finally:
            self._line.leave(lane)

    async def _with_workers(self, command: Command, fd: int | None, size: int, payload: bytes) -> Reply:
        """Once more if a worker dies over it: whoever killed it (the kernel for memory, say) may not
        have meant this file. One that kills its workers kills two, and is unknown. The second is a new
        one: those that wait for work may have been killed along with the first.

        Where the zygote is gone too it took them along, whatever they were on, and some of them die
        a moment after others: such a death says nothing of the file, and the deadline ends this.
        """
        deaths = 0
        take = self._take
        while True:
            try:
                return await self._with_worker(take, command, fd, size, payload)
            except _FailedError as failure:
                if failure.why != "died" or self._closed:
                    raise
                if not self._zygote_died():
                    deaths += 1
                if deaths == 2:
                    raise
            self._repeated += 1
            take = self._another

    def _zygote_died(self) -> bool:
        return self._zygote is not None and self._zygote.died()

    async def _with_worker(
        self,
        take: Callable[[], Awaitable[WorkerLink]],
        command: Command,
        fd: int | None,
        size: int,
        payload: bytes,
    ) -> Reply:
        worker = await take()
        healthy = False
        try:
            reply = await worker.ask(command, fd, size, payload)
            healthy = not reply.retire and worker.served < _SERVED_MAX
        except WorkerGoneError as error:
            raise _FailedError("died", str(error)) from error
        finally:
            if healthy and not self._closed:
                self._busy.remove(worker)
                self._idle.append(worker)
            else:
                self._kill(worker)
        if reply.status is not Status.OK:
            raise _FailedError("refused", reply.reason)
        return reply

    def _kind(self, payload: bytes) -> str | None:
        kind = payload.decode("ascii", "replace")
        if is_kind(kind):
            return kind
        self._note("died", "a worker's kind was no MIME type")
        return None

    def _note(self, why: str, text: str) -> None:
        self._failed[why] += 1
        self._last_error = text

    # ------------------------------------------------------------- the pool

    async def _start(self) -> None:
        text = ""
        with trio.move_on_after(_START_S) as scope:
            try:
                self._idle = [await self._spawn() for _ in range(self._workers)]
            except _FailedError as error:
                text = str(error)
        if scope.cancelled_caught or text:
            await self.aclose()
            raise SnifferError(
                f"cannot start the sniffing workers: {text or f'not done after {_START_S:g} s'}. They need "
                "root at the start, libmagic (libmagic1 on Debian, file-libs on Fedora) and its database"
            )
        self._busy.clear()

    async def _take(self) -> WorkerLink:
        self._forget_gone()
        while self._idle:
            worker = self._idle.pop()
            self._busy.add(worker)
            if worker.fit():
                return worker
            self._kill(worker)
        return await self._spawn()

    async def _another(self) -> WorkerLink:
        """A new worker; where none may be forked, one that waits."""
        self._forget_gone()
        return await (self._take() if len(self._killed) > _UNDEAD_MAX else self._spawn())

    def _forget_gone(self) -> None:
        if self._killed:
            self._killed = [worker for worker in self._killed if not worker.gone()]

    async def _spawn(self) -> WorkerLink:
        self._forget_gone()
        if len(self._killed) > _UNDEAD_MAX:
            raise _FailedError("busy", f"{len(self._killed)} killed workers do not end (hung storage?)")
        try:
            async with self._spawning:
                worker = await (await self._living_zygote()).worker()
            self._workers_started += 1
            self._busy.add(worker)
            try:
                self._confinement = await worker.hello()
            except BaseException:
                self._kill(worker)
                raise
        except (ZygoteError, WorkerGoneError, OSError) as error:
            raise _FailedError("died", str(error)) from error
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
            if self._closed:
                raise ZygoteError("the sniffer is closed")
            if self._launcher is None:
                # INVARIANT: at the start, never again: a daemon that serves can execute nothing.
                self._launcher = Launcher(self._limits)
            self._zygote = await self._launcher.zygote()
            self._zygotes_started += 1
        return self._zygote

    def _kill(self, worker: WorkerLink) -> None:
        worker.kill()
        self._busy.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker not in self._killed:
            self._killed.append(worker)


def _checked_size(fd: int) -> int:
    """The size (bytes) of the file behind a descriptor that may be handed to a worker."""
    if fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH) != os.O_RDONLY:
        raise ValueError(f"descriptor {fd} is not read-only; a worker gets no other")
    return os.fstat(fd).st_size

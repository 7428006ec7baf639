"""The daemon's entry point to the sniffing workers, which find content kinds and redaction plans."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final

import trio

from policyfs.content.failures import FailedError, Failures, NoAnswerError, SnifferStats
from policyfs.content.kinds import SNIFF_BYTES, is_kind
from policyfs.content.missed import Missed
from policyfs.content.plan_threads import unpacked_on_thread
from policyfs.content.plans import LARGE_PLAN, refusal, unpack_plan
from policyfs.content.whole_plans import whole_plan
from policyfs.content.workers.connection import WorkerGoneError, WorkerLink
from policyfs.content.workers.execution import LauncherProcess, SnifferError, worker_limits
from policyfs.content.workers.frame_requests import FrameRequest
from policyfs.content.workers.policy_parser import ask
from policyfs.content.workers.pool import SERVED_MAX, SPARES, NoWorkerError, Pool
from policyfs.content.workers.protocol import Command, Reply, Status, WireError
from policyfs.content.workers.queue import Line
from policyfs.content.workers.sandbox import Limits
from policyfs.content.workers.spawner import ZygoteError
from policyfs.content.workers.time_limit import LONGEST, TimeLimit
from policyfs.domain import DENY_UNKNOWN, TO_TELL, in_turn
from policyfs.formats import kind_by_start
from policyfs.linux.code_digest import code_digest
from policyfs.policy.model import Policy
from policyfs.policy.text.sources import SourceText
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.values import Plan

_START_S: Final = 60.0
_CLOSE_S: Final = 5.0
_PAUSES_S: Final = (0.02, 0.04, 0.08, 0.16, 0.32)  # after the first, second, ... loss to another process


class Sniffer:
    """A client that asks a pool of unprivileged workers for content kinds and redaction plans.

    Every request ends: it waits in the queue for at most 2 * LONGEST times the deadline, and its answer must
    come within a time limit (time_limit.py). A bad file never makes a request raise an error: an unknown kind
    is None, and an unknown plan is a plan that refuses the file. A worker that dies, hangs or needs too much
    memory is replaced. If two workers die while they read a file, or one hangs, the request for this file has
    no answer. No other request suffers.

    The optional ``lane`` of a request is the app or uid for which the file is read. A worker serves one lane
    only (pool.py). The queue serves one app after the other, no matter how many lanes an app has. So an app
    waits for at most one file of each other app. Only for use from one trio run at a time.
    """

    def __init__(
        self, limits: Limits, *, workers: int, at_first: int, deadline_s: float, queue: int,
        launcher: LauncherProcess | None = None,
    ) -> None:  # fmt: skip
        """Set the limits, but start no process; start() makes a running sniffer."""
        self._at_first = at_first
        self._deadline_s = deadline_s
        self._line = Line(workers, queue)
        self._pool = Pool(limits, workers, launcher)
        self._missed = Missed()
        self._failures = Failures()
        self._requests = self._repeated = 0
        self.announcer_uid = limits.uid + limits.uids
        """The uid, and gid, of an announcer in a mount that admits any uid."""

    @classmethod
    def start(
        cls, launcher: LauncherProcess | None = None, *, workers: int | None = None,
        deadline_s: float = 5.0, queue: int = 1024, waits: bool = True, **limits: Any,
    ) -> Sniffer:  # fmt: skip
        """Start the zygote and first workers, before trio runs; takes about 0.3 s.

        launcher: the executed launcher; None: execute one with *limits* (worker_limits). workers: the number
        of workers, which all start at once. By default, workers start on demand: one for each processor, at
        least 2 and at most 8. No app gets all workers. queue: how many requests may wait. Raises SnifferError
        with advice if libmagic is missing or rights cannot be dropped.
        """
        at_first = SPARES if workers is None else workers
        if workers is None:
            workers = min(8, max(2, len(os.sched_getaffinity(0))))
        sniffer = cls(
            worker_limits(**limits) if launcher is None else launcher.limits,
            workers=workers, at_first=at_first, deadline_s=deadline_s, queue=queue, launcher=launcher,
        )  # fmt: skip
        if waits:
            trio.run(sniffer._start)
        return sniffer

    def guard(self, abort_fd: int, *, keeper: int = 0) -> None:
        """Let the launcher (launcher.py) end a FUSE connection if the daemon is killed.

        abort_fd: the connection's control file `abort`, open for writing; the caller closes it. Call this
        once, from the thread that called start(). keeper: as for Launcher.guard. Raises SnifferError
        if the launcher is gone.
        """
        try:
            self._pool.guard(abort_fd, keeper=keeper)
        except ZygoteError as error:
            raise SnifferError(f"if the daemon were killed, its mount would stay: {error}") from error

    async def parse(self, sources: Sequence[SourceText]) -> Policy:
        """Parse a policy, and prove its invariants, in a process that the launcher starts. Raises
        PolicyfsError."""
        try:
            _, pidfd, asked = await self._pool.parser()
        except ZygoteError as error:
            raise SnifferError(str(error)) from error
        os.close(pidfd)
        with asked:
            exchange = partial(ask, asked, sources, code_digest())
            # If the mount ends, the thread is left alone: it only reads.
            return await trio.to_thread.run_sync(exchange, abandon_on_cancel=True)

    async def announcer(self) -> tuple[int, int, socket.socket]:
        """Start an announcer (announcer.py). Return its pid, a pidfd and its control socket. Raises
        SnifferError."""
        try:
            return await self._pool.announcer()
        except ZygoteError as error:
            raise SnifferError(str(error)) from error

    async def kind_of_fd(
        self, fd: int, *, lane: Hashable = None, first: bool = False, must: bool = False
    ) -> str | None:
        """Return the content kind of the regular file behind an O_RDONLY descriptor; None if unknown.

        The descriptor keeps its offset. first: True to go before the other requests of the lane. must: True
        to raise NoAnswerError, instead of returning None, if no worker has answered in time. Raises
        ValueError for a descriptor that is not read-only.
        """
        size = _checked_size(fd)
        reply = await self._ask(Command.KIND_FD, fd, size, b"", lane, first=first)
        if isinstance(reply, FailedError):
            if must and reply.is_temporary:
                raise NoAnswerError(str(reply))
            return None
        return self._kind(reply.payload, lane)

    async def kind_of_head(self, head: bytes, *, lane: Hashable = None) -> str | None:
        """Return the content kind of a file that begins with these bytes; None if unknown. No worker is asked
        if the first bytes alone decide the kind. Raises ValueError for more than SNIFF_BYTES."""
        if len(head) > SNIFF_BYTES:
            raise ValueError(f"a head of {len(head)} bytes; at most {SNIFF_BYTES} are allowed")
        if (known := kind_by_start(head)) is not None:
            return known
        reply = await self._ask(Command.KIND_HEAD, None, 0, head, lane)
        return None if isinstance(reply, FailedError) else self._kind(reply.payload, lane)

    async def locate(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None
    ) -> tuple[str | None, Plan]:
        """Return the kind of the file behind an O_RDONLY descriptor, and a plan that hides the words *what*.

        Without an answer, return None and a plan that refuses the file, with the reason. The plan is valid
        only for the bytes that the worker read; the caller must make sure that they do not change. version:
        the file's version. If the workers fail at this version, further requests for this version are refused
        at once, for a while (missed.py). Raises ValueError for a descriptor that is not read-only.
        """
        kind, index = await self.index(fd, what, lane=lane, version=version)
        if kind is None:
            return kind, index
        return kind, await whole_plan(index, lambda frames: self.look(fd, kind, what, frames, lane=lane))

    async def index(
        self, fd: int, what: frozenset[str], *, lane: Hashable = None, version: Hashable = None,
        first: bool = False,
    ) -> tuple[str | None, Plan]:  # fmt: skip
        """Do the same as locate(), but look at no frame of a film: Plan.frames has the frames that are left.
        Of any other file the plan is whole, and Plan.frames is None. first: True to go before the other
        requests of the lane."""
        return await self._plan(_command(what), fd, what, lane, version, first=first)

    async def look(
        self, fd: int, kind: str, what: frozenset[str], frames: FrameTable, *, lane: Hashable = None,
        first: bool = False,
    ) -> Plan:  # fmt: skip
        """Return the plan that hides *what* in frames of a film of this kind. first: as for index().

        frames: where they are in the bytes behind *fd* (O_RDONLY). Without an answer, return a plan that
        refuses. Raises ValueError for a descriptor that is not read-only.
        """
        size = _checked_size(fd)
        try:
            payload = FrameRequest(kind, what, frames).pack()
        except ValueError as error:
            return refusal(f"no plan could be made: {error}")
        reply = await self._ask(Command.LOOK, fd, size, payload, lane, first=first)
        if isinstance(reply, FailedError):
            return refusal(f"no plan could be made: {reply}")
        try:
            _, plan = await self._unpacked(reply.payload, fd, size)
        except WireError as error:
            self._lied(lane, f"plan was malformed: {error}")
            return refusal("no plan could be made: a worker's answer was malformed")
        return plan

    async def _plan(
        self, command: Command, fd: int, what: frozenset[str], lane: Hashable, version: Hashable,
        *, first: bool,
    ) -> tuple[str | None, Plan]:  # fmt: skip
        size = _checked_size(fd)
        key = None if version is None else (lane, version, what)
        reply = await self._ask(command, fd, size, _in_lines(what), lane, key, first=first)
        if isinstance(reply, FailedError):
            return None, refusal(f"no plan could be made: {reply}")
        try:
            return await self._unpacked(reply.payload, fd, size)
        except WireError as error:
            self._lied(lane, f"plan was malformed: {error}")
            return None, refusal("no plan could be made: a worker's answer was malformed")

    @staticmethod
    async def _unpacked(payload: bytes, fd: int, size: int) -> tuple[str, Plan]:
        """Return the kind and the plan in a reply's payload, for the file behind a descriptor. Raises
        WireError."""
        if len(payload) <= LARGE_PLAN:
            with contextlib.suppress(OSError):  # the bytes are not in memory: a thread reads them
                return unpack_plan(payload, size, lambda offset, count: _at_once(fd, size, offset, count))
        held = os.dup(fd)
        try:
            return await unpacked_on_thread(
                payload, size, lambda offset, count: os.pread(held, count, offset)
            )
        except OSError as error:
            raise WireError(f"the file cannot be read: {error.strerror}") from error
        finally:
            os.close(held)

    def losses(self) -> tuple[dict[str, int], str]:
        """Return the counts of lost workers by cause, and the last failure in words."""
        counts = {why: self._failures.counts[why] for why in ("deadline", "died", "lied")}
        return counts | {"replaced": self._repeated}, self._failures.last_error

    def stats(self) -> SnifferStats:
        """Return the present counters, for ``status``, ``doctor`` and tests."""
        pool = self._pool
        return SnifferStats(
            zygote_pid=pool.zygote_pid,
            worker_pids=tuple(worker.pid for worker in pool.workers),
            requests=self._requests,
            repeated=self._repeated,
            failed=dict(self._failures.counts),
            queued=self._line.waiting,
            in_flight=len(pool.busy),
            workers_started=pool.started,
            zygotes_started=pool.zygotes_started,
            confinement=pool.confinement,
            last_error=self._failures.last_error,
            last_loss_ns=self._failures.last_loss_ns,
        )

    async def aclose(self) -> None:
        """End every process. Requests that wait for an answer, and later requests, fail. Further calls do
        nothing."""
        self._line.close()
        with trio.CancelScope(shield=True):
            await self._pool.close(_CLOSE_S)

    async def tend(self) -> None:
        """Make sure that one unused worker without rights is always ready for the next app, until this task
        is cancelled."""
        await self._pool.tend()

    def close(self) -> None:
        """End every process, like aclose(), but outside of a trio run."""
        if not self._pool.is_over:
            trio.run(self.aclose)

    # ------------------------------------------------------------- one request

    async def _ask(
        self, command: Command, fd: int | None, size: int, payload: bytes, lane: Hashable,
        key: Hashable = None, *, first: bool = False,
    ) -> Reply | FailedError:  # fmt: skip
        self._requests += 1
        try:
            reply = await self._in_turn(command, fd, size, payload, lane, key, first=first)
        except FailedError as failure:
            self._failures.count(failure.why, str(failure))
            if key is not None and failure.of_the_file:
                self._missed.note(key, str(failure))
            return failure
        else:
            self._missed.forget(key)
            return reply

    def _check_missed(self, key: Hashable) -> None:
        refusal = None if key is None else self._missed.refusal(key)
        if refusal is not None:
            raise FailedError("missed", refusal)

    async def _in_turn(
        self, command: Command, fd: int | None, size: int, payload: bytes, lane: Hashable, key: Hashable,
        *, first: bool,
    ) -> Reply:  # fmt: skip
        self._check_missed(key)
        admitted = False
        # Longer than a request: otherwise all requests that wait behind one hanging file would fail, too.
        with trio.move_on_after(2 * LONGEST * self._deadline_s):
            admitted = await self._line.enter(in_turn(lane), first=first)
        if not admitted:
            raise FailedError("busy", "no worker was free")
        try:
            self._check_missed(key)  # another request for the file may have failed during the wait
            limit = TimeLimit(self._deadline_s)
            with limit.scope:
                return await self._with_workers(command, fd, size, payload, lane, limit)
            raise FailedError("deadline", limit.reason(), started=limit.started)
        finally:
            self._line.leave(in_turn(lane))

    async def _with_workers(
        self, command: Command, fd: int | None, size: int, payload: bytes, lane: Hashable, limit: TimeLimit
    ) -> Reply:
        """Return a worker's reply. If the worker dies by itself, ask a newly forked worker, once: earlier
        requests may have harmed the first worker and idle workers. So a request kills at most two workers.

        If another process ended or stopped the worker or the zygote, the file is not the cause. Then the
        request is repeated until the deadline, after a pause that grows.
        """
        deaths = losses = 0
        take = self._pool.take
        while True:
            try:
                with limit.suspended():
                    worker = await self._taken(take, lane)
                worker.limit = limit
                return await self._with_worker(worker, command, fd, size, payload)
            except FailedError as failure:
                if failure.why != "died" or self._pool.closed:
                    raise
                if failure.outside:
                    await trio.sleep(_PAUSES_S[min(losses, len(_PAUSES_S) - 1)])
                    losses += 1
                elif (deaths := deaths + 1) == 2:
                    raise
            self._repeated += 1
            take = self._pool.another

    @staticmethod
    async def _taken(take: Callable[[Hashable], Awaitable[WorkerLink]], lane: Hashable) -> WorkerLink:
        try:
            return await take(lane)
        except NoWorkerError as error:
            raise FailedError(error.why, str(error), outside=error.outside, started=False) from error

    async def _with_worker(
        self, worker: WorkerLink, command: Command, fd: int | None, size: int, payload: bytes
    ) -> Reply:
        healthy = False
        try:
            reply = await worker.ask(command, fd, size, payload)
            healthy = not reply.retire and worker.served < SERVED_MAX
        except WorkerGoneError as error:
            raise FailedError("died", str(error), outside=error.outside) from error
        finally:
            if healthy and not self._pool.closed:
                self._pool.give_back(worker)
            else:
                self._pool.kill(worker)
        if reply.status is not Status.OK:
            raise FailedError("refused", reply.reason, gave_up=reply.retire)
        return reply

    def _kind(self, payload: bytes, lane: Hashable) -> str | None:
        kind = payload.decode("ascii", "replace")
        if is_kind(kind):
            return kind
        self._lied(lane, "kind was not a MIME type")
        return None

    def _lied(self, lane: Hashable, answer: str) -> None:
        """Count an answer that no correct worker gives, and end the lane's workers."""
        self._failures.count("lied", f"a worker's {answer}")
        self._pool.kill_lane(lane)

    async def _start(self) -> None:
        text = ""
        with trio.move_on_after(_START_S) as scope:
            try:
                await self._pool.fill(self._at_first)
            except NoWorkerError as error:
                text = str(error)
        if scope.cancelled_caught or text:
            await self.aclose()
            raise SnifferError(
                f"cannot start the sniffing workers: {text or f'not done after {_START_S:g} s'}. The workers "
                "need libmagic (libmagic1 on Debian, file-libs on Fedora) and its database"
            )


def _command(what: frozenset[str]) -> Command:
    """Return the command that asks for a plan. A judgement on the whole file needs all of it at once."""
    return Command.LOCATE if what & {TO_TELL, DENY_UNKNOWN} else Command.INDEX


def _in_lines(what: frozenset[str]) -> bytes:
    return "\n".join(sorted(what)).encode("ascii")


def _at_once(fd: int, size: int, offset: int, count: int) -> bytes:
    """Read bytes of a file of *size* bytes from the kernel's page cache. Raises OSError if the page cache
    lacks some of these bytes."""
    data = bytearray(max(0, min(count, size - offset)))
    try:
        done = os.preadv(fd, [data], offset, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # only a file in memory has seals, and it has no RWF_NOWAIT
        done = os.preadv(fd, [data], offset)
    if done != len(data):
        raise BlockingIOError
    return bytes(data)


def _checked_size(fd: int) -> int:
    """Return the size (bytes) of the file behind *fd*. Raises ValueError if *fd* is not read-only."""
    if fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH) != os.O_RDONLY:
        raise ValueError(f"descriptor {fd} is not read-only; a worker gets no other")
    return os.fstat(fd).st_size

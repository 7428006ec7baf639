"""Requests that policyfs answers without pyfuse3, which has no handlers for most of them.

They are taken out before libfuse sees them (``_operations.c``); libfuse gets, and refuses, the others. The
structures are the kernel's (include/uapi/linux/fuse.h); requests.py parses them.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import trio

from policyfs.kernel.bridge import HEADER_SIZE, Pending, pyfuse3, take_requests
from policyfs.kernel.protocol import NO_FLAGS, InitFlag, Opcode, errno_of_reply

R = TypeVar("R")

_HEADER: Final = struct.Struct("=IIQQIIIHH")
_INTERRUPT: Final = struct.Struct("=Q")
RESENT: Final = 1 << 63


def _nothing() -> None:
    """Do nothing. This is the default for Request.rests() and for Work.drop."""


class Request:
    """One request: its caller's filesystem ids, node, opcode and body. pid: the calling thread (gettid(2)), 0
    outside the daemon's pid namespace. umask: none of these requests has one. body: all bytes after the
    header."""

    __slots__ = (
        "_interrupted", "_rests", "_scope", "body", "gid", "nodeid", "opcode", "pid", "uid", "unique",
    )  # fmt: skip
    umask: Final = 0

    def __init__(self, data: bytes, rests: Callable[[], None] = _nothing) -> None:
        _, opcode, unique, self.nodeid, self.uid, self.gid, self.pid, _, _ = _HEADER.unpack_from(data)
        self.opcode = Opcode(opcode)
        self.unique: int = unique & ~RESENT
        self.body = data[HEADER_SIZE:]
        self._scope: trio.CancelScope | None = None
        self._interrupted = False
        self._rests = rests

    def interruptible(self) -> trio.CancelScope:
        """Return a scope that is cancelled when a signal comes for the caller (or has come already).

        If the scope's ``cancelled_caught`` is set afterwards, the handler answers EINTR. Work outside such a
        scope is finished, however many signals come. Until the answer, the caller stays in its system call,
        even if a signal kills the caller: the kernel waits for the answer to every request that it has sent.
        """
        self._scope = trio.CancelScope()
        if self._interrupted:
            self._scope.cancel()
        return self._scope

    def rests(self) -> None:
        """Stop counting this request as under way, because it waits for another request of the same uid (for
        a lock, for example), which must be able to begin (bridge.take_turns)."""
        self._rests()

    def interrupt(self) -> None:
        """Record that a signal came for the caller."""
        self._interrupted = True
        if self._scope is not None:
            self._scope.cancel()


Handler = Callable[[Request], Awaitable[bytes]]
"""A handler that returns the body of a reply. To refuse the request, it raises FUSEError or OSError. Any
other exception is a bug."""


@dataclass(frozen=True, slots=True)
class Work:
    """The rest of a request, which may wait for the disk. A thread does it, and sends an empty reply, without
    the event loop. drop: called if no thread can be started; it closes the descriptors that *call* closes."""

    call: Callable[[], None]
    drop: Callable[[], None] = _nothing


Quick = Callable[[Request], bytes | Work | None]
"""A handler that never waits, called before the bridge reads another request. It returns the body of the
reply, or the work that is left, or None for a Handler."""


class BugLog(Protocol):
    """The log of unexpected exceptions."""

    def bug(self, where: str, error: BaseException) -> None:
        """Log a bug with its traceback and count it."""


class Door:
    """A receiver that takes requests from the bridge and calls their handlers, while serve() runs. A process
    has one."""

    def __init__(
        self, handlers: Mapping[Opcode, Handler], bugs: BugLog, quick: Mapping[Opcode, Quick] | None = None
    ) -> None:
        """quick: handlers that are called first; if one returns None, the request goes to *handlers*."""
        self._handlers = dict(handlers)
        self._quick = dict(quick or {})
        self._bugs = bugs
        self._at_work = 0
        self._work_done = trio.Event()
        self._waiting: dict[int, Request] = {}
        self._nursery: trio.Nursery | None = None
        self._queues: dict[int, deque[tuple[Request, Pending]]] = {}
        """Waiting requests by uid. INVARIANT: while this is not empty, serve() does not wait."""
        self._begun = set[int]()
        """The uids for which a request may have begun in this iteration of the event loop."""
        self._begun_at_once = set[int]()
        """The uids for which _take() began a request since the last call of _begin_one_of_each()."""
        self._some_begun = trio.Event()

    @property
    def init_flags(self) -> InitFlag:
        """The INIT flags with which the kernel sends the requests that have handlers here."""
        flags = NO_FLAGS
        if Opcode.SETLK in self._handlers:
            flags |= InitFlag.POSIX_LOCKS | InitFlag.FLOCK_LOCKS
        if Opcode.READDIR in self._handlers:  # READDIRPLUS comes only if lookups follow a listing
            flags |= InitFlag.READDIRPLUS_AUTO
        return flags

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take requests until cancelled. Then requests without an answer get EIO.

        Each iteration of the event loop begins one request of each uid. Otherwise all that were taken
        together of one uid would begin before those of other uids, and before the next request is read.
        """
        opcodes = {*self._handlers, *self._quick, Opcode.INTERRUPT} if self._handlers else set()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            take_requests(self._take, opcodes)
            try:
                task_status.started()
                while True:
                    await self._some_begun.wait()
                    self._some_begun = trio.Event()
                    while self._begun or self._queues:
                        self._begin_one_of_each()
                        await trio.lowlevel.checkpoint()
            finally:
                take_requests(None, set())
                self._nursery = None
                self._queues.clear()
                with trio.CancelScope(shield=True):
                    # INVARIANT: no thread answers after the session is over, because another file may then
                    # have the session's descriptor number.
                    while self._at_work:
                        self._work_done = trio.Event()
                        await self._work_done.wait()

    def _take(self, pending: Pending) -> None:
        request = Request(pending.data, pending.rests)
        if request.opcode is Opcode.INTERRUPT:
            (unique,) = _INTERRUPT.unpack_from(request.body)
            known = self._waiting.get(unique & ~RESENT)
            if known is not None:  # else it is answered, or pyfuse3 has the request and interrupts nothing
                known.interrupt()
        elif self._nursery is not None and not self._quickly(request, pending):
            self._waiting[request.unique] = request
            if request.uid in self._begun:
                self._queues.setdefault(request.uid, deque()).append((request, pending))
            else:
                self._some_begun.set()
                self._begun_at_once.add(request.uid)
                self._begin(request, pending)

    def _begin(self, request: Request, pending: Pending) -> None:
        self._begun.add(request.uid)
        if self._nursery is not None:
            self._nursery.start_soon(self._answer, request, pending, name=request.opcode.name)

    def _begin_one_of_each(self) -> None:
        """Begin the first waiting request of each uid. Called once in each iteration of the event loop.
        INVARIANT: no uid begins two requests in one iteration, because their tasks would run in any order."""
        self._begun, self._begun_at_once = self._begun_at_once, set()
        for uid, queue in list(self._queues.items()):
            if uid in self._begun:
                continue
            self._begin(*queue.popleft())
            if not queue:
                del self._queues[uid]

    def _quickly(self, request: Request, pending: Pending) -> bool:
        """Answer a request at once, two iterations of the loop earlier. Return False if it needs a task."""
        quick = self._quick.get(request.opcode)
        if quick is None:
            return False
        code, body = self._outcome(request.opcode, lambda: quick(request))
        if body is None and not code:
            return False
        if isinstance(body, Work):
            self._start(request.opcode, body, pending)
        else:
            pending.answer(code, body or b"")
        return True

    def _start(self, opcode: Opcode, work: Work, pending: Pending) -> None:
        token = trio.lowlevel.current_trio_token()

        def call() -> None:
            code, _ = self._outcome(opcode, work.call)
            pending.send(code)

        def done(_: object) -> None:
            token.run_sync_soon(self._worked, pending)  # serve() does not end before this call

        self._at_work += 1
        try:
            trio.lowlevel.start_thread_soon(call, done)
        except RuntimeError as error:  # no thread can be started, and the disk must not stop the event loop
            self._at_work -= 1
            self._outcome(opcode, work.drop)
            pending.answer(self._code_of(opcode, error))

    def _worked(self, pending: Pending) -> None:
        pending.rests()
        self._at_work -= 1
        self._work_done.set()

    def _outcome(self, opcode: Opcode, call: Callable[[], R]) -> tuple[int, R | None]:
        """Call *call*. Return its errno (0: no error) and its result. Never raise an exception."""
        try:
            return 0, call()
        except Exception as error:  # noqa: BLE001 - nothing ends the mount
            return self._code_of(opcode, error), None

    def _code_of(self, opcode: Opcode, error: Exception) -> int:
        """Return the errno of the answer; log an exception other than FUSEError and OSError as a bug."""
        if isinstance(error, (pyfuse3.FUSEError, OSError)):
            return errno_of_reply(error.errno)
        self._bugs.bug(opcode.name, error)
        return errno.EIO

    async def _answer(self, request: Request, pending: Pending) -> None:
        body, code = b"", 0
        try:
            body = await self._handlers[request.opcode](request)
        except Exception as error:  # noqa: BLE001 - nothing ends the mount
            code = self._code_of(request.opcode, error)
        finally:
            del self._waiting[request.unique]
        pending.answer(code, body)

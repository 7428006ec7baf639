"""The daemon's connection to one worker process. The connection sends requests and receives replies. It also
finds out when the worker has ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
from collections.abc import Hashable
from typing import Final

import trio

from policyfs.content.workers import protocol
from policyfs.content.workers.protocol import Command, Reply, Status, WireError
from policyfs.content.workers.time_limit import Look, TimeLimit
from policyfs.content.workers.zygote import ENDED
from policyfs.linux import procfs

_CHUNK: Final = 256 * 1024
_LOOK_S: Final = 0.2
"""Seconds between two looks at a worker that has not answered: does it wait for a processor, or did another
process stop it (SIGSTOP)?
"""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_CAUSE_S: Final = 1.0
"""Seconds that the zygote (the parent process of the workers) may take to report how a worker ended."""
_BY_ITSELF: Final = frozenset({
    signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP,
    signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGPIPE,
})  # fmt: skip
"""Signals that a process causes by its own faults.

A worker cannot send signals. So any other signal came from another process, or from the kernel when memory
ran out.
"""


class WorkerGoneError(Exception):
    """The error for a lost worker: it died, was stopped, or sent bytes that no correct worker sends.

    The message has the cause.

    outside: True if another process ended or stopped the worker. Then the loss says nothing about the file.
    """

    def __init__(self, text: str, *, outside: bool = False) -> None:
        super().__init__(text)
        self.outside = outside


class WorkerLink:
    """A connection that sends requests to one worker process. At most one task uses it at a time.

    If a request got no reply (the worker died, the deadline passed, the task was cancelled), the caller must
    kill() the worker. Otherwise the next request could receive the old reply.
    """

    def __init__(self, pid: int, sock: socket.socket, pidfd: int, ending: int) -> None:
        """Take over the socket, the pidfd and *ending*.

        The pidfd makes sure that no signal hits another process. *ending* is a pipe on which the zygote
        reports how the worker ended.
        """
        sock.setblocking(False)
        os.set_blocking(ending, False)
        self.pid = pid
        self.served = 0
        self.killed_s = 0.0
        """The time of kill() (time.monotonic()); 0: not killed."""
        self.lane: Hashable = None
        """The only lane (an app or one uid) that the worker serves, from its first request on."""
        self.limit: TimeLimit | None = None
        """The time limit of the worker's request; None while the worker starts."""
        self._sock = sock
        self._pidfd = pidfd
        self._ending = ending
        self._quiet = select.poll()
        self._quiet.register(sock, select.POLLIN)
        self._quiet.register(pidfd, select.POLLIN)

    async def hello(self) -> str:
        """Wait until the worker has given up its rights. Return the measures in force (chroot, seccomp ...)
        as text for people.

        Raises WorkerGoneError with the worker's reason if the worker could not give up all rights.
        """
        try:
            reply = await self._receive(protocol.HELLO, protocol.MAX_REASON)
        except _HungUpError as error:
            raise await self._death() from error
        if reply.status is not Status.OK:
            raise WorkerGoneError(f"a worker could not give up its rights: {reply.reason}")
        return reply.reason

    async def ask(self, command: Command, fd: int | None, size: int, payload: bytes) -> Reply:
        """Send one request and return its reply. The worker gets a duplicate of fd; the caller closes fd.

        size: bytes of the file behind fd. Raises WorkerGoneError.
        """
        try:
            return await self._ask(command, fd, size, payload)
        except _HungUpError as error:
            raise await self._death() from error

    async def _ask(self, command: Command, fd: int | None, size: int, payload: bytes) -> Reply:
        self.served += 1
        number = self.served
        header = protocol.REQUEST.pack(number, command, len(payload), size)
        await self._send(header + payload, [] if fd is None else protocol.ancillary(fd))
        limit = protocol.MAX_REPLY_PAYLOAD if command in protocol.PLANS else protocol.MAX_REASON
        return await self._receive(number, limit)

    def fit(self) -> bool:
        """Return True if this worker is alive and has sent no bytes. Call this only between two requests."""
        return not self._quiet.poll(0)

    def kill(self) -> None:
        """Send SIGKILL to the worker and close the socket. Afterwards, gone() returns True once the process
        has ended.

        A task that waits for a reply gets WorkerGoneError. Call this only while trio runs. Further calls do
        nothing.
        """
        if self._sock.fileno() < 0:
            return
        with contextlib.suppress(ProcessLookupError):  # the worker may have ended already
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.killed_s = time.monotonic()
        self._quiet.unregister(self._sock)
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    def gone(self) -> bool:
        """Return True if the worker has ended after kill(); in this case also close its descriptors. Never
        blocks.
        """
        if self._pidfd >= 0 and self._quiet.poll(0):
            with contextlib.suppress(RuntimeError):  # without a trio run no task waits for the pipe
                trio.lowlevel.notify_closing(self._ending)
            for fd in (self._pidfd, self._ending):
                os.close(fd)
            self._pidfd = self._ending = -1
        return self._pidfd < 0

    async def ended(self) -> None:
        """Wait until the worker has ended after kill()."""
        while not self.gone():
            await trio.lowlevel.wait_readable(self._pidfd)

    def _look(self) -> Look:
        """Look at the worker's process (proc_pid_stat(5), fields 3, 14 and 15)."""
        try:
            fields = procfs.text(self.pid, "stat").rpartition(") ")[2].split()
            return Look(fields[0], (int(fields[11]) + int(fields[12])) / _TICKS, trio.current_time())
        except (OSError, ValueError, IndexError):
            return Look("", 0.0, trio.current_time())

    def _ended(self) -> bool:
        return self._pidfd < 0 or any(fd == self._pidfd for fd, _ in self._quiet.poll(0))

    async def _death(self) -> WorkerGoneError:
        code = None
        with trio.move_on_after(_CAUSE_S), contextlib.suppress(trio.ClosedResourceError):
            code = await self._exit_code()
            if code is None:  # the kernel kills the workers of a zygote that ends (PR_SET_PDEATHSIG)
                return WorkerGoneError(
                    "the worker ended because its parent process (the zygote) ended", outside=True
                )
        if code is None:
            return WorkerGoneError("the worker died")
        if code >= 0:
            why = f" ({os.strerror(code)})" if code in errno.errorcode else ""
            return WorkerGoneError(f"the worker ended with exit code {code}{why}")
        number = -code
        return WorkerGoneError(f"the worker died of signal {number}", outside=number not in _BY_ITSELF)

    async def _exit_code(self) -> int | None:
        """Return the worker's exit code, or the negative number of the signal that killed it.

        Return None if the zygote (the worker's parent) died before it reported the worker's end. Raise
        trio.ClosedResourceError if the daemon has killed the worker.
        """
        while True:
            if self._ending < 0:
                raise trio.ClosedResourceError
            try:
                told = os.read(self._ending, ENDED.size)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._ending)
                continue
            if len(told) != ENDED.size:
                return None
            code: int = ENDED.unpack(told)[0]
            return code

    async def _send(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        try:
            view = memoryview(data)
            while view:
                try:
                    sent = self._sock.sendmsg([view], ancillary, socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sock)
                    continue
                ancillary = []  # the descriptor went with the first byte
                view = view[sent:]
        except trio.ClosedResourceError as error:
            raise WorkerGoneError("the worker was killed") from error
        except OSError as error:
            raise _HungUpError from error

    async def _receive(self, number: int, limit: int) -> Reply:
        try:
            reply, size = protocol.parse_reply_header(await self._exactly(protocol.REPLY.size), limit)
        except WireError as error:
            raise WorkerGoneError(f"the worker sent {error}") from error
        if reply.number != number:
            raise WorkerGoneError(f"the worker answered request {reply.number}, not {number}")
        return reply._replace(payload=await self._exactly(size))

    async def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = self._sock.recv(min(size, _CHUNK))
            except BlockingIOError:
                await self._readable()
                continue
            except OSError:
                part = b""
            if not part:
                raise _HungUpError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    async def _readable(self) -> None:
        look: Look | None = None
        try:
            while True:
                with trio.move_on_after(_LOOK_S):
                    await trio.lowlevel.wait_readable(self._sock)
                    return
                before, look = look, self._look()
                if look.stopped and not self._ended():  # a worker cannot stop itself
                    raise WorkerGoneError("the worker was stopped", outside=True)
                if before is not None and self.limit is not None:
                    self.limit.lengthen(look.waited_s(before))
        except trio.ClosedResourceError as error:
            raise WorkerGoneError("the worker was killed") from error


class _HungUpError(Exception):
    """The error if the worker's end of the socket is closed."""

"""The daemon's end of one worker: a request out, a reply in, and the power to kill."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import Final

import trio

from policyfs.content import wire
from policyfs.content.wire import Command, Reply, Status, WireError

_CHUNK: Final = 256 * 1024


class WorkerGoneError(Exception):
    """The worker died, or said something that no worker says; the message tells which."""


class WorkerLink:
    """One worker process. At most one task uses it at a time.

    A request that does not end in a reply (the worker died, the deadline came, the task was
    cancelled) leaves the stream out of step: the owner must kill() the worker then.
    """

    def __init__(self, pid: int, sock: socket.socket, pidfd: int) -> None:
        """Takes over the socket and the pidfd (through which no other process can be hit)."""
        sock.setblocking(False)
        self.pid = pid
        self.served = 0
        self._sock = sock
        self._pidfd = pidfd
        self._quiet = select.poll()
        self._quiet.register(sock, select.POLLIN)
        self._quiet.register(pidfd, select.POLLIN)

    async def hello(self) -> str:
        """Wait until the worker is confined; returns what held, for people.

        Raises WorkerGoneError with the worker's reason if it could not give everything up.
        """
        reply = await self._receive(wire.HELLO, wire.MAX_REASON)
        if reply.status is not Status.OK:
            raise WorkerGoneError(f"a worker could not give up its rights: {reply.reason}")
        return reply.reason

    async def ask(self, command: Command, fd: int | None, size: int, payload: bytes) -> Reply:
        """One request and its reply. fd is duplicated to the worker and stays the caller's.

        size: of the file behind fd, in bytes. Raises WorkerGoneError.
        """
        self.served += 1
        number = self.served
        header = wire.REQUEST.pack(number, command, len(payload), size)
        await self._send(header + payload, [] if fd is None else wire.ancillary(fd))
        limit = wire.MAX_REPLY_PAYLOAD if command == Command.LOCATE else wire.MAX_REASON
        return await self._receive(number, limit)

    def fit(self) -> bool:
        """Whether the worker lives and, being idle, is silent."""
        return not self._quiet.poll(0)

    def kill(self) -> None:
        """SIGKILL, and no more talk: a task that is talking gets WorkerGoneError. gone() says when
        it has ended. Only in a trio run; once is enough, more do nothing.
        """
        if self._sock.fileno() < 0:
            return
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._quiet.unregister(self._sock)
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    def gone(self) -> bool:
        """Whether a killed worker has ended; closes the pidfd when it has. Never blocks."""
        if self._pidfd >= 0 and self._quiet.poll(0):
            os.close(self._pidfd)
            self._pidfd = -1
        return self._pidfd < 0

    async def ended(self) -> None:
        """Wait until a killed worker has ended."""
        while not self.gone():
            await trio.lowlevel.wait_readable(self._pidfd)

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
        except (OSError, trio.ClosedResourceError) as error:
            raise WorkerGoneError("the worker died") from error

    async def _receive(self, number: int, limit: int) -> Reply:
        try:
            reply, size = wire.parse_reply_header(await self._exactly(wire.REPLY.size), limit)
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
                raise WorkerGoneError("the worker died")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    async def _readable(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._sock)
        except trio.ClosedResourceError as error:
            raise WorkerGoneError("the worker was killed") from error

"""The daemon's side of launcher and zygote. The zygote is the parent process of the workers, and the launcher
starts zygotes.

The daemon starts and ends launcher and zygote here, and orders workers.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from typing import Final

import trio

from policyfs.content.workers import protocol
from policyfs.content.workers.connection import WorkerLink
from policyfs.content.workers.execution import LauncherProcess
from policyfs.content.workers.launcher import ANNOUNCE, GUARD, PARSE, START
from policyfs.content.workers.zygote import FORK, MAX_MESSAGE, READY
from policyfs.linux.threads import ParkedThread

_OVERDUE_S: Final = 30.0
"""Seconds without an answer after which a launcher or zygote counts as hung."""
_KILLED_MS: Final = 5_000
"""Time (ms) to wait for the end of a killed zygote."""


class ZygoteError(Exception):
    """The error if a zygote cannot be started, cannot carry out an order, or is gone.

    The message has the cause. outside: True if the zygote ended after it was ready. No bytes of a file reach
    a zygote, so another process ended it. (If a zygote never was ready, its successor would probably fail,
    too.)
    """

    def __init__(self, text: str, *, outside: bool = False) -> None:
        super().__init__(text)
        self.outside = outside


class Launcher:
    """The process that starts zygotes, even after the daemon has given up the right to execute programs."""

    def __init__(self, process: LauncherProcess) -> None:
        """Take over the process and its descriptors."""
        self._control = process.control
        self._stderr = process.stderr
        self._process = process
        self._parked: ParkedThread | None = None
        self._turn = trio.Lock()
        self._owed = 0  # number of answers that cancelled calls left unread

    @property
    def pid(self) -> int:
        """The launcher's pid; valid until close()."""
        return self._process.pid

    async def zygote(self) -> ZygoteProcess:
        """Start a new zygote, the parent process of workers. Raises ZygoteError."""
        return ZygoteProcess(*await self._start(START), self._stderr)

    async def announcer(self) -> tuple[int, int, socket.socket]:
        """Start an announcer (announcer.py). Return its pid, a pidfd and its control socket. Raises
        ZygoteError.
        """
        return await self._start(ANNOUNCE)

    async def parser(self) -> tuple[int, int, socket.socket]:
        """Start a process that parses a policy (policy_parser.py). Return its pid, a pidfd and a stream
        socket to it. Raises ZygoteError."""
        return await self._start(PARSE, socket.SOCK_STREAM)

    async def _start(self, what: bytes, kind: int = socket.SOCK_SEQPACKET) -> tuple[int, int, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        try:
            with theirs, trio.fail_after(_OVERDUE_S):
                async with self._turn:
                    await self._settle()
                    socket.send_fds(self._control, [what], [theirs.fileno()])
                    self._owed += 1
                    message, fds = await _received(self._control)
                    self._owed -= 1
            if len(fds) != 1:
                reason = message.decode(errors="replace") or last_words(self._stderr)
                raise ZygoteError(f"no process could be started: {reason}")
        except (OSError, trio.ClosedResourceError) as error:
            ours.close()
            raise ZygoteError(f"the launcher is gone: {error}; {last_words(self._stderr)}") from error
        except trio.TooSlowError as error:
            ours.close()
            raise ZygoteError(f"the launcher has not answered for {_OVERDUE_S:g} s") from error
        except BaseException:
            ours.close()
            raise
        return int(message), fds[0], ours

    def guard(self, abort_fd: int, *, keeper: int = 0) -> None:
        """Let the launcher end a FUSE connection if the daemon is killed.

        abort_fd: the connection's control file `abort`, open for writing; the caller closes it. The launcher
        notices the end of a thread that this call starts (linux/threads.py), and without a keeper of the
        thread that has executed it. Call it once, after the daemon has given up its rights. Raises
        ZygoteError if the launcher is gone, or if there is no room for the thread. keeper: the pid of the
        process that may let another daemon take over, this one's parent; 0: none.
        """
        try:
            self._parked = ParkedThread()
        except (OSError, RuntimeError) as error:
            raise ZygoteError(f"no thread could be started: {error}") from error
        if self._parked.pidfd < 0 and not self._process.is_child:
            raise ZygoteError("the kernel does not tell the launcher that the daemon was killed")
        descriptors = [fd for fd in (abort_fd, self._parked.pidfd) if fd >= 0]
        order = GUARD
        try:
            if keeper and self._parked.pidfd >= 0:
                order += b" %d %d" % (os.getpid(), keeper)
                descriptors.append(os.pidfd_open(keeper))
            socket.send_fds(self._control, [order], descriptors)
        except OSError as error:
            raise ZygoteError(f"the launcher is gone: {error}; {last_words(self._stderr)}") from error
        finally:
            for fd in descriptors[2:]:
                os.close(fd)

    async def _settle(self) -> None:
        while self._owed:
            _, fds = await _received(self._control)
            self._owed -= 1
            for fd in fds:
                os.close(fd)  # a zygote ends by itself when its control socket is closed

    async def close(self, grace_s: float) -> None:
        """Let the launcher exit. Kill it after *grace_s* seconds. Further calls do nothing."""
        if self._control.fileno() < 0:
            return
        pidfd = self._process.pidfd
        trio.lowlevel.notify_closing(self._control)
        self._control.close()
        try:
            with trio.move_on_after(grace_s):
                await trio.lowlevel.wait_readable(pidfd)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            self._process.wait()
            os.close(self._stderr)
            if self._parked is not None:
                self._parked.end()


class ZygoteProcess:
    """The daemon's connection to one zygote (the parent process of workers). At most one task at a time calls
    worker().

    If a call of worker() is cancelled, the next call receives the answer to the order of the cancelled call.
    """

    def __init__(self, pid: int, pidfd: int, control: socket.socket, stderr: int) -> None:
        """Take over the pidfd and the control socket. stderr: a memfd, the standard error of launcher and
        zygotes.
        """
        control.setblocking(False)
        self._pid = pid
        self._pidfd = pidfd
        self._control = control
        self._stderr = stderr
        self._alive = select.poll()
        self._alive.register(pidfd, select.POLLIN)
        self._ready = False
        self._ordered = False
        self.started_s = self._waiting_since_s = time.monotonic()

    @property
    def pid(self) -> int:
        """The zygote's pid; valid until close()."""
        return self._pid

    def fit(self) -> bool:
        """Return True if the zygote (the parent process of workers) lives, and has answered all orders in
        time.
        """
        owes = self._ordered or not self._ready
        overdue = owes and time.monotonic() - self._waiting_since_s > _OVERDUE_S
        return self._pidfd >= 0 and not self._alive.poll(0) and not overdue

    async def worker(self) -> WorkerLink:
        """Order a new worker, and return the connection to it. Before use, the caller must wait for hello().

        Raises ZygoteError. If fit() is still true after this error, the caller may try again.
        """
        try:
            if not self._ready:
                await self._expect_ready()
            if not self._ordered:
                self._control.send(FORK)
                self._ordered = True
                self._waiting_since_s = time.monotonic()
            message, fds = await self._receive()
            self._ordered = False
        except (OSError, trio.ClosedResourceError) as error:
            raise ZygoteError(f"the zygote is gone: {error}", outside=self._ready) from error
        if len(fds) != 3:
            for fd in fds:
                os.close(fd)
            raise ZygoteError(f"the zygote forked no worker: {message.decode(errors='replace')}")
        return WorkerLink(int(message), socket.socket(fileno=fds[0]), fds[1], fds[2])

    async def close(self, grace_s: float) -> None:
        """Let the zygote kill and reap its workers, and exit. Kill it after *grace_s* seconds."""
        self._hang_up()
        if self._pidfd < 0:
            return
        with trio.move_on_after(grace_s):
            await trio.lowlevel.wait_readable(self._pidfd)
        self.kill()

    def kill(self) -> None:
        """Kill the zygote. Its workers die with it. This object cannot be used afterwards."""
        self._hang_up()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._alive.poll(_KILLED_MS)
            os.close(self._pidfd)
            self._pidfd = -1

    def _hang_up(self) -> None:
        if self._control.fileno() >= 0:
            trio.lowlevel.notify_closing(self._control)
            self._control.close()

    async def _expect_ready(self) -> None:
        message, _ = await self._receive()
        if message != READY:
            raise ZygoteError(message.decode(errors="replace") or last_words(self._stderr))
        self._ready = True

    async def _receive(self) -> tuple[bytes, list[int]]:
        message, fds = await _received(self._control)
        if not message and self._ready:
            raise ConnectionResetError("it ended")
        return message, fds


async def _received(control: socket.socket) -> tuple[bytes, list[int]]:
    while True:
        try:
            message, data, _, _ = control.recvmsg(
                MAX_MESSAGE, socket.CMSG_SPACE(3 * 4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            await trio.lowlevel.wait_readable(control)
            continue
        return message, protocol.take_fds(data)


def last_words(stderr: int) -> str:
    """Return the last line that launcher and zygotes wrote to their standard error."""
    text = os.pread(stderr, 1 << 16, max(0, os.fstat(stderr).st_size - (1 << 16)))
    return text.decode(errors="replace").strip().rpartition("\n")[2] or "the process ended without a message"

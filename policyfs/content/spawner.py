"""The daemon's end of the zygote: starts it, orders workers from it, ends it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Final

import trio

import policyfs
from policyfs.content import wire
from policyfs.content.confine import Limits
from policyfs.content.link import WorkerLink
from policyfs.content.zygote import FORK, MAX_MESSAGE, READY

_OVERDUE_S: Final = 30.0
"""A zygote that owes an answer for this long is hung."""
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class ZygoteError(Exception):
    """The zygote cannot do what it was told, or is gone; the message says why."""


class ZygoteProcess:
    """One zygote. At most one task at a time calls worker().

    A call of worker() that is cancelled loses nothing: the next one takes up where it was.
    """

    def __init__(self, limits: Limits) -> None:
        """Execute a fresh interpreter, with the daemon's own module path and nothing else of it.

        A few ms; it is then still importing. Raises OSError if it cannot be executed.
        """
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        # Not the daemon's stderr: whoever reads that to its end must not wait for the zygote too.
        self._stderr = os.memfd_create("policyfs-zygote-stderr")
        options = json.dumps(dataclasses.asdict(limits))
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 # our own interpreter and arguments
                [sys.executable, "-P", "-s", "-m", "policyfs.content.zygote", str(theirs.fileno()), options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                cwd="/",
                env=_ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(_module_path())},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._pidfd = os.pidfd_open(self._process.pid)
        self._ready = False
        self._ordered = False
        self.started_s = self._waiting_since_s = time.monotonic()

    @property
    def pid(self) -> int:
        """Its pid; meaningful until close()."""
        return self._process.pid

    def fit(self) -> bool:
        """Whether it lives and does not owe an answer for too long."""
        owes = self._ordered or not self._ready
        overdue = owes and time.monotonic() - self._waiting_since_s > _OVERDUE_S
        return self._process.poll() is None and not overdue

    async def worker(self) -> WorkerLink:
        """A newly forked worker; wait for its hello() before use.

        Raises ZygoteError; fit() then says whether it is worth asking again.
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
            raise ZygoteError(f"the zygote is gone: {error}") from error
        if len(fds) != 2:
            for fd in fds:
                os.close(fd)
            raise ZygoteError(f"the zygote forked no worker: {message.decode(errors='replace')}")
        return WorkerLink(int(message), socket.socket(fileno=fds[0]), fds[1])

    async def close(self, grace_s: float) -> None:
        """Let it kill and reap its workers and exit; SIGKILL after grace_s seconds."""
        self._hang_up()
        if self._pidfd < 0:
            return
        with trio.move_on_after(grace_s):
            await trio.lowlevel.wait_readable(self._pidfd)
        self.kill()

    def kill(self) -> None:
        """SIGKILL (its workers die with it) and reap it; then it can only be thrown away."""
        self._hang_up()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._process.wait()
            os.close(self._pidfd)
            os.close(self._stderr)
            self._pidfd = -1

    def _hang_up(self) -> None:
        if self._control.fileno() >= 0:
            trio.lowlevel.notify_closing(self._control)
            self._control.close()

    async def _expect_ready(self) -> None:
        message, _ = await self._receive()
        if message != READY:
            raise ZygoteError(message.decode(errors="replace") or self._last_words())
        self._ready = True

    async def _receive(self) -> tuple[bytes, list[int]]:
        while True:
            try:
                message, data, _, _ = self._control.recvmsg(
                    MAX_MESSAGE, socket.CMSG_SPACE(2 * 4), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._control)
                continue
            if not message and self._ready:
                raise ConnectionResetError("it ended")
            return message, wire.take_fds(data)

    def _last_words(self) -> str:
        text = os.pread(self._stderr, 1 << 16, 0).decode(errors="replace").strip()
        return text.rpartition("\n")[2] or "it ended without a word"


def _module_path() -> list[str]:
    """Where this interpreter finds modules, absolute: the zygote must find the very same ones."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(policyfs.__file__)))
    return [own, *(entry for entry in sys.path if os.path.isabs(entry) and entry != own)]

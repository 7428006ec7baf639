"""The announcer of one mount, by which inotify reports changes of the store: its start, orders and end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from policyfs.content.workers.announcer import READY
from policyfs.content.workers.execution import SnifferError
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.kernel_cache.announcements import Announcements
from policyfs.kernel import vectors
from policyfs.linux import procfs

_LONGEST_S: Final = 5.0
"""The time after which an announcer without an answer is replaced: an app stops it, or holds a directory."""
_ENDING_S: Final = 1.0
"""The time in which a killed announcer ends, unless it waits for a directory."""
_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 30.0
"""The pauses before a new announcer: each is twice as long as the last, unless that announcer has lived for
_PROVEN_S. An app that kills each of them must not fill the log."""
_PROVEN_S: Final = 60.0

Start = Callable[[], Awaitable[tuple[int, int, socket.socket]]]
"""A function that starts an announcer: its pid, a pidfd and its control socket. Raises SnifferError."""


class _Process:
    def __init__(self, pid: int, pidfd: int, control: socket.socket) -> None:
        self.pid = pid
        self._pidfd, self._control = pidfd, control
        control.setblocking(False)
        self.since = 0
        """The start of the process: no other process has this and its pid."""
        with contextlib.suppress(OSError):  # it has ended
            self.since = int(procfs.text(pid, "stat").rpartition(")")[2].split()[19])
        self._poll = select.poll()
        self._poll.register(pidfd, select.POLLIN)

    def is_alive(self) -> bool:
        return not self._poll.poll(0)

    async def ask(self, message: bytes, root: int = -1) -> bytes:
        """Send a message, with the descriptor *root*, and return the answer. Raises OSError; TooSlowError."""
        with trio.fail_after(_LONGEST_S):
            socket.send_fds(self._control, [message], [root] if root >= 0 else [])
            while True:
                with contextlib.suppress(BlockingIOError):
                    answer = self._control.recv(64)
                    if not answer:
                        raise ConnectionResetError(errno.ECONNRESET, "the announcer has ended")
                    return answer
                await trio.lowlevel.wait_readable(self._control)

    async def ended(self, then: trio.CancelScope) -> None:
        """Cancel a scope at the end of the process."""
        await trio.lowlevel.wait_readable(self._pidfd)
        then.cancel()

    async def end(self) -> None:
        """Kill the process, and wait for its end. It may wait in the kernel until an app lets go a directory.
        """
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with trio.move_on_after(_ENDING_S, shield=True):
            await trio.lowlevel.wait_readable(self._pidfd)
            return
        await trio.lowlevel.wait_readable(self._pidfd)

    def close(self) -> None:
        self._control.close()
        os.close(self._pidfd)


class Inotify:
    """The part of a daemon that lets inotify report changes of the store in its mount."""

    def __init__(
        self, mountpoint: str, announcements: Announcements, start: Start, warn: Callable[[str], None],
        *, uid: int, gid: int, state: SavedState | None = None,
    ) -> None:  # fmt: skip
        """start: starts an announcer. warn: logs a text. uid, gid: the app's. state: of a mount whose next
        daemon must know the announcer."""
        above, self._name = os.path.split(mountpoint)
        self._above = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._announcements, self._start, self._warn = announcements, start, warn
        self._ids = {"uid": uid, "gid": gid}
        self._ended = False
        self._stopped = trio.Event()
        self._running: trio.CancelScope | None = None
        self._ready: int | None = None
        self.starts = 0
        self._state = state
        self._before = None if state is None else _left(*state.announcer)
        # INVARIANT: before the first request: one of that process may come again.
        announcements.process = self._before

    def close(self) -> None:
        """Close the descriptor of the directory with the mountpoint."""
        os.close(self._above)

    def report(self) -> dict[str, object]:
        """Return the counts for ``status``. pid: the announcer's, once it takes orders. lost: changes that
        inotify did not report, or overflows."""
        own = self._announcements
        return {
            "pid": self._ready, "told": own.told, "waiting": own.waiting, "lost": own.lost,
            "left_out": own.left_out, "starts": self.starts,
        }  # fmt: skip

    async def stop(self) -> None:
        """End the announcer: the mount is about to end, and must not be in use."""
        self._ended = True
        if self._running is not None:
            self._running.cancel()
        with trio.move_on_after(_ENDING_S):
            await self._stopped.wait()

    async def run(self, connection: int) -> None:
        """Run announcers, one after the other, until stop(). connection: the number of the mount's device."""
        pause_s = _PAUSE_S
        if self._before is not None:
            with trio.CancelScope() as self._running:
                await self._end(self._before)
        while not self._ended:
            began_s = trio.current_time()
            with trio.CancelScope() as self._running:
                try:
                    process = _Process(*await self._start())
                    self.starts += 1
                    await self._serve(process, connection)
                except SnifferError as error:
                    self._warn(f"inotify reports no change of the store: {error}")
                proven = trio.current_time() - began_s > _PROVEN_S
                pause_s = _PAUSE_S if proven else pause_s
                await trio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
        self._stopped.set()

    async def _serve(self, process: _Process, connection: int) -> None:
        own = self._announcements
        if self._state is not None:
            self._state.announcer = process.pid, process.since
        own.process = process
        vectors.exempt(process.pid)
        try:
            setup = json.dumps({**self._ids, "device": os.makedev(0, connection)})
            if await process.ask(setup.encode()) == READY:
                self._ready = process.pid
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(process.ended, nursery.cancel_scope)
                    await own.run(lambda message: self._call(process, message))
        except* (OSError, trio.TooSlowError):
            pass
        finally:
            self._ready = None
            if not self._ended:
                self._warn("the announcer is replaced: inotify may have missed changes")
            await self._end(process)

    async def _end(self, process: _Process) -> None:
        await process.end()  # raises Cancelled if the process lives on; then it stays known
        vectors.exempt(0)
        self._announcements.process = None
        if self._state is not None:
            self._state.announcer = 0, 0
        process.close()

    async def _call(self, process: _Process, message: bytes) -> int:
        # INVARIANT: no attribute is asked here. The event loop itself would have to answer.
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        root = os.open(self._name, flags, dir_fd=self._above)
        try:
            return int(await process.ask(message, root))
        finally:
            os.close(root)


def _left(pid: int, since: int) -> _Process | None:
    """Return the announcer of the daemon before; None if it has ended."""
    pidfd, control = -1, socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid) if pid else -1
        if pidfd >= 0 and (found := _Process(pid, pidfd, control)).since == since:
            return found
    control.close()
    if pidfd >= 0:
        os.close(pidfd)
    return None

"""Waiting for requests: the same meaning as pyfuse3's own wait, at a fraction of its cost.

pyfuse3 puts every task through a lock and an epoll registration before each request, some 40 µs of
Python. Here a task that has answered a request looks at the device itself first, for some
microseconds, since an app that got its answer often asks again soon; only an idle daemon goes
to sleep in epoll. pyfuse3 finds its wait function in its module's namespace at each call, so that
it needs no change (docs/decisions/0002-waiting-for-requests.md).
"""

from __future__ import annotations

import select
import time
from typing import Final

import trio

from policyfs.kernel.bridge import pyfuse3, waiting

_SPIN_NS: Final = 200_000
"""As long as an app takes to read a photo and to close it, or the beginnings of some."""
_SHORT_SPIN_NS: Final = 40_000
"""While other requests are under way: what they wait for may come meanwhile, and must not wait long."""
_REQUESTS_PER_TURN: Final = 32
"""Requests answered in a row before other tasks (timers, finished threads) get their turn."""
_TRY_EVERY: Final = 16
"""While spinning does not pay, how often it is tried again."""
_WORTH: Final = 2
_MOST: Final = 8


class Readiness:
    """One session's wait for requests. install() puts it in the place of pyfuse3's."""

    def __init__(self, session_fd: int, turns_fd: int) -> None:
        """turns_fd: readable while a request that was read ahead can go on (bridge.take_turns)."""
        self._poll = select.poll()
        self._either = select.epoll()
        for fd in (session_fd, turns_fd):
            self._poll.register(fd, select.POLLIN)
            self._either.register(fd, select.EPOLLIN)
        self._lock: trio.Lock | None = None
        self._ended = False
        self._in_a_row = 0
        self._credit = _MOST  # how often spinning paid lately
        self._skipped = 0

    def install(self) -> None:
        """From now on pyfuse3's tasks wait here."""
        pyfuse3._wait_fuse_readable = self.wait  # type: ignore[attr-defined] # noqa: SLF001 - see module

    def others_wait(self, known: int) -> bool:
        """Is there any request but so many that are under way."""
        return waiting()[1] > known or bool(self._poll.poll(0))

    def end(self) -> None:
        """Wake who waits: the session is over. In the trio run, once."""
        trio.lowlevel.notify_closing(self._either.fileno())

    def close(self) -> None:
        """Nobody waits here any more."""
        self._either.close()

    async def wait(self) -> bool:
        """True when a request may be there (a reader that comes too late gets EAGAIN, which the
        bridge turns into a harmless EINTR); False when the session is over.
        """
        if self._ended:
            return False
        if self._in_a_row < _REQUESTS_PER_TURN:
            if self._poll.poll(0) or self._spin():
                self._in_a_row += 1
                return True
        else:
            self._in_a_row = 0
            await trio.lowlevel.checkpoint()
            if self._poll.poll(0):
                return True
        return await self._sleep()

    def _spin(self) -> bool:
        """Look again and again for a while; less and less often while it finds nothing."""
        if self._credit < _WORTH:
            self._skipped += 1
            if self._skipped < _TRY_EVERY:
                return False
            self._skipped = 0
        _, under_way = waiting()
        until = time.perf_counter_ns() + (_SHORT_SPIN_NS if under_way else _SPIN_NS)
        while time.perf_counter_ns() < until:
            if self._poll.poll(0):
                self._credit = min(_MOST, self._credit + 1)
                return True
        self._credit = max(0, self._credit - 1)
        return False

    async def _sleep(self) -> bool:
        """One task at a time waits in epoll; the others behind a lock."""
        if self._lock is None:
            self._lock = trio.Lock()
        try:
            async with self._lock:
                if self._ended:
                    return False
                await trio.lowlevel.wait_readable(self._either.fileno())
        except trio.ClosedResourceError:  # end()
            self._ended = True
            return False
        self._in_a_row = 0
        return not self._ended

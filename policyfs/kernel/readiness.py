"""A faster wait for requests, with the same meaning as pyfuse3's own.

pyfuse3 takes a lock and registers with epoll before each request, about 40 µs of Python. Here, a task that
has answered a request first polls the device for some microseconds: an app that got its answer often sends
the next request soon. Only an idle daemon sleeps in epoll. pyfuse3 finds its wait function by name in its
module, so it is not changed (docs/decisions/0002-waiting-for-requests.md).
"""

from __future__ import annotations

import contextvars
import select
import time
import types
from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any, Final

import trio

from policyfs.kernel.bridge import library, pyfuse3, waiting

_SPIN_NS: Final = 200_000
"""The longest time of polling: about the time in which an app reads a photo and closes it."""
_SHORT_SPIN_NS: Final = 40_000
"""The longest time of polling while other requests are under way: their events must not wait long."""
_REQUESTS_PER_TURN: Final = 32
"""The limit of requests that all tasks together answer in one iteration of the event loop (a row), before
timers, threads and other tasks run. With a row for each task, an iteration took 100 ms during a flood."""
_ROW_NS: Final = 5_000_000
"""The longest time of a row of requests. Without this limit, a row of 32 writes of 1 MiB took 27 ms."""
_TRY_EVERY: Final = 16
"""While polling finds no requests, only one of this number of waits begins with polling."""
_PARKED: Final = 4
"""The limit of tasks that wait behind the one that sleeps. Each keeps the used part of a buffer of 1 MiB."""
_STARTS_NONE: Final = -(1 << 30)
"""The limit of tasks from which on pyfuse3's loop starts another task."""
_WORTH: Final = 2
_MOST: Final = 8


class Readiness:
    """The object by which the tasks of one session wait for requests, once install() was called."""

    def __init__(self, session_fd: int, turns_fd: int) -> None:
        """turns_fd: readable while a request that was read ahead can go on (bridge.take_turns)."""
        self._either = select.epoll()  # without the session while the readers read it (_readers.c)
        for fd in (session_fd, turns_fd):
            self._either.register(fd, select.EPOLLIN)
        self._asleep = self._rests = False
        """_asleep: a task sleeps in epoll. _rests: the running task will now wait here, not in a handler."""
        self._parked: list[trio.Event] = []
        self._ended = False
        self._in_a_row = 0
        self._row_until_ns = 0
        self._nursery: trio.Nursery | None = None  # of serve()
        self._context = contextvars.copy_context()
        self._most = self._tasks = 0
        self._idle = 0
        """The number of tasks that wait here, or that will, since they have not begun."""
        self._credit = _MOST  # goes up with each spin that found a request, else down
        self._skipped = 0

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a request may be there."""
        return self._either.fileno()

    async def serve(self, most: int) -> None:
        """Answer requests until the session is over, with as many of pyfuse3's tasks as needed, up to *most*.
        (pyfuse3.main() would start one with each request, because it does not see that others wait here.)"""
        async with trio.open_nursery() as nursery:
            self._nursery, self._most = nursery, most
            self._context = contextvars.copy_context()
            self._start_task()

    def install(self) -> None:
        """Make pyfuse3's tasks wait here from now on."""
        pyfuse3._wait_fuse_readable = self.wait  # type: ignore[attr-defined] # noqa: SLF001 - see module

    def others_wait(self, known: int) -> bool:
        """Return True if more than *known* requests are under way, or one that was read ahead can begin."""
        return waiting()[1] > known or bool(self._either.poll(0))

    def end(self) -> None:
        """Wake the waiting tasks, because the session is over. Call this once, in the trio run. INVARIANT:
        later waits end, too, or a task that does not wait now would never end."""
        self._ended = True
        trio.lowlevel.notify_closing(self._either.fileno())
        self._let_in()

    def close(self) -> None:
        """Close the descriptor. Call this only when no task waits."""
        self._either.close()

    async def wait(self) -> bool:
        """Return True when a request may be there, False when the session is over. Another task may have read
        it: then a read gives EAGAIN, for the bridge a harmless EINTR."""
        self._idle += 1
        try:
            return await self._wait()
        finally:
            self._idle -= 1

    def _start_task(self) -> None:
        if self._nursery is not None and self._tasks < self._most:
            self._tasks += 1
            self._idle += 1  # until it waits
            # INVARIANT: not in the context of the request that waits, which has its ledger and its locks.
            start = partial(self._nursery.start_soon, self._answer, self._nursery, name="requests")
            self._context.run(start)

    async def _answer(self, nursery: trio.Nursery) -> None:
        self._idle -= 1
        try:
            await self._followed(pyfuse3._session_loop(nursery, 0, _STARTS_NONE))  # type: ignore[attr-defined] # noqa: SLF001
        finally:
            self._tasks -= 1
            self._let_in()

    @types.coroutine
    def _followed(self, loop: Awaitable[None]) -> Generator[Any, Any, None]:
        """Run a loop of requests. Where it waits in a handler, let another task take the next request. (Most
        handlers never wait. To wake another task for each request took 40 µs.)"""
        steps = loop.__await__()
        step, value = steps.send, None
        while True:
            try:
                trap = step(value)
            except StopIteration:
                return
            if not self._rests:
                self._hand_on()
            self._rests = False
            try:
                step, value = steps.send, (yield trap)
            except BaseException as error:  # noqa: BLE001 - the loop's own
                step, value = steps.throw, error

    def _hand_on(self) -> None:
        self._let_in()
        if not (self._asleep or self._idle):
            self._start_task()

    def _let_in(self) -> None:
        if not self._asleep:
            self._leave()

    async def _wait(self) -> bool:
        if self._ended:
            return False
        if not self._is_row_over() and self._is_ready():
            self._in_a_row += 1
            return True
        return await self._sleep()

    def _is_row_over(self) -> bool:
        return self._in_a_row >= _REQUESTS_PER_TURN or time.perf_counter_ns() >= self._row_until_ns

    def _is_ready(self) -> bool:
        return bool(self._either.poll(0)) or self._spin()

    def _spin(self) -> bool:
        """Poll for a while; True: a request came. While polling finds nothing, most calls do not poll."""
        if library.reader_state()[1]:  # the readers read the device now, and need the processor
            return False
        if self._credit < _WORTH:
            self._skipped += 1
            if self._skipped < _TRY_EVERY:
                return False
            self._skipped = 0
        _, under_way = waiting()
        until = time.perf_counter_ns() + (_SHORT_SPIN_NS if under_way else _SPIN_NS)
        while time.perf_counter_ns() < until:
            if self._either.poll(0):
                self._credit = min(_MOST, self._credit + 1)
                return True
        self._credit = max(0, self._credit - 1)
        return False

    async def _sleep(self) -> bool:
        """Wait in epoll, where one task sleeps at a time. INVARIANT: the call returns in a later iteration of
        the event loop than it began, so at most one row of requests begins in each.

        Of the tasks that wait for their place, the last that came is the next. A task's buffer keeps the
        memory of the longest request it ever read: if all took turns, the buffers would take 260 MB. Tasks of
        serve() beyond _PARKED end.
        """
        later_turn = self._asleep
        if later_turn:
            if self._nursery is not None and len(self._parked) >= _PARKED:
                return False
            await self._park()
        self._asleep = True
        try:
            if not later_turn and self._is_row_over():
                self._rests = True
                await trio.lowlevel.checkpoint()
                later_turn = True
            if self._ended:
                return False
            if not (later_turn and self._is_ready()):
                self._rests = True
                await trio.lowlevel.wait_readable(self._either.fileno())
            self._asleep = self._nursery is None
        except trio.ClosedResourceError:  # end()
            self._ended = True
            return False
        finally:
            if self._asleep:  # else it goes on with a request, and hands its place on if it waits
                self._leave()
        self._in_a_row, self._row_until_ns = 1, time.perf_counter_ns() + _ROW_NS
        return not self._ended

    async def _park(self) -> None:
        turn = trio.Event()
        self._parked.append(turn)
        self._rests = True
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():  # cancelled at the moment when this task was let in
                self._leave()
            else:
                self._parked.remove(turn)
            raise

    def _leave(self) -> None:
        self._asleep = bool(self._parked)
        if self._parked:
            self._parked.pop().set()

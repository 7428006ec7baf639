"""Writes to the trail that the event loop begins, and a thread without the interpreter lock carries out.

The loop makes the lines, and the thread (kernel/door/_appender.c) only writes them: a Python thread would
compete with the loop for the interpreter lock at every system call. A Python thread that takes the writer's
lock (WriterLock) first waits for the end of a write under way, and never finds one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple

from policyfs.journal.writing.backlog import Item
from policyfs.journal.writing.segment import Appender
from policyfs.journal.writing.ticket import AHEAD, SLICE, Ticket
from policyfs.journal.writing.writer import Batch, ChainWriter

_SLICE_S: Final = 0.0005
"""The longest wait for the previous write, in seconds. After it, a Python thread writes the queue's rest."""


def _nothing() -> None:
    """Do nothing. This is the default of WriterLock.settle, for a journal that makes all writes itself."""


class WriterLock:
    """The lock of the writer of a trail. INVARIANT: while a thread is in a ``with`` block of this lock, no
    other thread writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.settle: Callable[[], None] = _nothing
        """Callback that waits for the end of a write under way, however long, and notes its result."""

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self.settle()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def take(self) -> bool:
        """Take the lock if it is free. Unlike ``with``, this does not wait for a write under way."""
        return self._lock.acquire(blocking=False)


class _Started(NamedTuple):
    """A write under way. items: events and gaps of the queue. tickets: required events. batch: the lines."""

    items: list[Item]
    tickets: Sequence[Ticket]
    batch: Batch


class Offload:
    """A helper by which the event loop begins writes to one trail, one at a time. If a write fails, or cannot
    begin without a wait, none of its lines stays in the file, and a Python thread of the journal writes them,
    or gets the reason."""

    def __init__(
        self,
        appender: Appender,
        writer: ChainWriter,
        lock: WriterLock,
        *,
        take: Callable[[int], list[Item] | None],
        put_back: Callable[[Sequence[Item]], None],
        recorded: Callable[[Ticket], None],
    ) -> None:
        """appender: the C thread. lock: guards the writer and the callbacks. take: removes at most so many
        items from the queue; None: nothing may be written now. put_back: puts them back. recorded: notes that
        a ticket's event is in the trail."""
        self._appender: Final = appender
        self._writer: Final = writer
        self._lock: Final = lock
        self._take: Final = take
        self._put_back: Final = put_back
        self._recorded: Final = recorded
        self._started: _Started | None = None
        self._failed = False
        """True after a failed write. Then a Python thread makes the next write."""
        lock.settle = self._settle

    def write(self, tickets: Sequence[Ticket], seconds: float) -> bool:
        """Begin a write of the events of *tickets*. A few queued events are written before these events.

        Wait at most *seconds* for the end of the write. Return False if no write was begun. If a ticket's
        error is None after the call, its event is in the trail. Otherwise the write has failed, or its end is
        not known yet. Event loop only.
        """
        if not self._start(AHEAD, tickets):
            return False
        if self._appender.wait(seconds):
            self._settle_now()
        return True

    def flush(self, queued: int) -> Iterator[None]:
        """Begin one write of at most 100 queued items in each step, *queued* in all. The steps end if a
        Python thread must write the rest. Event loop only."""
        for _ in range(0, queued, SLICE):
            if not (self._appender.wait(_SLICE_S) and self._start(SLICE, ())):
                return
            yield

    @property
    def is_under_way(self) -> bool:
        """True if a write was begun, and this object has not dealt with its result yet."""
        return self._started is not None

    def close(self) -> None:
        """End the C thread, after the last write."""
        self._appender.close()

    def _start(self, most: int, tickets: Sequence[Ticket]) -> bool:
        if not self._lock.take():
            return False
        try:
            if not self._appender.wait(0):
                return False
            self._settle()
            failed, self._failed = self._failed, False
            items = None if failed else self._take(most)
            if items is None or not (items or tickets):
                return False
            self._started = self._begun(items, tickets)
            return self._started is not None
        finally:
            self._lock.__exit__(None, None, None)

    def _begun(self, items: list[Item], tickets: Sequence[Ticket]) -> _Started | None:
        batch = None
        try:
            batch = self._writer.start([*items, *(ticket.item for ticket in tickets)], self._appender)
        except Exception:  # noqa: BLE001 - a line cannot be made: the Python thread reports the error
            batch = None
        if batch is None:
            self._put_back(items)
            return None
        return _Started(items, tickets, batch)

    def _settle_now(self) -> None:
        """Note the result of a write that has ended, if the lock is free: else its next holder notes it."""
        if self._lock.take():
            try:
                self._settle()
            finally:
                self._lock.__exit__(None, None, None)

    def _settle(self) -> None:
        """Wait for the end of a write that is under way, and note its result. The caller holds the lock."""
        started = self._started
        if started is None:
            return
        try:
            self._writer.finish(started.batch, *self._appender.result())
        except OSError:
            self._failed = True
            self._put_back(started.items)
        else:
            for ticket in started.tickets:
                self._recorded(ticket)
        finally:
            self._started = None

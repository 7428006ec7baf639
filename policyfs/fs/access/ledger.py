"""A ledger has the required records of one request. The wait for these records blocks no other request.

A thread writes the records (journal/writing/committer.py); a request waits for those that take more than a
moment. The reply waits for refusals (error_boundary.guarded). An allowance comes before the access: an open
waits after its decision, and a change of the store that had to wait is decided again, and made only if that
gives the same event (`recorded_first`). So it follows from a decision after the last await."""

from __future__ import annotations

import contextlib
import errno
import functools
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from typing import Final, ParamSpec, Self, TypeVar

import trio

from policyfs.fs.sharing.kernel_locks import short
from policyfs.journal.writing.committer import Commit
from policyfs.journal.writing.journal import Journal
from policyfs.journal.writing.ticket import JournalError, Ticket
from policyfs.kernel.bridge import pyfuse3
from policyfs.trail.lines.bounds import bounded
from policyfs.trail.lines.event import Event

_PATIENCE_S: Final = 3.0
"""The time in which requests wait for the record, since a disk may be busy. Later all fail. Requests that
hold the kernel's locks wait as long: those that wait for such a lock would otherwise wait for the record.
"""


class PolicyRecord:
    """The record of another policy. Nobody may use what that allows before it is written. Event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._written = trio.Event()
        self._written.set()
        self._until_s = 0.0

    @property
    def is_missing(self) -> bool:
        """True if the record is not on the trail yet."""
        return not self._written.is_set()

    def expect(self, written: trio.Event) -> None:
        """Refuse requests until *written* is set: then the record is on the trail."""
        self._written, self._until_s = written, self._clock() + _PATIENCE_S

    async def wait(self) -> None:
        """Wait until the record is on the trail. Raise OSError (EIO) if that takes too long."""
        with trio.move_on_after(max(0.0, self._until_s - self._clock())):
            while self.is_missing:
                await self._written.wait()
        if self.is_missing:
            raise OSError(errno.EIO, "the record of the policy in force is not written")


P = ParamSpec("P")
R = TypeVar("R")

_TRIES: Final = 3
"""The limit of records of one change: each wait for one may change the next event. After the last, only size
and mtime may differ, else EBUSY. INVARIANT: the event loop never waits for the trail's disk."""


class Commits:
    """A writer that commits the required records of one mount to the trail. Event loop only."""

    def __init__(self, sink: Journal) -> None:
        self.sink = sink

    def at_once(self, ticket: Ticket) -> Commit | None:
        """Start to write a ticket's event, and return the commit; None if the app's budget makes it wait
        first. Raise FUSEError(EIO) if it could not be recorded."""
        if ticket.wait_s > 0:
            return None
        commit = self.sink.at_once([ticket])
        if commit.is_done:
            check(ticket)
        return commit

    async def wait(self, ticket: Ticket, commit: Commit | None) -> None:
        """Wait until a ticket is on record, or raise FUSEError(EIO). commit: from `at_once`."""
        if commit is None:
            await trio.sleep(ticket.wait_s)
            commit = self.sink.at_once([ticket])
        if not commit.is_done:
            told, token = trio.Event(), trio.lowlevel.current_trio_token()

            def tell() -> None:
                with contextlib.suppress(trio.RunFinishedError):
                    token.run_sync_soon(told.set)

            commit.when_done(tell)
            with short():
                await told.wait()
        check(ticket)

    async def put(self, ticket: Ticket) -> bool:
        """Write a ticket's event, and wait. Return True if other requests could run. Raise FUSEError(EIO)."""
        commit = self.at_once(ticket)
        if commit is not None and commit.is_done:
            return False
        await self.wait(ticket, commit)
        return True


def check(ticket: Ticket) -> None:
    """Raise FUSEError(EIO) if the event of a ticket could not be recorded."""
    try:
        ticket.check()
    except JournalError:
        raise pyfuse3.FUSEError(errno.EIO) from None


class UnrecordedError(Exception):
    """The error for a change of the store that must wait, since its record takes more than a moment."""

    def __init__(self, commits: Commits, ticket: Ticket, commit: Commit | None) -> None:
        super().__init__("not on record yet")
        self.commits = commits
        self.ticket = ticket
        self.commit = commit


class PacedError(Exception):
    """The error for a request that must start again after wait_s: its app's budget for records is used up."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"{wait_s:.3f} s to wait")
        self.wait_s = wait_s


class Ledger:
    """The ledger of one request: the events that must be on record before the reply. It is the current one
    inside its context. (A class, as a context made by a generator takes 2 µs more.)"""

    __slots__ = (
        "__weakref__", "_commits", "_first", "_recorded", "_token", "_waiting", "closed", "is_last", "paid",
        "waits_outside",
    )  # fmt: skip

    def __init__(self) -> None:
        self._commits: Commits | None = None
        self._waiting: list[tuple[Ticket, Commit | None]] = []
        self._first = False
        self._recorded: Event | None = None
        self._token: Token[Ledger | None]
        self.is_last = False
        """True during the last try of a method that `recorded_first` wraps (_TRIES)."""
        self.closed = False
        """True once the request is answered: no reply waits for records of its tasks that still run."""
        self.waits_outside = False
        """True while a method runs that `paced` wraps, which waits outside it for budget."""
        self.paid = False
        """True if the request has waited for its app's budget: its next record does not wait again."""

    def __enter__(self) -> Self:
        self._token = _LEDGER.set(self)
        return self

    def __exit__(self, *_error: object) -> None:
        self.closed = True
        _LEDGER.reset(self._token)

    def add(self, commits: Commits, ticket: Ticket, commit: Commit | None) -> None:
        """Make the reply wait for a ticket's event. commit: its write, or None if it has not begun."""
        self._commits = commits
        self._waiting.append((ticket, commit))

    async def settle(self) -> None:
        """Wait until all added events are on record, or raise FUSEError(EIO)."""
        while self._waiting and self._commits is not None:
            await self._commits.wait(*self._waiting.pop())

    @property
    def is_first(self) -> bool:
        """True while a method runs that `recorded_first` wraps, which can wait for required records."""
        return self._first

    def has(self, event: Event) -> bool:
        """Return True, once, if `recorded_first` has just recorded an event equal to *event*."""
        recorded, self._recorded = self._recorded, None
        if recorded is None:
            return False
        if self.is_last:
            event = event._replace(size_before=recorded.size_before, mtime_before_ns=recorded.mtime_before_ns)
        return _same(recorded) == _same(event)

    async def recorded_first(self, change: Callable[[], Coroutine[object, object, R]]) -> R:
        """Return the result of *change*, as the decorator `recorded_first` says: `is_first` is True in it."""
        before, self._first = self._first, True
        try:
            for left in range(_TRIES, -1, -1):
                self.is_last = not left
                try:
                    return await change()
                except UnrecordedError as error:
                    missing = error
                if left:
                    await missing.commits.wait(missing.ticket, missing.commit)
                    self._recorded = missing.ticket.event
        finally:
            self._first, self._recorded, self.is_last = before, None, False
        raise pyfuse3.FUSEError(errno.EBUSY)


def _same(event: Event) -> Event:
    """Return an event, cut to its limits, without what may differ between two decisions on one request."""
    return bounded(event)._replace(time_ns=0, exe="")


_LEDGER: Final[ContextVar[Ledger | None]] = ContextVar("ledger", default=None)


def current() -> Ledger | None:
    """Return the ledger of the current request; None outside a request or after its reply."""
    own = _LEDGER.get()
    return None if own is None or own.closed else own


def paced(
    method: Callable[P, Coroutine[object, object, R]],
) -> Callable[P, Coroutine[object, object, R]]:
    """Wrap a method that opens a file: on PacedError wait, without a lease, lock or descriptor, and again."""

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        own = current()
        if own is not None:
            own.waits_outside = True
            try:
                return await method(*args, **kwargs)
            except PacedError as error:
                wait_s = error.wait_s
            finally:
                own.waits_outside = False
            await trio.sleep(wait_s)
            own.paid = True
        return await method(*args, **kwargs)

    return wrapper


def recorded_first(
    method: Callable[P, Coroutine[object, object, R]],
) -> Callable[P, Coroutine[object, object, R]]:
    """Wrap a method that decides, records and changes the store: write the record without blocking the loop.

    If a record takes long, the method ends before it changes anything, and is called again once it is
    written. It goes on if its event equals the recorded one, else the app gets EBUSY in the end (_TRIES).
    INVARIANT: the method records once between its last await and the change, and changes nothing before."""

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        own = current()
        if own is None:
            return await method(*args, **kwargs)
        return await own.recorded_first(lambda: method(*args, **kwargs))

    return wrapper

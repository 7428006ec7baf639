"""Ledgers: the records that one request must have, and the wait for them off the event loop.

A thread writes the records (journal/committer.py). If that takes only a moment, the request simply goes on.
Otherwise the request waits, and other requests go on meanwhile. A refusal is noted in the request's ledger,
and the reply waits until it is on record (error_boundary.guarded). An allowance is on record before the
access: an open waits after its decision. If a change of the store has to wait for its record, it is decided
again after that, and made only if the second event is the same (`recorded_first`). So no change follows
from a decision that is older than the last await.
"""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, ParamSpec, Protocol, TypeVar

import trio

from policyfs.domain import Audit
from policyfs.journal.committer import Commit
from policyfs.journal.ticket import JournalError, Ticket
from policyfs.kernel.bridge import pyfuse3
from policyfs.trail.bounds import bounded
from policyfs.trail.event import Event

P = ParamSpec("P")
R = TypeVar("R")

_TRIES: Final = 3
"""The limit of records for one change. Another record is needed if the event changes during the wait."""


class Sink(Protocol):
    """The journal, as far as recording needs it."""

    def admit(self, event: Event, audit: Audit, *, paid: bool = False) -> Ticket | None:
        """Take an event. The caller must commit a returned ticket. paid: True if the app has waited for its
        budget.
        """

    def commit(self, tickets: Sequence[Ticket]) -> None:
        """Write the tickets in this thread. Afterwards each ticket knows whether it is on record."""

    def at_once(self, tickets: Sequence[Ticket]) -> Commit:
        """Start to write the tickets in another thread, and wait a moment at most for its end."""


class Commits:
    """The commits of one mount's required records. Event loop only."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def at_once(self, ticket: Ticket) -> Commit | None:
        """Start to write a ticket. None if its app is beyond its budget and must wait first: nothing is
        started.

        Raises FUSEError(EIO) if the ticket could not be recorded.
        """
        if ticket.wait_s > 0:
            return None
        commit = self.sink.at_once([ticket])
        if commit.is_done:
            check(ticket)
        return commit

    async def wait(self, ticket: Ticket, commit: Commit | None) -> None:
        """Wait until a ticket is on record. commit: the result of `at_once`. Raises FUSEError(EIO) if it
        could not be recorded.
        """
        if commit is None:
            await trio.sleep(ticket.wait_s)
            commit = self.sink.at_once([ticket])
        if not commit.is_done:
            told, token = trio.Event(), trio.lowlevel.current_trio_token()

            def tell() -> None:
                with contextlib.suppress(trio.RunFinishedError):
                    token.run_sync_soon(told.set)

            commit.when_done(tell)
            await told.wait()
        check(ticket)

    async def put(self, ticket: Ticket) -> bool:
        """Write a ticket and wait until it is on record. True if other requests went on meanwhile. Raises
        FUSEError(EIO) if it could not be recorded.
        """
        commit = self.at_once(ticket)
        if commit is not None and commit.is_done:
            return False
        await self.wait(ticket, commit)
        return True


def check(ticket: Ticket) -> None:
    """Raise FUSEError(EIO) if a ticket is not on record."""
    try:
        ticket.check()
    except JournalError:
        raise pyfuse3.FUSEError(errno.EIO) from None


class UnrecordedError(Exception):
    """A change must be on record before it is made, and its record is not written within a moment."""

    def __init__(self, commits: Commits, ticket: Ticket, commit: Commit | None) -> None:
        super().__init__("not on record yet")
        self.commits = commits
        self.ticket = ticket
        self.commit = commit


class PacedError(Exception):
    """An app is beyond its budget. Its request must be abandoned and started again after wait_s seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"{wait_s:.3f} s to wait")
        self.wait_s = wait_s


class Ledger:
    """The ledger of one request."""

    __slots__ = ("_commits", "_first", "_recorded", "_waiting", "closed", "paid", "waits_outside")

    def __init__(self) -> None:
        self._commits: Commits | None = None
        self._waiting: list[tuple[Ticket, Commit | None]] = []
        self._first = False
        self._recorded: Event | None = None
        self.closed = False
        """True once the request is answered: nobody would wait for records of its remaining tasks."""
        self.waits_outside = False
        """True if a request beyond its app's budget must raise PacedError, see `paced`."""
        self.paid = False
        """True if the request has waited already for its next record."""

    def add(self, commits: Commits, ticket: Ticket, commit: Commit | None) -> None:
        """Make the reply wait until a ticket is on record."""
        self._commits = commits
        self._waiting.append((ticket, commit))

    async def settle(self) -> None:
        """Wait for all added tickets. Raises FUSEError(EIO) if one could not be recorded."""
        while self._waiting and self._commits is not None:
            await self._commits.wait(*self._waiting.pop())

    @property
    def is_first(self) -> bool:
        """True under `recorded_first`, which can wait for required records."""
        return self._first

    def has(self, event: Event) -> bool:
        """True if `recorded_first` has put exactly this event on record. A second call returns False."""
        recorded, self._recorded = self._recorded, None
        return recorded is not None and _same(recorded) == _same(event)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Set is_first inside. The caller must handle UnrecordedError with `record`."""
        before, self._first = self._first, True
        try:
            yield
        finally:
            self._first, self._recorded = before, None

    async def record(self, missing: UnrecordedError) -> None:
        """Wait until the missing event is on record. Raises FUSEError(EIO) if it could not be recorded."""
        await missing.commits.wait(missing.ticket, missing.commit)
        self._recorded = missing.ticket.event


def _same(event: Event) -> Event:
    """Return the event, bounded, without the fields that may differ when it is decided again."""
    return bounded(event)._replace(time_ns=0, exe="")


_LEDGER: Final[ContextVar[Ledger | None]] = ContextVar("ledger", default=None)


def current() -> Ledger | None:
    """Return the ledger of the current request; None in other tasks."""
    own = _LEDGER.get()
    return None if own is None or own.closed else own


@contextmanager
def ledger() -> Iterator[Ledger]:
    """Provide a ledger for the request inside."""
    made = Ledger()
    token = _LEDGER.set(made)
    try:
        yield made
    finally:
        made.closed = True
        _LEDGER.reset(token)


def paced(
    method: Callable[P, Coroutine[object, object, R]],
) -> Callable[P, Coroutine[object, object, R]]:
    """Wrap a method that opens: if its app is beyond its budget, abandon the open, wait, and start it again.

    During the wait the request holds no lease, lock or descriptor for which others wait.
    """

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
    """Wrap a method that decides, records and changes the store: write the record without blocking.

    If a required record takes long, the method is left before it changes anything, and called again once the
    record is written. It decides anew, and goes on if its event is the recorded one. INVARIANT: between its
    last await and the change the method records once, and it changes nothing before that record.
    """

    @functools.wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        own = current()
        if own is not None:
            with own.first():
                for _ in range(_TRIES):
                    try:
                        return await method(*args, **kwargs)
                    except UnrecordedError as error:
                        missing = error
                    await own.record(missing)
        return await method(*args, **kwargs)  # its event changes too often: this call waits for the disk

    return wrapper

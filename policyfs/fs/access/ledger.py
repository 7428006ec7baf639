"""Ledgers: what one request has to have on record, and the wait for it off the event loop.

A thread writes (journal/committer.py). Where that takes no more than a moment the request goes on as if it
had been written here. Else others go on meanwhile: a refusal is noted in the request's ledger, and the reply
waits until it is on record (boundary.guarded). What gives access is on record before the access: an open
waits for it in the middle; what changes the store is decided, recorded, and decided again, and done if that
comes to the very same event (`recorded_first`). So nothing is done by a decision that is older than the
last await.
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
"""How often what is about to be done is recorded anew because it has changed meanwhile."""


class Sink(Protocol):
    """The journal, as far as recording needs it."""

    def admit(self, event: Event, audit: Audit, *, paid: bool = False) -> Ticket | None:
        """Take an event over; what it returns is to be committed. paid: its app has waited for it."""

    def commit(self, tickets: Sequence[Ticket]) -> None:
        """Write these, in this thread; each then says whether it is on record."""

    def at_once(self, tickets: Sequence[Ticket]) -> Commit:
        """Have these written in another thread, and wait for that for no more than a moment."""


class Commits:
    """What must be on record of one mount, on its way. Event loop only."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def at_once(self, ticket: Ticket) -> Commit | None:
        """Have it written. None if its app is beyond its budget and is to wait before; then nothing is
        done yet. Raises FUSEError(EIO) if it could not be recorded.
        """
        if ticket.wait_s > 0:
            return None
        commit = self.sink.at_once([ticket])
        if commit.is_done:
            check(ticket)
        return commit

    async def wait(self, ticket: Ticket, commit: Commit | None) -> None:
        """Wait until it is on record, as `at_once` has left it. Raises FUSEError(EIO) if it could not be."""
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
        """Have it written, and wait until it is on record. Returns whether others went on meanwhile.
        Raises FUSEError(EIO) if it could not be recorded.
        """
        commit = self.at_once(ticket)
        if commit is not None and commit.is_done:
            return False
        await self.wait(ticket, commit)
        return True


def check(ticket: Ticket) -> None:
    """Raises FUSEError(EIO) if it is not on record."""
    try:
        ticket.check()
    except JournalError:
        raise pyfuse3.FUSEError(errno.EIO) from None


class UnrecordedError(Exception):
    """What is about to be done must be on record before, and is not yet: it takes longer than a moment."""

    def __init__(self, commits: Commits, ticket: Ticket, commit: Commit | None) -> None:
        super().__init__("not on record yet")
        self.commits = commits
        self.ticket = ticket
        self.commit = commit


class PacedError(Exception):
    """An app is beyond its budget. The request is to be left and begun anew after so many seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"{wait_s:.3f} s to wait")
        self.wait_s = wait_s


class Ledger:
    """Of one request."""

    __slots__ = ("_commits", "_first", "_recorded", "_waiting", "closed", "paid", "waits_outside")

    def __init__(self) -> None:
        self._commits: Commits | None = None
        self._waiting: list[tuple[Ticket, Commit | None]] = []
        self._first = False
        self._recorded: Event | None = None
        self.closed = False
        """The request is answered: nobody waits for what a task of it would add."""
        self.waits_outside = False
        """Who is beyond its budget is to raise PacedError, see `paced`."""
        self.paid = False
        """It has waited for what it will have recorded next."""

    def add(self, commits: Commits, ticket: Ticket, commit: Commit | None) -> None:
        """The reply waits until this is on record."""
        self._commits = commits
        self._waiting.append((ticket, commit))

    async def settle(self) -> None:
        """Wait for all that was added. Raises FUSEError(EIO) if it could not be recorded."""
        while self._waiting and self._commits is not None:
            await self._commits.wait(*self._waiting.pop())

    @property
    def is_first(self) -> bool:
        """True where `recorded_first` has called: what must be on record may be left for it."""
        return self._first

    def has(self, event: Event) -> bool:
        """True, once, if this very event is what `recorded_first` has put on record."""
        recorded, self._recorded = self._recorded, None
        return recorded is not None and _same(recorded) == _same(event)

    @contextmanager
    def first(self) -> Iterator[None]:
        """In it what must be on record is recorded by `record`."""
        before, self._first = self._first, True
        try:
            yield
        finally:
            self._first, self._recorded = before, None

    async def record(self, missing: UnrecordedError) -> None:
        """Wait until this is on record. Raises FUSEError(EIO) if it could not be recorded."""
        await missing.commits.wait(missing.ticket, missing.commit)
        self._recorded = missing.ticket.event


def _same(event: Event) -> Event:
    """The event, bounded, without what may differ when it is decided again."""
    return bounded(event)._replace(time_ns=0, exe="")


_LEDGER: Final[ContextVar[Ledger | None]] = ContextVar("ledger", default=None)


def current() -> Ledger | None:
    """The ledger of the request that is being worked on; None in other tasks."""
    own = _LEDGER.get()
    return None if own is None or own.closed else own


@contextmanager
def ledger() -> Iterator[Ledger]:
    """A ledger for the request that is worked on inside."""
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
    """Of a method that opens: have its app wait for its budget with nothing in hand, and begin anew then.

    So no lease, lock or descriptor of the request is held meanwhile that others would wait for.
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
    """Of a method that decides, records and then changes the store: have it on record without blocking.

    Where it must be on record the method is left, before it has changed anything, and called again when
    that is so: it decides anew, and goes on if its event is the one on record. INVARIANT: between its last
    await and the change it records once, and before that it changes nothing.
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
        return await method(*args, **kwargs)  # what changes faster than it can be recorded is written within

    return wrapper

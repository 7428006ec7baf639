"""Ledgers: refusals wait for their record at the end, changes before they are made, and nobody for others."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from policyfs.domain import Audit, Decision, Principal
from policyfs.fs.access.audit import Call, Recorder
from policyfs.fs.access.ledger import Ledger, PolicyRecord, current, paced, recorded_first
from policyfs.fs.error_boundary import guarded
from policyfs.fs.inodes.caller import Caller
from policyfs.journal.writing.committer import Committer
from policyfs.journal.writing.journal import JournalError
from policyfs.journal.writing.ticket import Ticket
from policyfs.kernel.bridge import pyfuse3
from policyfs.store.frozen import Version
from policyfs.trail.lines.event import Event
from tests.support.mount.file_system import on_trio


class Slow:
    """A sink whose commits end when they are let go; *broken*: with an error."""

    def __init__(self) -> None:
        self.commits: list[list[Event]] = []
        self.free = threading.Event()
        self.free.set()
        self.broken = False
        self.wait_s = 0.0
        self.at_once = Committer(self.commit).at_once

    def admit(self, event: Event, audit: Audit, *, paid: bool = False) -> Ticket | None:
        return Ticket(event, 0.0 if paid else self.wait_s) if audit is Audit.REQUIRED else None

    def commit(self, tickets: Sequence[Ticket]) -> None:
        assert threading.current_thread() is not threading.main_thread(), "the event loop waits for the disk"
        self.commits.append([ticket.event for ticket in tickets])
        assert self.free.wait(20)
        for ticket in tickets:
            ticket.error = JournalError("no room") if self.broken else None


CALLER = Caller(lambda uid: Principal(1, "app", uid), 10010, 10010, 0, 0)
REFUSED = Decision(allowed=False, errno=errno.EACCES, audit=Audit.REQUIRED)
ALLOWED = Decision(allowed=True, errno=0, audit=Audit.REQUIRED)


class Handler:
    """Requests that refuse, that open and that change something, the first of which is written slowly."""

    def __init__(self, sink: Slow) -> None:
        self.sink = sink
        self.recorder = Recorder(sink, "/mnt")
        self.bugs = self
        self.policy_record = PolicyRecord()
        self.decided: list[int] = []
        self.changed: list[int] = []
        self.size = self.holding = 0

    def bug(self, where: str, error: BaseException) -> None:
        raise AssertionError(where) from error

    @guarded
    async def refuse(self) -> None:
        self.recorder.decided(CALLER, Call("open", "open"), b"/a", REFUSED)
        raise pyfuse3.FUSEError(errno.EACCES)

    @guarded
    async def open(self) -> None:
        await self._open()

    @paced
    async def _open(self) -> None:
        self.holding += 1
        try:
            await self.recorder.recorded(CALLER, Call("open", "open"), b"/a", ALLOWED)
        finally:
            self.holding -= 1

    @guarded
    async def change(self, *, grows: int = 0, moves: int = 0) -> None:
        await self._change(grows, moves)

    @recorded_first
    async def _change(self, grows: int, moves: int) -> None:
        size, path = self.size, b"/a"
        self.decided.append(size)
        if grows >= len(self.decided):
            self.size += 1
        if moves >= len(self.decided):
            path = b"/%d" % len(self.decided)
        self.recorder.decided(CALLER, Call("unlink", "unlink"), path, ALLOWED, before=Version(size, 0, 0))
        self.changed.append(size)


@contextmanager
def held(sink: Slow) -> Iterator[None]:
    """While inside, no commit ends; nobody can wait for one on the loop but for a moment."""
    sink.free.clear()
    try:
        yield
    finally:
        sink.free.set()


async def errno_of(coroutine) -> int:
    try:
        await coroutine
    except pyfuse3.FUSEError as error:
        return error.errno
    return 0


@on_trio
async def test_a_refusal_is_answered_once_it_is_on_record_and_nobody_else_waits() -> None:
    sink = Slow()
    handler, answers = Handler(sink), []

    async def ask() -> None:
        answers.append(await errno_of(handler.refuse()))

    async with trio.open_nursery() as nursery:
        with held(sink):
            for _ in range(9):
                nursery.start_soon(ask)
                started = time.monotonic()
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert time.monotonic() - started < 5
            assert answers == []
    assert answers == [errno.EACCES] * 9
    assert [len(commit) for commit in sink.commits] == [1, 8], "what came meanwhile went together"


@pytest.mark.parametrize("slow", [False, True])
@on_trio
async def test_what_cannot_be_recorded_is_an_error_and_changes_nothing(slow: bool) -> None:
    sink = Slow()
    sink.broken = True
    handler = Handler(sink)
    for request in (handler.refuse, handler.open, handler.change):
        answers = []

        async def ask(request=request, answers=answers) -> None:
            answers.append(await errno_of(request()))

        async with trio.open_nursery() as nursery:
            with held(sink) if slow else nullcontext():
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert answers == [errno.EIO]
    assert handler.changed == []


@on_trio
async def test_where_it_takes_no_time_a_change_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # the thread has its turn on any machine
    monkeypatch.setattr("policyfs.journal.writing.committer._MOMENT_S", 20)
    handler = Handler(Slow())
    assert await errno_of(handler.change()) == 0
    assert (len(handler.decided), handler.changed) == (1, [0])


@pytest.mark.parametrize("grows", [0, 1, 2])
@on_trio
async def test_what_changes_while_it_is_recorded_is_recorded_as_it_is_then(grows: int) -> None:
    sink = Slow()
    handler = Handler(sink)
    async with trio.open_nursery() as nursery:
        with held(sink):
            nursery.start_soon(partial(handler.change, grows=grows))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert handler.changed == []
    (made,) = handler.changed
    assert made == handler.decided[-1]
    assert len(handler.decided) > 1
    assert made in [event.size_before for commit in sink.commits for event in commit]


@pytest.mark.parametrize("slow", [False, True])
@on_trio
async def test_a_file_that_is_written_all_the_time_can_be_removed(slow: bool) -> None:
    handler = Handler(Slow())
    async with trio.open_nursery() as nursery:
        with held(handler.sink) if slow else nullcontext():
            nursery.start_soon(partial(handler.change, grows=100))
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(handler.changed) == 1


@on_trio
async def test_who_changes_what_is_to_be_recorded_each_time_gets_an_error_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("policyfs.journal.writing.committer._MOMENT_S", 0)
    handler = Handler(Slow())
    assert await errno_of(handler.change(moves=100)) == errno.EBUSY
    assert handler.changed == []
    handler.decided.clear()
    assert await errno_of(handler.change(moves=2)) == 0
    assert len(handler.changed) == 1


@on_trio
async def test_who_is_beyond_its_budget_waits_alone() -> None:
    sink = Slow()
    handler, order = Handler(sink), []

    async def ask(name: str, wait_s: float) -> None:
        sink.wait_s = wait_s
        await handler.change()
        order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "beyond", 0.2)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, "within", 0.0)
    assert order == ["within", "beyond"]
    assert len(sink.commits) == 2


@on_trio
async def test_an_open_holds_nothing_while_it_waits_for_its_budget() -> None:
    sink = Slow()
    sink.wait_s = 0.3
    handler = Handler(sink)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handler.open)
        await trio.testing.wait_all_tasks_blocked()
        assert (handler.holding, sink.commits) == (0, [])
    assert [len(commit) for commit in sink.commits] == [1]


@on_trio
async def test_a_ledger_that_is_closed_is_nobodys() -> None:
    """A task that outlives its request must not note what nobody would wait for."""
    found: list[Ledger | None] = []
    go_on = trio.Event()

    async def later() -> None:
        found.append(current())
        await go_on.wait()
        found.append(current())

    async with trio.open_nursery() as nursery:
        with Ledger() as own:
            nursery.start_soon(later)
            await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    assert found == [own, None]


class Handlers:
    """Two handlers: one that decides, one that does not."""

    def __init__(self, record: PolicyRecord) -> None:
        self.bugs = self.policy_record = record

    @guarded
    async def lookup(self) -> str:
        return "found"

    @guarded
    async def release(self) -> str:
        return "released"


def run(main: Callable[[], object]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_nobody_waits_while_the_policy_is_on_record() -> None:
    async def main() -> None:
        record = PolicyRecord(trio.current_time)
        assert not record.is_missing
        assert await Handlers(record).lookup() == "found"
        assert trio.current_time() == 0

    run(main)


def test_requests_wait_for_the_record_but_not_long() -> None:
    async def main() -> None:
        record, written = PolicyRecord(trio.current_time), trio.Event()
        handlers = Handlers(record)
        record.expect(written)
        assert await handlers.release() == "released"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handlers.lookup)
            await trio.sleep(2)  # the disk is busy
            written.set()
        assert trio.current_time() == pytest.approx(2)
        record.expect(trio.Event())
        for _ in range(3):  # only the first one waits
            with pytest.raises(pyfuse3.FUSEError) as refused:
                await handlers.lookup()
            assert refused.value.errno == errno.EIO
        assert trio.current_time() == pytest.approx(5)

    run(main)


def test_the_record_of_an_earlier_policy_is_not_that_of_the_next() -> None:
    async def main() -> None:
        record, first, second = PolicyRecord(trio.current_time), trio.Event(), trio.Event()
        record.expect(first)
        record.expect(second)
        first.set()
        assert record.is_missing
        second.set()
        await record.wait()

    run(main)

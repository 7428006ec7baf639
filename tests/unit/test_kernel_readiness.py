"""How long the daemon looks at the device before it goes to sleep."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
import trio
import trio.testing

from policyfs.kernel import readiness
from policyfs.kernel.bridge import pyfuse3
from policyfs.kernel.readiness import Readiness
from tests.support.mount.file_system import on_trio

LOOK_NS = 10_000


class Clock:
    """Each look at the clock takes LOOK_NS."""

    def __init__(self) -> None:
        self.now = 0

    def perf_counter_ns(self) -> int:
        self.now += LOOK_NS
        return self.now


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def idle(pipe, monkeypatch) -> Iterator[tuple[Readiness, Clock]]:
    """A wait at a device that has nothing."""
    clock = Clock()
    monkeypatch.setattr(readiness, "time", clock)
    turns = os.eventfd(0)
    made = Readiness(pipe[0], turns)
    yield made, clock
    made.close()
    os.close(turns)


@pytest.mark.parametrize(("under_way", "most_ns"), [(0, 200_000), (1, 40_000)])
def test_it_looks_longer_while_nobody_else_waits(idle, monkeypatch, under_way: int, most_ns: int) -> None:
    waiting, clock = idle
    monkeypatch.setattr(readiness, "waiting", lambda: (0, under_way))
    assert not waiting._spin()
    assert most_ns < clock.now <= most_ns + 2 * LOOK_NS


def test_it_looks_no_longer_while_readers_read(idle, pipe, monkeypatch) -> None:
    """They and the client need the processor. What is left to Python wakes it."""
    waiting, clock = idle
    monkeypatch.setattr(readiness, "waiting", lambda: (0, 0))
    monkeypatch.setattr(readiness.library, "reader_state", lambda: (2, True, 1))
    os.write(pipe[1], b"x")
    assert not any(waiting._spin() for _ in range(16))
    assert clock.now == 0
    monkeypatch.setattr(readiness.library, "reader_state", lambda: (2, False, 1))
    assert waiting._spin()


def test_it_looks_less_often_where_that_does_not_pay(idle, pipe, monkeypatch) -> None:
    waiting, clock = idle
    monkeypatch.setattr(readiness, "waiting", lambda: (0, 0))

    def looked() -> bool:
        before = clock.now
        return waiting._spin() or clock.now > before

    assert all(looked() for _ in range(7))
    assert sum(looked() for _ in range(64)) == 4
    os.write(pipe[1], b"x")
    assert any(waiting._spin() for _ in range(16))


@on_trio
async def test_the_end_of_a_session_ends_waits_that_come_later(idle, pipe, monkeypatch) -> None:
    """No task waited when it ended; a request that comes then must not be waited for, nor taken."""
    waiting, _ = idle
    monkeypatch.setattr(readiness, "waiting", lambda: (0, 0))
    waiting.end()
    with trio.fail_after(5):
        assert not await waiting.wait()
        os.write(pipe[1], b"x")
        assert not await waiting.wait()


@on_trio
async def test_the_end_of_a_session_wakes_all_that_wait(idle, monkeypatch) -> None:
    waiting, _ = idle
    monkeypatch.setattr(readiness, "waiting", lambda: (0, 0))
    found: list[bool] = []

    async def wait() -> None:
        found.append(await waiting.wait())

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            waiting.end()
    assert found == [False] * 3


class Tasks:
    """Ten that wait, each for one request after the other, as pyfuse3's do."""

    def __init__(self, waiting: Readiness, pipe: tuple[int, int]) -> None:
        self.waiting, self.pipe = waiting, pipe
        self.answered: list[int] = []
        self.clock, self.request_ns = Clock(), 0

    async def serve(self, number: int) -> None:
        while await self.waiting.wait():
            try:
                os.read(self.pipe[0], 1)
            except BlockingIOError:
                continue  # another one was quicker
            self.answered.append(number)
            self.clock.now += self.request_ns

    async def ask(self, times: int) -> None:
        for _ in range(times):
            await trio.testing.wait_all_tasks_blocked()
            os.write(self.pipe[1], b"x")
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def tasks(idle, pipe, monkeypatch) -> Tasks:
    monkeypatch.setattr(readiness, "waiting", lambda: (0, 0))
    return Tasks(idle[0], pipe)


@on_trio
async def test_requests_that_come_one_by_one_go_to_few_tasks(tasks: Tasks) -> None:
    """Each task has a buffer; those of the others stay untouched."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(tasks.serve, number)
            await tasks.ask(60)
            nursery.cancel_scope.cancel()
    assert len(tasks.answered) == 60
    assert len(set(tasks.answered)) <= 2


@on_trio
async def test_tasks_that_are_cancelled_leave_the_wait_to_others(tasks: Tasks) -> None:
    """Those that sleep, that wait behind them, and those whose turn has just come."""
    scopes = [trio.CancelScope() for _ in range(10)]

    async def serve(number: int) -> None:
        with scopes[number]:
            await tasks.serve(number)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(serve, number)
            for number in (0, 9, 4, 5, 1):
                await tasks.ask(3)
                tasks.answered.clear()
                os.write(tasks.pipe[1], b"x")
                scopes[number].cancel()
            await tasks.ask(3)
            assert len(tasks.answered) >= 3
            assert not set(tasks.answered) & {0, 9, 4, 5}
            tasks.waiting.end()


OF_REQUEST = ContextVar("of_request", default="none")
OVER = b"o"
"""What a task reads when the session is over."""


class Served(Tasks):
    """The tasks of serve(). Their answers wait while the door is closed."""

    def __init__(self, waiting: Readiness, pipe: tuple[int, int]) -> None:
        super().__init__(waiting, pipe)
        self.door = trio.Event()
        self.running = self.begun = 0
        self.contexts: list[str] = []

    async def loop(self, nursery: trio.Nursery, min_tasks: int, max_tasks: int) -> None:
        assert min_tasks >= 0 > max_tasks  # else pyfuse3 would start tasks, or end them
        self.begun += 1
        self.running += 1
        self.contexts.append(OF_REQUEST.get())
        while await self.waiting.wait():
            with contextlib.suppress(BlockingIOError):
                self.answered += os.read(self.pipe[0], 1)
                if self.answered[-1:] == [*OVER]:
                    os.write(self.pipe[1], OVER)  # for the others
                    break
                own = OF_REQUEST.set("a request")
                if not self.door.is_set():  # else it is answered at once
                    await self.door.wait()
                OF_REQUEST.reset(own)
        self.running -= 1


@pytest.fixture
def served(idle, pipe, monkeypatch) -> Served:
    monkeypatch.setattr(readiness, "waiting", lambda: (0, 0))
    made = Served(idle[0], pipe)
    monkeypatch.setattr(pyfuse3, "_session_loop", made.loop)
    return made


@on_trio
async def test_no_task_is_started_for_requests_that_come_one_by_one(served: Served) -> None:
    """pyfuse3.main() starts one with each, up to its limit: some 700, each with a buffer."""
    served.door.set()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.waiting.serve, 100)
            await served.ask(60)
            assert len(served.answered) == 60
            assert served.begun == 1  # no answer has waited
            served.waiting.end()
    assert served.running == 0


@on_trio
async def test_the_task_that_ends_with_the_session_wakes_those_that_wait(served: Served) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.waiting.serve, 100)
            await served.ask(3)
            served.door.set()
            await served.ask(3)
            assert served.running == 4
            os.write(served.pipe[1], OVER)
    assert served.running == 0


@pytest.mark.parametrize(("most", "taken"), [(100, 30), (20, 20)])
@on_trio
async def test_each_request_that_waits_has_a_task_and_few_stay(served: Served, most: int, taken: int) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.waiting.serve, most)
            await served.ask(30)
            assert len(served.answered) == taken
            assert served.running == min(31, most)
            assert set(served.contexts) == {"none"}
            served.door.set()
            await served.ask(10)
            assert len(served.answered) == 40
            assert served.running <= 6
            served.waiting.end()
    assert served.running == 0


@pytest.mark.parametrize(("request_ns", "most"), [(0, 32), (1_000_000, 6)])
@on_trio
async def test_all_tasks_together_answer_few_requests_before_others_have_their_turn(
    idle, tasks: Tasks, pipe: tuple[int, int], request_ns: int, most: int
) -> None:
    """The requests of one app may never end or take long, and pyfuse3 has up to 192 tasks for them."""
    os.write(pipe[1], b"x" * 60_000)
    tasks.request_ns, tasks.clock = request_ns, idle[1]
    between: list[int] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(tasks.serve, number)
            for _ in range(50):
                before = len(tasks.answered)
                await trio.lowlevel.checkpoint()
                between.append(len(tasks.answered) - before)
            nursery.cancel_scope.cancel()
    assert max(between) <= 2 * most  # of the loop's turn in which this task waits, and of the next one
    assert sum(between) >= 20 * most  # the device is not left alone

"""The pace of periodic work: whatever wakes the event loop is followed by a turn, and an idle loop sleeps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
import trio
import trio.testing

from policyfs.daemon import pace
from policyfs.daemon.pace import PERIOD_S, REST_S, Pace, at_next

SOON_S = 1.5 * PERIOD_S + 0.001
"""The longest time from an event to the next turn."""


class Wakes(trio.abc.Instrument):
    """Counts how often the event loop has slept."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += timeout > 0


class Jumping(trio.abc.Clock):
    """A clock that stands still while tasks run, and is at the next deadline when all sleep: no busy machine
    makes a task late. (MockClock wakes the event loop before it jumps, which ends a rest.)"""

    def __init__(self) -> None:
        self._now_s = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump, in place of sleeping."""
        self._now_s = max(self._now_s, deadline)
        return 1e-6


class Tasks:
    """Tasks that use one pace. turns: the times of the turns of each. again: the last one has work."""

    def __init__(self, number: int = 3) -> None:
        self.pace = Pace()
        self.again = False
        self.turns: list[list[float]] = [[] for _ in range(number)]

    async def run(self, number: int) -> None:
        again = False
        while True:
            await self.pace.next_turn(again=again)
            self.turns[number].append(trio.current_time())
            again = self.again and number == len(self.turns) - 1

    async def all(self, work: Callable) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(len(self.turns)):
                nursery.start_soon(self.run, number)
            await work()
            nursery.cancel_scope.cancel()


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the bridge was told."""
    told: list[bool] = []
    monkeypatch.setattr(pace.vectors, "ring_early", told.append)
    return told


def test_an_idle_event_loop_wakes_once_in_each_rest(early: list[bool]) -> None:
    tasks, wakes = Tasks(), Wakes()

    async def idle() -> None:
        await trio.sleep(5.5 * REST_S)

    trio.run(tasks.all, idle, clock=Jumping(), instruments=(wakes,))
    assert {len(turns) for turns in tasks.turns} in ({5}, {6})
    for times in zip(*tasks.turns, strict=True):
        assert max(times) - min(times) < PERIOD_S / 2, "all have their turns at the same times"
    assert wakes.count <= 12
    assert early[:4] == [True, False, True, False]


def test_all_go_on_at_the_period_while_one_has_work() -> None:
    tasks = Tasks()
    tasks.again = True

    async def some_time() -> None:
        await trio.sleep(3 * REST_S)

    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(tasks.all, some_time, clock=clock)
    for turns in tasks.turns:
        steps = [after - before for before, after in itertools.pairwise(turns)]
        assert steps == pytest.approx([PERIOD_S] * len(steps), abs=PERIOD_S / 2)
        assert len(steps) >= 2.5 * REST_S / PERIOD_S


def test_whatever_wakes_the_loop_is_followed_by_a_turn_and_then_by_a_rest(early: list[bool]) -> None:
    tasks = Tasks()
    happened: list[float] = []

    async def now_and_then() -> None:
        for pause_s in (0.11, 0.3, 0.613, 0.021, 0.9, 0.4, 0.33):
            await trio.sleep(pause_s)
            happened.append(trio.current_time())
        await trio.sleep(3.5 * REST_S)

    trio.run(tasks.all, now_and_then, clock=Jumping())
    late_s = [
        min(turn - time_s for turn in turns if turn > time_s) for turns in tasks.turns for time_s in happened
    ]
    assert max(late_s) <= SOON_S
    for turns in tasks.turns:
        assert len([turn for turn in turns if turn > happened[-1]]) <= 7
    assert set(early) == {True, False}


def test_the_result_of_a_thread_is_followed_by_a_turn() -> None:
    tasks, ended = Tasks(), []

    async def in_a_thread() -> None:
        await trio.to_thread.run_sync(time.sleep, 0.2)
        ended.append(trio.current_time())
        await trio.sleep(5 * SOON_S)

    trio.run(tasks.all, in_a_thread)
    assert any(ended[0] < turn < ended[0] + 5 * SOON_S for turn in tasks.turns[0])


def test_a_task_that_comes_back_late_joins_the_next_turn_of_the_others() -> None:
    tasks, wakes = Tasks(), Wakes()

    async def late() -> None:
        for _ in range(4):
            await tasks.pace.next_turn(again=False)
            await trio.to_thread.run_sync(time.sleep, 0.013)

    trio.run(tasks.all, late, instruments=(wakes,))
    assert wakes.count <= 24, "each time: the rest, the thread, and one turn for all"


def test_multiples_are_the_same_for_all() -> None:
    async def times() -> None:
        await trio.sleep(0.3)
        assert at_next(1.0) > trio.current_time()
        assert at_next(1.0) == at_next(1.0) == pytest.approx(round(at_next(1.0)))
        await trio.sleep_until(at_next(1.0))
        assert at_next(1.0) == pytest.approx(trio.current_time() + 1.0)

    trio.run(times, clock=trio.testing.MockClock(autojump_threshold=0))

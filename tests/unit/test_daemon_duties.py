"""Periodic duties: none waits for another, whatever disk one of them waits for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest
import trio
import trio.testing

from policyfs.daemon import duties, pace
from policyfs.daemon.duties import Duties
from policyfs.daemon.pace import PERIOD_S


class Parts:
    """The parts that have duties. hangs: the name of the call that waits until let_go is set."""

    def __init__(self, hangs: str = "") -> None:
        self.hangs = hangs
        self.let_go = threading.Event()
        self.happened: list[str] = []
        self.at: list[float] = []
        self.is_due = self.is_waiting = self.again = True
        self.is_busy = False
        self.told: Mapping[str, int] = {}
        self.lost: dict[str, int] = {}
        self.kill = self.many_links = False

    def done(self, what: str) -> None:
        self.happened.append(what)
        if what == self.hangs:
            assert self.let_go.wait(10)

    def tend(self) -> bool:
        self.at.append(trio.current_time())
        self.done("tended")
        return self.again

    def flush_steps(self) -> Iterator[None]:
        self.done("steps")
        if self.is_due:
            yield

    async def take_links(self) -> bool:
        self.done("links taken")
        return self.many_links

    def works(self, *, findings: bool = True) -> tuple[Callable, ...]:
        duties = Duties(
            (self.tend,), settle=lambda: self.done("settled"), trail=self, losses=_Losses(self),
            kills=_Kills(self), lost=lambda: (self.lost, "why"),
            findings=_Findings(self) if findings else None, links=self.take_links if findings else None,
        )  # fmt: skip
        return duties.works(_Kept(self))


class _Losses:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def is_due(self, counts: Mapping[str, int]) -> bool:
        return counts != self.parts.told

    def flush(self, counts: Mapping[str, int], last_error: str) -> None:
        assert last_error == "why"
        self.parts.told = dict(counts)
        self.parts.done("trail flushed")


class _Kills:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @property
    def is_due(self) -> bool:
        return self.parts.kill

    def flush(self) -> None:
        self.parts.kill = False
        self.parts.done("kill recorded")


class _Kept:
    is_crowded = is_synced = False

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.room = self.bins = self

    def tend(self) -> None:
        self.parts.done("kept tended")

    def sync(self) -> None:
        self.is_synced = True
        self.parts.done("kept synced")


class _Findings:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @property
    def is_waiting(self) -> bool:
        return self.parts.is_waiting

    def flush(self) -> None:
        self.parts.done("findings flushed")


async def _run(parts: Parts, seconds: float, **options: bool) -> None:
    async with trio.open_nursery() as nursery:
        for work in parts.works(**options):
            nursery.start_soon(work)
        await trio.sleep(seconds)
        parts.let_go.set()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("hangs", ["trail flushed", "findings flushed"])
def test_a_flush_that_hangs_delays_no_other_duty(hangs: str) -> None:
    parts = Parts(hangs)
    trio.run(_run, parts, 8 * PERIOD_S)
    counts = {what: parts.happened.count(what) for what in ("tended", "trail flushed", "findings flushed")}
    assert counts.pop(hangs) == 1, "no second one begins beside it"
    assert min(counts.values()) >= 3, counts


def test_nothing_is_flushed_if_nothing_is_due() -> None:
    parts = Parts()
    parts.is_due = parts.is_waiting = False
    trio.run(_run, parts, 4 * PERIOD_S)
    assert set(parts.happened) == {"tended", "settled", "steps", "links taken", "kept tended", "kept synced"}
    assert parts.happened.index("settled") < parts.happened.index("steps")


def test_losses_of_workers_are_a_reason_to_flush() -> None:
    parts = Parts()
    parts.is_due = parts.is_waiting = False
    parts.lost = {"killed": 2}
    trio.run(_run, parts, 4 * PERIOD_S)
    assert parts.happened.count("trail flushed") == 1
    assert parts.told == {"killed": 2}


def test_links_are_taken_at_the_period_while_many_come() -> None:
    parts = Parts()
    parts.is_due = parts.is_waiting = parts.again = False
    parts.many_links = True
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(_run, parts, 8 * PERIOD_S, clock=clock)
    assert parts.happened.count("links taken") >= 4


def test_a_kill_is_recorded_once() -> None:
    parts = Parts()
    parts.is_due = parts.is_waiting = False
    parts.kill = True
    trio.run(_run, parts, 4 * PERIOD_S)
    assert parts.happened.count("kill recorded") == 1


def test_without_a_database_findings_are_no_duty() -> None:
    assert [work.__name__ for work in Parts().works(findings=False)] == ["tend", "flush_trail", "tend_kept"]


def test_all_turns_come_at_the_same_times() -> None:
    parts = Parts()
    parts.is_due = parts.is_waiting = False
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(_run, parts, 10 * PERIOD_S, clock=clock)
    steps = [after - before for before, after in itertools.pairwise(parts.at)]
    assert steps == pytest.approx([PERIOD_S] * len(steps), abs=PERIOD_S / 2)
    assert len(steps) >= 7


@pytest.mark.parametrize("work", ["", "again", "is_busy", "lost"])
def test_duties_rest_only_if_no_work_is_left(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()
    parts.is_due = parts.is_waiting = parts.again = False
    if work == "lost":  # a loss that cannot be recorded yet
        parts.lost = {"killed": 2}
        monkeypatch.setattr(_Losses, "flush", lambda *_: None)
    elif work:
        setattr(parts, work, True)
    monkeypatch.setattr(pace, "REST_S", rest_s := 20 * PERIOD_S)
    trio.run(_run, parts, 2.5 * rest_s)
    assert len(parts.at) >= 20 if work else len(parts.at) <= 5


def test_findings_that_stay_are_work() -> None:
    parts = Parts()
    parts.is_due = parts.again = False  # and is_waiting stays, as if the database were damaged
    trio.run(_run, parts, 8 * PERIOD_S)
    assert parts.happened.count("findings flushed") >= 3


class Log:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def bug(self, where: str, error: BaseException) -> None:
        self.seen.append((where, repr(error)))


def test_a_task_that_fails_is_started_again_and_its_bug_is_logged() -> None:
    log, runs = Log(), []

    async def work() -> None:
        runs.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(runs) == 1:
            raise RuntimeError("once")
        if len(runs) == 2:
            raise ExceptionGroup("several", [OSError(5, "x"), ValueError("y")])

    trio.run(duties.kept, log, "flush", work, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [where for where, _ in log.seen] == ["flush", "flush"]
    assert [after - before for before, after in itertools.pairwise(runs)] == [duties.PAUSE_S] * 2


def test_cancelling_ends_it() -> None:
    log = Log()

    async def main() -> None:
        with trio.move_on_after(5):
            await duties.kept(log, "watch", trio.sleep_forever)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert log.seen == []


def test_a_task_that_runs_once_ends_no_other_by_its_bug() -> None:
    log, ended = Log(), []

    async def work() -> None:
        raise RuntimeError("once")

    async def other() -> None:
        await trio.sleep(1)
        ended.append(True)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(duties.once, log, "work", work)
            nursery.start_soon(other)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (log.seen, ended) == ([("work", "RuntimeError('once')")], [True])

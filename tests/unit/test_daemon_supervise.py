"""What runs beside the requests survives its own bugs."""

from __future__ import annotations

import itertools

import trio
import trio.testing

from policyfs.daemon import supervise


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

    trio.run(supervise.kept, log, "flush", work, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [where for where, _ in log.seen] == ["flush", "flush"]
    assert [after - before for before, after in itertools.pairwise(runs)] == [supervise.PAUSE_S] * 2


def test_cancelling_ends_it() -> None:
    log = Log()

    async def main() -> None:
        with trio.move_on_after(5):
            await supervise.kept(log, "watch", trio.sleep_forever)

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
            nursery.start_soon(supervise.once, log, "work", work)
            nursery.start_soon(other)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (log.seen, ended) == ([("work", "RuntimeError('once')")], [True])

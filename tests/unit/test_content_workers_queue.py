"""The waiting line: bounded, first come first served, lanes in turn, no place lost."""

from __future__ import annotations

import trio
import trio.testing

from policyfs.content.workers.queue import Line


async def _through(line: Line, lane: str, log: list[str]) -> None:
    if await line.enter(lane):
        log.append(lane)
        await trio.testing.wait_all_tasks_blocked()
        line.leave(lane)
    else:
        log.append(f"not {lane}")


def run_in_order(line: Line, lanes: list[str]) -> list[str]:
    """Who got through, in which order, when all come one after the other while a place is taken."""
    log: list[str] = []

    async def main() -> None:
        assert await line.enter("first")
        async with trio.open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(_through, line, lane, log)
                await trio.testing.wait_all_tasks_blocked()
            line.leave("first")

    trio.run(main)
    return log


def test_first_come_first_served_within_a_lane_and_lanes_in_turn():
    assert run_in_order(Line(1, 100), list("aaaabcb")) == list("abcabaa")


def test_a_full_line_sends_away():
    assert run_in_order(Line(1, 4), list("abcde")) == ["not e", *"abcd"]


def test_one_lane_cannot_fill_the_line():
    assert run_in_order(Line(1, 4), list("aaaab")) == ["not a", "not a", "a", "b", "a"]


def test_one_lane_never_has_the_last_place():
    """It waits, and whoever comes from another does not."""
    line = Line(3, 10)
    log: list[str] = []

    async def main() -> None:
        for lane in "aa":
            assert await line.enter(lane)
        async with trio.open_nursery() as nursery:
            for lane in "aa":
                nursery.start_soon(_through, line, lane, log)
            await trio.testing.wait_all_tasks_blocked()
            assert (line.waiting, log) == (2, [])
            assert await line.enter("b")
            line.leave("b")
            await trio.testing.wait_all_tasks_blocked()
            assert (line.waiting, log) == (2, []), "what another gave back is not a's"
            line.leave("a")
        assert log == ["a", "a"]
        line.leave("a")
        for lane in "ccd":
            assert await line.enter(lane), "all three places are free again"

    trio.run(main)


def test_a_cancelled_task_leaves_no_hole():
    line = Line(1, 10)

    async def main() -> None:
        assert await line.enter("a")
        with trio.move_on_after(0):
            await line.enter("b")
        assert line.waiting == 0
        line.leave("a")
        assert await line.enter("c")
        line.leave("c")

    trio.run(main)


def test_a_place_given_to_a_task_that_is_cancelled_at_once_goes_on():
    line = Line(1, 10)

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            if await line.enter("b"):
                line.leave("b")

    async def main() -> None:
        assert await line.enter("a")
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, scope)
            await trio.testing.wait_all_tasks_blocked()
            line.leave("a")
            scope.cancel()
        with trio.fail_after(5):
            assert await line.enter("c")

    trio.run(main)


def test_closing_sends_everybody_away():
    line = Line(1, 10)
    log: list[str] = []

    async def main() -> None:
        assert await line.enter("a")
        async with trio.open_nursery() as nursery:
            for lane in "bc":
                nursery.start_soon(_through, line, lane, log)
            await trio.testing.wait_all_tasks_blocked()
            line.close()
        line.leave("a")
        assert not await line.enter("d")

    trio.run(main)
    assert sorted(log) == ["not b", "not c"]

"""Late writes are checked once when they are due, whatever other checks end with."""

from __future__ import annotations

import errno

import trio
from trio.testing import MockClock

from policyfs.fs.data.late_writes import LateWrites


def test_each_node_is_checked_once_when_it_is_due() -> None:
    checked, begin = list[tuple[object, float]](), 0.0

    async def settle(node: object) -> None:
        checked.append((node, trio.current_time() - begin))
        if node == "first":
            await trio.sleep(10)
            raise OSError(errno.ENOSPC, "full")

    async def main() -> None:
        nonlocal begin
        begin = trio.current_time()
        late = LateWrites(settle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(late.run)
            for node, pause in (("first", 0.5), ("second", 0.25), ("first", 5.0), ("third", 20.0)):
                late.note(node)  # type: ignore[arg-type]
                await trio.sleep(pause)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    times = [(node, round(at, 2)) for node, at in checked]
    assert times == [("first", 1.0), ("second", 1.5), ("third", 6.75)]


def test_the_end_checks_what_waits() -> None:
    checked = list[object]()

    async def settle(node: object) -> None:
        await trio.sleep(2.0)
        checked.append(node)

    async def main() -> None:
        late = LateWrites(settle)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(late.run)
            late.note("under way")  # type: ignore[arg-type]
            await trio.sleep(1.5)
            late.note("waits")  # type: ignore[arg-type]
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert sorted(map(str, checked)) == ["under way", "waits"]

"""When a long request lets others in."""

from __future__ import annotations

import time

import trio

from policyfs.fs.sharing.pauses import SLICE, SLICE_S, Pauses, in_slices


def _pauses_after(names: int, *, others: bool, work: int = 1) -> list[int]:
    pauses = Pauses(lambda: others)
    return [number for number in range(1, names + 1) if pauses.due(work)]


def test_nobody_waits_for_more_than_a_few_names() -> None:
    steps = _pauses_after(1000, others=True)
    assert steps[:3] == [16, 32, 48]
    assert len(steps) == 1000 // 16


def test_where_nobody_waits_it_goes_on_for_a_slice() -> None:
    assert _pauses_after(1000, others=False) == list(range(SLICE, 1001, SLICE))


def test_what_costs_more_counts_more() -> None:
    assert _pauses_after(32, others=False, work=8) == [8, 16, 24, 32]
    assert _pauses_after(8, others=True, work=8) == [2, 4, 6, 8]


def test_who_comes_amid_a_slice_is_let_in_at_the_next_look() -> None:
    there = False
    pauses = Pauses(lambda: there)
    assert not any(pauses.due() for _ in range(20))
    there = True
    assert [pauses.due() for _ in range(12)] == [False] * 11 + [True]


def test_long_work_lets_others_have_a_turn_after_each_slice() -> None:
    left, turns = 200, 0

    def go_on() -> bool:
        nonlocal left
        until = time.perf_counter() + SLICE_S / 10
        while time.perf_counter() < until:
            pass
        left -= 1
        return left > 0

    async def main() -> None:
        nonlocal turns
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_slices, go_on)
            while left:
                turns += 1
                await trio.lowlevel.checkpoint()

    trio.run(main)
    assert turns >= 200 // 10

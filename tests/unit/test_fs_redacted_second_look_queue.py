"""The queue of second looks: in turn, in order, and with room for every lane."""

from __future__ import annotations

import pytest

from policyfs.fs.redacted import second_look_queue
from policyfs.fs.redacted.second_look_queue import WaitingLooks


def queue(*looks: tuple[str, int]) -> WaitingLooks[int]:
    made: WaitingLooks[int] = WaitingLooks()
    for lane, key in looks:
        made.put(lane, key, key * 10)
    return made


def test_lanes_take_turns_and_each_goes_in_the_order_of_arrival() -> None:
    waiting = queue(("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6))
    assert len(waiting) == 6
    assert [waiting.pop() for _ in range(6)] == [10, 40, 50, 20, 60, 30]
    assert len(waiting) == 0
    with pytest.raises(KeyError):
        waiting.pop()


def test_a_look_is_replaced_in_its_place_and_counted_once() -> None:
    waiting = queue(("a", 1), ("a", 2))
    waiting.put("a", 1, 7)
    assert len(waiting) == 2
    assert waiting.get("a", 1) == 7
    assert waiting.get("b", 1) is None
    assert waiting.get("a", 3) is None
    assert waiting.pop() == 7


def test_the_same_key_of_another_lane_is_another_look() -> None:
    waiting = queue(("a", 1))
    waiting.put("b", 1, 7)
    assert len(waiting) == 2


def test_a_lane_has_no_more_places_than_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_look_queue, "WAITING_MAX", 10)
    waiting = queue()

    def fill(lane: str) -> int:
        count = 0
        while waiting.has_room(lane):
            waiting.put(lane, count, count)
            count += 1
        return count

    assert fill("a") == 6
    assert fill("b") == 3
    assert fill("c") == 1
    assert [waiting.has_room(lane) for lane in "abc"] == [False] * 3
    assert waiting.has_room("d"), "one without places always gets one"
    for _ in range(5):
        waiting.pop()
    assert waiting.has_room("a")


def test_after_a_clear_nothing_waits() -> None:
    waiting = queue(("a", 1), ("b", 2))
    waiting.clear()
    assert len(waiting) == 0
    assert waiting.get("a", 1) is None
    waiting.put("a", 3, 30)
    assert waiting.pop() == 30

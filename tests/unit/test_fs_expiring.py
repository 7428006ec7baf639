"""Maps whose entries end by themselves."""

from __future__ import annotations

import pytest

from policyfs.fs.expiring import Expiring
from tests.support.models.clock import Clock


def test_an_entry_ends(clock: Clock) -> None:
    expiring = Expiring[str, int](5.0, clock_s=clock)
    expiring.put("a", 1)
    assert (expiring.get("a"), expiring.left_s("a")) == (1, 5)
    assert (expiring.get("b"), expiring.left_s("b")) == (None, 0)
    clock.now_s += 5
    assert (expiring.get("a"), expiring.left_s("a"), expiring.pop("a")) == (None, 0, None)


def test_put_begins_anew_and_change_does_not(clock: Clock) -> None:
    expiring = Expiring[str, int](5.0, clock_s=clock)
    expiring.put("a", 1)
    clock.now_s += 4
    expiring.put("b", 1)
    expiring.change("a", 2)
    assert (expiring.get("a"), expiring.left_s("a")) == (2, 1)
    expiring.put("a", 3)
    clock.now_s += 4
    assert (expiring.get("a"), expiring.left_s("a")) == (3, 1)
    with pytest.raises(KeyError):
        expiring.change("c", 1)


def test_what_has_ended_takes_no_memory(clock: Clock) -> None:
    expiring = Expiring[int, bool](5.0, clock_s=clock)
    for number in range(100):
        expiring.put(number, True)
        clock.now_s += 1
    assert expiring
    assert len(expiring) == 4
    clock.now_s += 5
    assert len(expiring) == 0
    assert not expiring


def test_the_oldest_make_room(clock: Clock) -> None:
    expiring = Expiring[int, bool](5.0, most=3, clock_s=clock)
    for number in (1, 2, 3, 1, 4):
        expiring.put(number, True)
    assert [number for number in range(6) if expiring.get(number)] == [1, 3, 4]
    assert expiring.pop(1)
    expiring.put(5, True)
    assert expiring.get(3)

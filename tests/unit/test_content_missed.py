"""Failures that are remembered for a while."""

from __future__ import annotations

import pytest

from policyfs.content.missed import FIRST_S, KEPT_S, LONGEST_S, Missed
from tests.support.models.clock import Clock


@pytest.fixture
def missed(clock: Clock) -> Missed:
    return Missed(clock, capacity=3)


def pause_s(missed: Missed, clock: Clock) -> float:
    """How long the file ``a`` is refused from now on, to half a second; the clock is there then."""
    began_s = clock.now_s
    while missed.refusal("a") is not None:
        clock.now_s += 0.5
    return clock.now_s - began_s


def test_a_failure_refuses_for_a_while_and_says_why(missed, clock):
    assert missed.refusal("a") is None
    missed.note("a", "no answer within 5 s")
    clock.now_s += 0.4
    assert missed.refusal("a") == "no answer within 5 s, 0 s ago; not tried again for 1 s"
    assert missed.refusal("b") is None
    clock.now_s += FIRST_S
    assert missed.refusal("a") is None


def test_each_further_failure_refuses_for_twice_as_long(missed, clock):
    pauses = []
    for _ in range(11):
        missed.note("a", "late")
        pauses.append(pause_s(missed, clock))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_S, LONGEST_S]


def test_a_good_answer_and_time_forget(missed, clock):
    for _ in range(5):
        missed.note("a", "late")
    missed.forget("a")
    missed.note("a", "late")
    assert pause_s(missed, clock) == FIRST_S
    clock.now_s += KEPT_S
    missed.note("a", "late")
    assert pause_s(missed, clock) == FIRST_S


def test_there_is_room_for_so_many(missed):
    for key in "abcd":
        missed.note(key, "late")
    assert len(missed) == 3
    assert missed.refusal("a") is None
    assert missed.refusal("d") is not None

"""Events that wait to be written: bounded, and fair to all apps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policyfs.journal.writing.backlog import Backlog
from policyfs.trail.lines.bounds import memory_bytes
from tests.support.mount.trail import an_event

SIZE = memory_bytes(an_event(app="a"))


def test_no_app_gets_more_than_is_left_for_all_others():
    made = Backlog(8, 1 << 30)
    taken = 0
    while made.add(an_event(app="a")):
        taken += 1
    assert taken == 4
    assert made.add(an_event(app="b"))
    assert made.add(an_event(app="b"))
    assert not made.add(an_event(app="b"))
    assert made.add(an_event(app="c"))
    assert not made.add(an_event(app="c"))
    assert not made.is_full


def test_the_bound_in_bytes_is_as_fair():
    made = Backlog(1000, 8 * SIZE)
    taken = 0
    while made.add(an_event(app="a")):
        taken += 1
    assert taken == 4
    assert made.size == 4 * SIZE
    assert not made.add(an_event(app="b", path=b"/" * (4 * SIZE)))


def test_what_must_be_there_is_whatever_there_is():
    made = Backlog(2, 1 << 30)
    for _ in range(5):
        made.force(an_event(app="a"))
    assert len(made) == 5
    assert made.is_full
    assert not made.add(an_event(app="b"))


def test_one_gap_of_a_reason_waits():
    made = Backlog(10, 1 << 30)
    gap = made.gap("full", 5)
    assert made.gap("full", 9) is gap
    assert made.gap("slow", 9) is not gap
    assert len(made) == 2
    assert made.take(10, 1 << 30)[0] is gap
    assert made.gap("full", 10) is not gap


def test_a_gap_lasts_from_the_earliest_event_to_the_latest():
    """They are not counted in the order of their times."""
    made = Backlog(10, 1 << 30)
    for time_ns in (7, 9, 5):
        made.drop(an_event(time_ns=time_ns), "full")
    gap = made.gap("full", 6)
    assert (gap.dropped, gap.first_ns, gap.last_ns) == (3, 5, 9)


def test_items_are_taken_in_order_and_put_back_in_front():
    made = Backlog(10, 1 << 30)
    events = [an_event(app=name) for name in "abcd"]
    for event in events:
        made.force(event)
    first = made.take(2, 1 << 30)
    assert first == events[:2]
    made.put_back(first)
    assert made.items() == events
    assert made.take(0, 1 << 30) == []
    assert made.take(10, SIZE * 2) == events[:2]
    assert made.take(10, 0) == [events[2]]


def test_nothing_is_left_after_all_was_dropped():
    made = Backlog(4, 1 << 30)
    made.force(an_event(app="a"))
    made.gap("full", 5)
    made.clear()
    assert (len(made), made.size, made.items()) == (0, 0, [])
    assert made.add(an_event(app="a"))
    assert made.add(an_event(app="a"))


@given(st.lists(st.sampled_from(["add a", "add b", "gap", "take", "back", "force a"]), max_size=40))
def test_sizes_and_shares_are_those_of_what_waits(steps):
    made, away = Backlog(6, 1 << 30), []
    for step in steps:
        if step.startswith("add"):
            made.add(an_event(app=step[-1]))
        elif step.startswith("force"):
            made.force(an_event(app="a"))
        elif step == "gap":
            made.gap("full", 1)
        elif step == "take":
            away = made.take(2, 1 << 30)
        else:
            made.put_back(away)
            away = []
    waiting = made.items()
    assert len(made) == len(waiting)
    while made.take(100, 1 << 30):
        pass
    assert made.size == 0
    assert not made.is_full
    for _ in range(3):
        assert made.add(an_event(app="a"))

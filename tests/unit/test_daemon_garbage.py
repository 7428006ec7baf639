"""Garbage is collected a little at a time, and none of it for ever is missed.

Everything is collected again and again, what the process has frozen too: in one that has collected all tests,
this takes minutes.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from policyfs.daemon.garbage import IDLE_S, Garbage
from policyfs.policy.collector import paused

pytestmark = pytest.mark.alone


class Thing:
    """One that may refer to itself."""

    def __init__(self) -> None:
        self.other: object = None


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
    gc.collect()
    if frozen:  # as tests/conftest.py leaves it
        gc.freeze()


def circle() -> Thing:
    thing = Thing()
    thing.other = thing
    return thing


def filled(garbage: Garbage) -> list[list[int]]:
    """Objects that stay, until a collection was due."""
    made: list[list[int]] = []
    before = garbage.freezes
    while garbage.freezes == before:
        made += [[number] for number in range(1000)]
        assert len(made) < 100_000
        garbage.tick()
    return made


def test_what_outlives_a_collection_is_left_out_of_later_ones() -> None:
    """Attack E1.4: Have so many files known and answers kept that collecting or forgetting them takes long
    Guard: policyfs/daemon/garbage.py::Garbage.tick, policyfs/policy/memo.py::Memo.keep
    Also: tests/unit/test_policy_memo.py::test_it_never_forgets_all_in_one_go
    Without: tests/mount/test_fairness.py::test_collecting_garbage_holds_nobody_up
    """
    garbage = Garbage(lambda: 0)
    garbage.start()
    frozen = gc.get_freeze_count()
    made = filled(garbage)
    assert gc.get_freeze_count() >= frozen + len(made)
    assert len(gc.get_objects()) < 1000


def test_what_is_garbage_by_then_is_collected_before() -> None:
    garbage = Garbage(lambda: 0)
    garbage.start()
    gone = weakref.ref(circle())
    made = filled(garbage)
    assert made
    assert gone() is None


def test_a_circle_that_was_frozen_alive_goes_when_nobody_asks() -> None:
    asked = 0
    garbage = Garbage(lambda: asked, most_freezes=1)
    garbage.start()
    thing = circle()
    gone = weakref.ref(thing)
    made = filled(garbage)
    del thing
    for now in range(100):  # somebody asks all the time
        asked += 1
        garbage.tick(now)
    assert gone() is not None
    garbage.tick(200)
    garbage.tick(200 + IDLE_S)
    assert gone() is None
    assert made
    assert garbage.freezes == 0


def test_what_replaces_old_objects_is_collected_in_time() -> None:
    """Made less freed is nothing here, so Python would never think of it."""
    asked = 0
    garbage = Garbage(lambda: asked)
    garbage.start()
    cache = [[number] for number in range(50_000)]
    garbage.tick(0)
    before = garbage.freezes
    for now in range(1, 4):
        asked += 1
        for number in range(len(cache)):
            cache[number] = [number]
        garbage.tick(now)
    assert garbage.freezes == before + 3
    garbage.tick(9)  # nobody asked
    assert garbage.freezes == before + 3


def test_everything_is_gone_through_in_the_end_though_somebody_always_asks() -> None:
    asked = 0
    garbage = Garbage(lambda: asked, most_freezes=1)
    garbage.start()
    thing = circle()
    gone = weakref.ref(thing)
    garbage.tick(0)
    garbage.freezes = 1
    gc.freeze()
    del thing
    for now in range(1, 60):
        asked += 1
        garbage.tick(2 * now)
    assert gone() is None


def test_python_itself_goes_through_everything_no_more() -> None:
    Garbage(lambda: 0).start()
    ran: list[int] = []
    gc.callbacks.append(note := lambda phase, info: ran.append(info["generation"]))
    try:
        made = [[number] for number in range(100_000)]
    finally:
        gc.callbacks.remove(note)
    assert made
    assert 1 in ran
    assert 2 not in ran


def test_nothing_is_collected_while_the_collector_is_paused() -> None:
    """A thread compiles a policy then: to visit all that it makes held every request up for 120 ms."""
    garbage = Garbage(lambda: 0)
    garbage.start()
    with paused():
        made = [[number] for number in range(100_000)]
        garbage.tick()
        assert garbage.freezes == 0
        assert len(gc.get_objects()) > len(made)

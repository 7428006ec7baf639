"""Long work beside requests: threads that compute take short turns, and an old policy is freed in slices."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import trio
import trio.testing

from policyfs.daemon import large_work
from policyfs.daemon.large_work import Leftovers, lasting_objects
from tests.support.models.policies import engine_of

RULES = "- {id: all, allow: [see], paths: '/a/***'}\n"


def test_threads_that_compute_take_short_turns():
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(0.005)  # the interval with which Python starts
        large_work.take_short_turns()
        assert sys.getswitchinterval() < 0.005 / 5
    finally:
        sys.setswitchinterval(before)


def test_nothing_is_collected_while_objects_that_stay_are_made():
    with pytest.raises(ZeroDivisionError), lasting_objects():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()


def test_what_an_engine_held_is_freed():
    engine = engine_of(RULES)
    state = weakref.ref(engine.state_of(b"/a/b"))
    leftovers = Leftovers(engine)
    del engine
    assert state() is not None
    trio.run(leftovers.free)
    assert state() is None


def test_an_engine_in_use_keeps_what_it_has():
    engine = engine_of(RULES)
    state = engine.state_of(b"/a/b")
    trio.run(Leftovers(engine).free, clock=trio.testing.MockClock(autojump_threshold=0))
    assert engine.state_of(b"/a/b") is state

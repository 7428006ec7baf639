"""A large policy beside requests: short turns while it is compiled, and the old one freed in slices."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import trio
import trio.testing

from policyfs.daemon.large_work import Leftovers, short_turns
from tests.support.models.policies import engine_of

RULES = "- {id: all, allow: [see], paths: '/a/***'}\n"


def test_turns_are_short_for_a_while():
    before = sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError), short_turns():
        assert sys.getswitchinterval() < before
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert sys.getswitchinterval() == before
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

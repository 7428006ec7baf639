"""Names made to be dear: what a policy does with them is counted in steps, states and answers kept."""

from __future__ import annotations

import random
import time

import pytest

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.decide import End, Engine, PathState
from policyfs.policy.globs import names
from policyfs.policy.globs.automaton import MAX_BOUND
from policyfs.policy.rules.visibility import Sight
from tests.support.models.policies import engine_of

RULES = """\
- {id: own, allow: [all], paths: ["/x/*-{uid}*", "/y/*{uid}*/**", "/z/*{uid}*{app}*/***"]}
- {id: deep, allow: [see], paths: "/w/**", unless: {path: "/**/*{uid}*/**"}}
- {id: way, allow: [see], paths: "/**/{uid}/secret"}
- {id: stop, deny: [see], paths: "/**/secret"}
"""
CHANCE = random.Random(7)


def long_digits() -> bytes:
    return b"-" + b"".join(b"%d" % CHANCE.randrange(10) for _ in range(250))


def ask(engine: Engine, state: PathState) -> None:
    """All that a LOOKUP, a listing and an open ask about a path."""
    for who in (engine.principal(10010), engine.principal(5)):
        for ftype in (FileType.REGULAR, FileType.DIRECTORY):
            engine.decide(who, Op.SEE | Op.READ, state, ftype, Facts())
            engine.needs(who, Op.READ, state, ftype)
        engine.view(who, state)
        engine.caller_matters(state)


def parts(state: PathState) -> int:
    """How many captures and rules a state has."""
    return 1 + len(state.position.bound) + len(state.hides)


@pytest.mark.parametrize("directory", [b"/x", b"/y", b"/z", b"/w"])
def test_a_name_of_many_uids_is_tried_for_the_caller_alone(directory, monkeypatch):
    tried: list[str] = []
    matches = names.matches
    monkeypatch.setattr(names, "matches", lambda pattern, text: tried.append(text) or matches(pattern, text))
    engine = engine_of(RULES)
    parent = engine.state_of(directory)
    name = long_digits()
    state = engine.child(parent, name)
    ask(engine, state)
    assert 0 < tried.count(name.decode()) < 30
    assert parts(state) < 5


def test_every_uid_that_a_name_could_mean_has_its_answer():
    engine = engine_of("- {id: own, allow: [see], paths: '/x/*{uid}*'}")
    state = engine.state_of(b"/x/IMG_20100101_100121")
    seen = {
        uid
        for uid in range(10010, 10020)
        if engine.decide(engine.principal(uid), Op.SEE, state, FileType.REGULAR, Facts()).allowed
    }
    assert seen == {10010, 10012}


def test_directories_within_directories_of_numbers_are_lost_before_they_are_dear():
    engine = engine_of(RULES)
    state = engine.state_of(b"/w")
    most = 0
    for _ in range(MAX_BOUND + 30):
        state = engine.child(state, long_digits())
        most = max(most, parts(state))
    assert state.position.lost
    assert most <= 3 * MAX_BOUND


def test_new_numbers_are_no_new_places_to_look_below(monkeypatch):
    looked: list[object] = []
    look = Sight._look
    monkeypatch.setattr(Sight, "_look", lambda self, *args: looked.append(args) or look(self, *args))
    engine = engine_of(RULES)
    parent = engine.state_of(b"/v")
    ask(engine, engine.child(parent, b"1"))
    looked.clear()
    for number in range(2, 200):
        ask(engine, engine.child(parent, b"%d" % number))
    assert not looked


def test_answers_about_large_states_push_each_other_out():
    engine = engine_of(RULES, remembered=4000)
    parent = engine.state_of(b"/w")
    for _ in range(100):
        parent = engine.child(parent, long_digits())
    first = engine.child(parent, b"0")
    for number in range(1, 100):
        ask(engine, engine.child(parent, b"%d" % number))
    assert first.units > 100
    assert engine.known_child(parent, b"0") is None


def test_a_name_of_many_uids_moves_as_one_that_is_too_hard_to_compare():
    engine = engine_of("- {id: own, allow: [all], who: {app: any}, paths: ['/x/*{uid}*', '/x']}")
    who = engine.principal(10010)
    old, new = (engine.state_of(b"/x/10010" + long_digits()) for _ in range(2))
    began = time.process_time()
    answer = engine.rename(
        who, End(old, FileType.REGULAR, Facts()), End(new, FileType.REGULAR, Facts()), None, False
    )
    assert answer.allowed  # the caller may copy and delete: nothing is gained
    assert time.process_time() - began < 0.5


def test_thousands_of_such_names_take_no_second():
    engine = engine_of(RULES)
    parents = [engine.state_of(path) for path in (b"/x", b"/y", b"/z", b"/w")]
    chosen = [long_digits() for _ in range(250)]
    began = time.process_time()
    for name in chosen:
        for parent in parents:
            ask(engine, engine.child(parent, name))
    assert time.process_time() - began < 5


def test_long_names_and_captures_take_more_of_what_is_kept():
    """100,000 of them took 114 MB; of short names as many take a tenth of that."""
    engine = engine_of("- {id: own, allow: [see], paths: ['/x/*-{uid}', '/y/*']}", remembered=1000)
    short, long, captured = engine.state_of(b"/y"), engine.state_of(b"/y"), engine.state_of(b"/x")
    kept = {}
    for where, names_of in {
        "short": (short, [b"%d" % n for n in range(2000)]),
        "long": (long, [b"%d" % n + b"a" * 230 for n in range(2000)]),
        "captured": (captured, [b"a-%d" % (10_000 + n) for n in range(2000)]),
    }.items():
        state, all_names = names_of
        for name in all_names:
            engine.child(state, name)
        kept[where] = sum(engine.known_child(state, name) is not None for name in all_names)
    assert kept["short"] > 900
    assert 50 < kept["long"] < 150
    assert kept["captured"] < 100

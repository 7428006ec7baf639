"""Witnesses for every class of names: what two names of one class do, they do alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.policy.globs import classes
from policyfs.policy.globs.automaton import Automaton, AutomatonBuilder
from policyfs.policy.globs.classes import TooHardError, name_classes, unused_char
from policyfs.policy.globs.paths import parse_glob

APPS = ("camera", "maps")
GLOBS = ["/a", "/a*", "/*b", "/{ab,c}", "/?", "/??", "/x/{app}/**", "/{app}-*", "/a{uid}", "/**/c", "/*a*"]


def automaton_of(globs: list[str], *, folded: bool = False) -> Automaton:
    builder = AutomatonBuilder(frozenset(APPS))
    for number, glob in enumerate(globs):
        builder.add(parse_glob(glob), number, folded=folded)
    return builder.build()


@given(
    st.lists(st.sampled_from(GLOBS), min_size=1, max_size=4, unique=True),
    st.text("abcxmps-17AB", min_size=1, max_size=7),
    st.booleans(),
)
def test_every_name_does_what_some_witness_does(globs, name, folded):
    made = automaton_of(globs, folded=folded)
    names = name_classes(made, [made.root], APPS, (1, 7))

    def reached(text: str) -> object:
        for app in (*APPS, "other"):
            for uid in (1, 7, 99):
                yield made.resolved(made.step(made.root, text), app, uid).free

    known = [tuple(reached(witness)) for witness in names]
    # values that were not asked for are like any other name: compare for the callers that were
    if not any("{" in glob and ("app" in glob or "uid" in glob) for glob in globs):
        assert tuple(reached(name)) in known


def test_literals_have_themselves_and_one_other():
    made = automaton_of(["/one", "/two/three"])
    found = name_classes(made, [made.root], APPS, ())
    assert found[:2] == ["one", "two"]
    assert len(found) == 3
    assert found[2] not in ("one", "two", "three")


def test_captures_are_filled_in():
    made = automaton_of(["/x-{app}", "/{uid}"])
    found = name_classes(made, [made.root], APPS, (10010,))
    assert {"x-camera", "x-maps", "10010"} <= set(found)


def test_many_literals_beside_a_pattern_are_their_own_witnesses():
    many = [f"/name{number}" for number in range(300)]
    made = automaton_of([*many, "/*.jpg"])
    found = name_classes(made, [made.root], APPS, ())
    assert {glob[1:] for glob in many} <= set(found)
    assert any(name.endswith(".jpg") for name in found)


def test_the_other_character_is_in_no_name():
    assert unused_char("abc") not in "abc"
    assert unused_char(["\ue000", "\ue001"]) == "\ue002"
    with pytest.raises(TooHardError):
        unused_char(map(chr, range(0xE000, 0xF900)))


def test_too_many_words_are_too_hard(monkeypatch):
    made = automaton_of([f"/*{char}*" for char in "abcdefgh"])
    assert name_classes(made, [made.root], APPS, ())
    monkeypatch.setattr(classes, "MAX_WORDS", 50)
    with pytest.raises(TooHardError):
        name_classes(made, [made.root], APPS, ())

"""One automaton for all globs: positions, captures, and what is lost."""

from __future__ import annotations

import pytest

from policyfs.policy.globs.automaton import MAX_BOUND, Automaton, AutomatonBuilder, Position
from policyfs.policy.globs.names import Bind
from policyfs.policy.globs.paths import parse_glob

APPS = frozenset({"camera", "maps"})


def automaton_of(*globs: str, folded: bool = False) -> Automaton:
    builder = AutomatonBuilder(APPS)
    for number, glob in enumerate(globs):
        builder.add(parse_glob(glob), number, folded=folded)
    return builder.build()


def at(automaton: Automaton, path: str) -> Position:
    position = automaton.root
    for name in path.split("/"):
        if name:
            position = automaton.step(position, name)
    return position


@pytest.mark.parametrize(
    ("path", "accepts"),
    [
        ("/", {3}),
        ("/a", {1, 3}),
        ("/a/b", {0, 2, 3}),
        ("/a/c", {2, 3}),
        ("/x/b", {0, 3}),
        ("/b", {0, 3, 4}),
        ("/B", {3}),
    ],
)
def test_globs_match_where_they_say(path, accepts):
    made = automaton_of("/**/b", "/a", "/a/**", "/***", "/{b,bb}")
    assert at(made, path).free_accepts == accepts


def test_folded_globs_and_others_side_by_side():
    builder = AutomatonBuilder(APPS)
    builder.add(parse_glob("/DCIM"), 0, folded=False)
    builder.add(parse_glob("/DCIM"), 1, folded=True)
    builder.add(parse_glob("/d*"), 2, folded=True)
    made = builder.build()
    assert at(made, "/DCIM").free_accepts == {0, 1, 2}
    assert at(made, "/dcim").free_accepts == {1, 2}
    assert at(made, "/Dust").free_accepts == {2}


def test_one_glob_set_may_have_many_globs_of_one_place():
    builder = AutomatonBuilder(APPS)
    for glob in ("/a", "/a", "/{a,b}"):
        builder.add(parse_glob(glob), 7, folded=False)
    assert at(builder.build(), "/a").free_accepts == {7}


def test_positions_are_interned():
    made = automaton_of("/a/**", "/*/c")
    assert at(made, "/a/x") is at(made, "/a/y")
    assert at(made, "/a/x") is not at(made, "/a/c")
    assert at(made, "/q") is at(made, "/r")


def test_a_capture_binds_and_is_resolved_for_its_caller():
    made = automaton_of("/{app}/**", "/camera/*")
    position = at(made, "/camera/x")
    assert position.free_accepts == {1}
    assert position.bound_accepts == {0: frozenset({Bind("camera", None)})}
    assert made.resolved(position, "camera", 5).free_accepts == {0, 1}
    assert made.resolved(position, "maps", 5).free_accepts == {1}
    assert made.resolved(position, None, 5).free_accepts == {1}
    assert at(made, "/nobody/x").bound == frozenset()


def test_what_is_reached_freely_is_not_bound():
    made = automaton_of("/{app}", "/*")
    both = AutomatonBuilder(APPS)
    both.add(parse_glob("/{app}"), 0, folded=False)
    both.add(parse_glob("/*"), 0, folded=False)
    assert at(both.build(), "/camera").bound_accepts == {}
    assert at(made, "/camera").bound_accepts != {}


def test_two_captures_must_both_fit():
    made = automaton_of("/{app}/{uid}/***")
    position = at(made, "/camera/10010/x/y")
    assert position.bound_accepts == {0: frozenset({Bind("camera", 10010)})}
    assert at(made, "/camera/x").bound_accepts == {}


def test_too_many_captures_are_lost_for_good():
    made = automaton_of("/**/{uid}/**")
    position = made.root
    for number in range(MAX_BOUND + 2):
        position = made.step(position, str(number))
        assert position.units <= 1 + 16 * MAX_BOUND
    assert position is made.lost
    assert made.step(position, "x") is made.lost
    assert not position.free_accepts


@pytest.mark.parametrize(
    ("path", "leads"), [("/", True), ("/a", True), ("/a/b", False), ("/x", False), ("/x/y/c", True)]
)
def test_what_leads_to_a_match(path, leads):
    made = automaton_of("/a/b", "/x/*/c/d", "/other")
    nodes = made.leading_to({0, 1})
    assert (not nodes.isdisjoint(at(made, path).free)) is (leads or path == "/x")

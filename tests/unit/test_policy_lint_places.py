"""Answers at plain paths, shared by rules and callers for which they are the same."""

from __future__ import annotations

import functools
import itertools

import pytest

from policyfs.domain import NO_FACTS, Need, Op
from policyfs.policy.analysis.sides import Side
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.lint.places import Places, plain_names, shown
from policyfs.policy.model import App
from policyfs.policy.rules.callers import Caller, CallerClass
from policyfs.policy.rules.facts import FILE_TYPES
from policyfs.policy.rules.table import hides
from tests.support.models.whole_policies import compiled

RULES = """\
- {id: look, allow: [see], who: {app: any}, paths: ["/a/**", "/b/**"]}
- {id: a1, allow: [read], who: {app: [camera, maps]}, paths: "/a/1/**"}
- {id: a2, allow: [read], who: {app: gallery}, paths: "/a/2/**", when: {owner: self}}
- {id: own, allow: [all], who: {app: any}, paths: ["/own/{app}/***", "/own/*/public"]}
- {id: deep, allow: [write], who: {app: any}, paths: "/deep/x/y"}
- {id: hide, deny: [see], who: {app: gallery}, paths: "/a/1"}
- {id: places, require: {redact: location}, who: {not: {grant: media.location}}, paths: "/**/1/**"}
- {id: strangers, deny: [all], who: {app: stranger}, paths: "/b/**"}
"""
NAMES = [
    (), ("a",), ("b",), ("a", "1"), ("a", "1", "x"), ("a", "2", "x"), ("b", "1"), ("b", "1", "x"), ("b", "2"),
    ("own",), ("own", "maps"), ("own", "maps", "x"), ("own", "maps", "public"), ("deep",), ("deep", "x"),
    ("deep", "x", "y"),
]  # fmt: skip


@pytest.fixture
def places() -> Places:
    return Places(compiled(RULES))


@pytest.fixture
def sides(places: Places) -> list[Side]:
    return [group.sides[0] for group in groups([places.compiled])]


def alone(side: Side, names: tuple[str, ...]):
    """The place as a walk of this caller alone finds it."""
    position, above, top = side.root, set[str](), True
    for name in names:
        lives = () if top else side.profile(position, top=False).lives
        above |= {live.rule.id for live in lives if hides(live.rule)}
        position, top = side.step(position, name), False
    return position, above, side.profile(position, top=top)


def test_answers_are_those_of_each_caller_alone(places, sides):
    assert len(sides) > 3
    for names, side in itertools.product(NAMES, sides):
        here = places.at(names, side)
        position, above, profile = alone(side, names)
        assert [live.rule.id for live in here.lives] == [live.rule.id for live in profile.lives]
        assert here.hidden_by == above
        for op, ftype in itertools.product(Op, FILE_TYPES):
            below = functools.partial(side.below, position)
            want = profile.answer(int(op), ftype, NO_FACTS, below=below)
            got = here.answer(op, NO_FACTS, ftype)
            assert got == (want.allowed, want.redact, want.content), (names, side.caller.app, op, ftype)


def test_facts_that_an_answer_depends_on(places, sides):
    gallery = next(side for side in sides if side.caller.app == "gallery")
    assert places.at(("a", "2", "x"), gallery).needs(Op.READ) == Need.OWNER
    assert places.at(("a", "3", "x"), gallery).needs(Op.READ) == Need.NOTHING


def test_the_same_sorts_of_rules_answer_once(places, sides):
    asked: list[str] = []

    def find(_below) -> str:
        asked.append("find")
        return "found"

    maps = next(side for side in sides if side.caller.app == "maps")
    for names in (("b", "1"), ("b", "1", "x"), ("a", "3", "x"), ("b", "2")):
        assert places.at(names, maps).shared("question", find) == "found"
    assert len(asked) == 1
    places.at(("b", "1"), maps).shared("another question", find)
    places.at(("a", "1", "x"), maps).shared("question", find)
    assert len(asked) == 3


def test_what_is_below_counts_where_it_is_asked_for(places, sides):
    def find(below) -> str:
        return "leads on" if below() else "ends"

    side = next(side for side in sides if side.caller.app == "camera")
    found = [places.at(names, side).shared("below", find) for names in (("own",), ("deep", "x", "y", "z"))]
    assert found == ["leads on", "ends"]
    assert not places.at(("own",), side).lives


CAMERA = App("camera", ((10010, 10019),), (), frozenset(), "")


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("/a/b", "/a/b"),
        ("/a/**", "/a/x"),
        ("/***", "/x"),
        ("/**/b", "/b"),
        ("/a/**/b", "/a/b"),
        ("/{one,two}/*.jpg", "/one/x.jpg"),
        ("/{a,{b,c}d}/x", "/a/x"),
        ("/{app}/{uid}", "/camera/10010"),
        ("/a?b/*", "/axb/x"),
        ("/", "/"),
    ],
)
def test_a_plain_path_of_a_glob(glob, path):
    assert shown(plain_names(glob, Caller(CallerClass(0, CAMERA, 0, 10010), 10010)) or ()) == path


def test_a_stranger_has_no_path_with_the_name_of_an_app():
    assert plain_names("/{app}/x", Caller(CallerClass(0, None, 0, 5), 5)) is None

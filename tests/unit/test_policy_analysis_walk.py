"""All classes of paths: at which two policies may differ, once for many callers; or all, for one caller."""

from __future__ import annotations

import re

import pytest

from policyfs.policy.analysis import walk
from policyfs.policy.analysis.samples import spelled
from policyfs.policy.analysis.sides import Side, numbers_of
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.analysis.tracks import Track
from policyfs.policy.analysis.walk import Spot, Walk
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.rules.callers import Caller
from tests.support.models.whole_policies import compiled

_MADE_UP = re.compile("[\ue000-\uf8ff]")
SAME = "- {id: same, allow: [see], paths: '/same/**'}\n"


def spots(rules: str, most: int = 1000) -> list[Spot]:
    """The places at which a policy may differ from one that lacks all its rules but SAME."""
    both = groups([compiled(SAME + rules), compiled(SAME)])
    lacking = [frozenset(n for n in group.sides[0].rules if len(group.sides[0].rules) > 1) for group in both]
    tracks = [
        Track([group.sides[index] for group in both], [lacking, [frozenset[int]()] * len(both)][index])
        for index in (0, 1)
    ]
    def matters(spot: Spot) -> int:
        if spot.mixed:
            return spot.callers
        return tracks[0].leading(spot.nodes[0], tracks[0].watched)

    return list(Walk(tracks, matters, most).spots())


def path(spot: Spot) -> str:
    return "/" + "/".join(_MADE_UP.sub("x", name) for name in spot.names)


def test_each_class_of_paths_at_which_policies_differ_comes_once():
    found = spots("- {id: a, allow: [see], paths: ['/a/**', '/b/*.jpg']}\n")
    assert sorted(map(path, found)) == ["/", "/a", "/a/x", "/b", "/b/x.jpg", "/same", "/same/x"]


def test_a_place_has_only_callers_for_whom_something_differs():
    rules = "- {id: a, allow: [see], who: {app: camera}, paths: '/a/**'}\n"
    found = {path(spot): spot.callers.bit_count() for spot in spots(rules)}
    assert found["/a"] == found["/a/x"] == 1
    assert len(groups([compiled(SAME + rules), compiled(SAME)])) > 1


def test_owners_of_directories_above_are_told_apart_where_one_policy_hides():
    rules = "- {id: a, deny: [see], paths: '/d/e', when: {owner: maps}}\n"
    found = {path(spot): spot for spot in spots(rules)}
    assert not found["/d/e"].may_be_hidden
    below = found["/d/e/x"]
    assert below.mixed
    assert dict(below.hidden) == {(False, False): ("none", "none"), (True, False): ("none", "maps")}
    assert len(below.hiders) == 1


def test_what_is_too_much_for_one_caller_is_said(monkeypatch):
    monkeypatch.setattr(walk, "MAX_PLACES", 100)
    with pytest.raises(TooHardError):
        spots("- {id: a, allow: [see], paths: '/**/a/?/?/?/?/?/?/?/?'}\n", most=100)


def side(rules: str, app: str | None = "camera", uid: int = 10010) -> Side:
    policy = compiled(rules)
    callers = policy.table.callers
    return Side(policy, Caller(callers.class_of(callers.principal(app, uid, uid_matters=False)), uid))


def paths(*sides: Side) -> dict[str, Spot]:
    """All classes of paths of one caller, in each policy."""
    found = Walk([Track([side]) for side in sides], lambda _: 1).spots()
    return {(b"/" + b"/".join(spelled(sides, spot.names))).decode(): spot for spot in found}


def test_each_class_of_paths_comes_once_and_is_spelled_well():
    found = paths(side("- {id: a, allow: [see], paths: ['/DCIM/*.jpg', '/Music/**', '/x']}"))
    assert set(found) == {"/", "/DCIM", "/Music", "/x", "/y", "/DCIM/x.jpg", "/Music/x"}


def test_two_policies_are_told_apart_together():
    sides = tuple(side(f"- {{id: a, allow: [see], paths: '/{glob}'}}") for glob in ("a*", "*b"))
    assert set(paths(*sides)) == {"/", "/ax", "/xb", "/axb", "/x"}


def test_owners_of_directories_above_are_told_apart_where_they_hide():
    found = paths(side("- {id: a, deny: [see], paths: '/d', when: {owner: maps}}"))
    assert not found["/d"].may_be_hidden
    assert dict(found["/d/x"].hidden) == {(False,): ("none",), (True,): ("maps",)}


def told(found: list[Spot]) -> set[tuple[int, str]]:
    """The callers, each with the classes of paths that the walk has yielded for the caller."""
    return {(at, path(spot)) for spot in found for at in numbers_of(spot.callers)}


def test_both_limits_hold(monkeypatch):
    """Too many classes for all callers together: half of them at a time. Too many for one: an error."""
    rules = "- {id: a, allow: [see], paths: '/data/{app}/**'}\n"
    together, halves = spots(rules), spots(rules, most=2)
    assert [sum(spot.top for spot in found) for found in (together, halves)] == [1, 7]
    assert told(together) == told(halves)
    monkeypatch.setattr(walk, "MAX_PLACES", 1)
    with pytest.raises(TooHardError):
        spots(rules, most=2)

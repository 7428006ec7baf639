"""All classes of paths at which two policies may differ, once for many callers."""

from __future__ import annotations

import re

import pytest

from policyfs.policy.analysis import joint_walk
from policyfs.policy.analysis.joint_walk import JointWalk, Spot
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.analysis.tracks import Track
from policyfs.policy.analysis.walk import may_be_hidden
from policyfs.policy.globs.classes import TooHardError
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

    return [spot for spot, _ in JointWalk(tracks, lambda: matters, most).spots()]


def path(spot: Spot) -> str:
    return "/" + "/".join(_MADE_UP.sub("x", name) for name in spot.names)


def test_each_class_of_paths_comes_once():
    found = spots("- {id: a, allow: [see], paths: ['/a/**', '/b/*.jpg']}\n")
    assert sorted(map(path, found)) == ["/", "/a", "/a/x", "/b", "/b/x.jpg", "/same", "/same/x"]


def test_a_place_has_only_callers_for_whom_something_differs():
    rules = "- {id: a, allow: [see], who: {app: camera}, paths: '/a/**'}\n"
    found = {path(spot): spot.callers.bit_count() for spot in spots(rules)}
    assert found["/a"] == found["/a/x"] == 1
    assert len(groups([compiled(SAME + rules), compiled(SAME)])) > 1


def test_owners_of_directories_above_are_told_apart_where_they_hide():
    rules = "- {id: a, deny: [see], paths: '/d/e', when: {owner: maps}}\n"
    found = {path(spot): spot for spot in spots(rules)}
    assert not may_be_hidden(found["/d/e"].hidden)
    below = found["/d/e/x"]
    assert below.mixed
    assert dict(below.hidden) == {(False, False): ("none", "none"), (True, False): ("none", "maps")}
    assert len(below.hiders) == 1


def test_what_is_too_much_is_said(monkeypatch):
    monkeypatch.setattr(joint_walk, "MAX_PLACES", 100)
    with pytest.raises(TooHardError):
        spots("- {id: a, allow: [see], paths: '/**/a/?/?/?/?/?/?/?/?'}\n", most=100)

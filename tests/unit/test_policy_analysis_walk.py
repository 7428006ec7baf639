"""All classes of paths, each once."""

from __future__ import annotations

import pytest

from policyfs.policy.analysis.sides import Side
from policyfs.policy.analysis.walk import Place, Walk, is_made_up, may_be_hidden
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.rules.callers import Caller
from tests.support.models.whole_policies import compiled


def side(rules: str, app: str | None = "camera", uid: int = 10010) -> Side:
    policy = compiled(rules)
    callers = policy.table.callers
    return Side(policy, Caller(callers.class_of(callers.principal(app, uid, uid_matters=False)), uid))


def paths(walk: Walk) -> dict[str, Place]:
    return {(b"/" + b"/".join(walk.spelled(place))).decode(): place for place in walk.places(lambda _: True)}


def test_each_class_of_paths_comes_once_and_is_spelled_well():
    walk = Walk((side("- {id: a, allow: [see], paths: ['/DCIM/*.jpg', '/Music/**', '/x']}"),))
    assert set(paths(walk)) == {"/", "/DCIM", "/Music", "/x", "/y", "/DCIM/x.jpg", "/Music/x"}


def test_two_policies_are_told_apart_together():
    sides = tuple(side(f"- {{id: a, allow: [see], paths: '/{glob}'}}") for glob in ("a*", "*b"))
    assert set(paths(Walk(sides))) == {"/", "/ax", "/xb", "/axb", "/x"}


def test_owners_of_directories_above_are_told_apart_where_they_hide():
    walk = Walk((side("- {id: a, deny: [see], paths: '/d', when: {owner: maps}}"),))
    found = paths(walk)
    assert not may_be_hidden(found["/d"].hidden)
    assert dict(found["/d/x"].hidden) == {(False,): ("none",), (True,): ("maps",)}


def test_what_is_too_much_is_said():
    rules = "- {id: a, allow: [see], paths: '/**/a/?/?/?/?/?/?/?/?/?/?'}"
    with pytest.raises(TooHardError):
        list(Walk((side(rules),), most=100).places(lambda _: True))


def test_made_up_names():
    assert is_made_up("\ue000.jpg")
    assert not is_made_up("a.jpg")

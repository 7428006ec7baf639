"""Where two policies answer one group of callers differently."""

from __future__ import annotations

import pytest

from policyfs.domain import Op
from policyfs.policy.analysis import walk
from policyfs.policy.analysis.compare import Comparison
from policyfs.policy.analysis.findings import Finding
from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.analysis.samples import is_made_up
from policyfs.policy.analysis.subjects import groups
from policyfs.policy.analysis.walk import MAX_JOINT_PLACES
from policyfs.policy.globs.classes import TooHardError
from tests.support.models.whole_policies import compiled

BASE = "- {id: a, allow: [see, read], who: {app: camera}, paths: '/a/**'}\n"


def comparison(old: str, new: str, label: str = "camera", most: int = MAX_JOINT_PLACES) -> Comparison:
    found = groups([compiled(BASE + old), compiled(BASE + new)])
    return Comparison([group for group in found if label in {one.label for one in group.subjects}], most)


def findings(old: str, new: str, label: str = "camera") -> list[Finding]:
    return list(comparison(old, new, label).findings())


def paths(found: list[Finding], aspect: Aspect = Aspect.ACCESS) -> set[str]:
    return {
        "/" + "/".join("x" if is_made_up(name) else name for name in finding.sample.spot.names)
        for finding in found
        if finding.change.aspect is aspect
    }


def test_only_where_rules_differ():
    more = "- {id: b, allow: [see, write], who: {app: camera}, paths: '/a/b'}\n"
    found = findings("", more)
    assert paths(found) == {"/a/b"}
    assert {finding.op for finding in found} == {Op.WRITE}
    assert {finding.rules for finding in found} == {frozenset({("+", "b")})}
    assert findings("", more, "gallery") == []


def test_directories_on_the_way_appear_with_what_is_below():
    found = findings("", "- {id: b, allow: [see], who: {app: gallery}, paths: '/x/y/z'}\n", "gallery")
    assert paths(found) == {"/x", "/x/y", "/x/y/z"}


def test_what_a_directory_above_hides():
    found = findings("- {id: b, deny: [see], paths: '/a/b'}\n", "")
    assert paths(found) == {"/a/b", "/a/b/x"}
    assert all(finding.change.direction is Direction.WIDER for finding in found)
    assert {finding.rules for finding in found} == {frozenset({("-", "b")})}


def test_a_condition_that_turns_passthrough_off_is_a_difference_of_the_view():
    found = findings("", "- {id: b, require: {redact: location}, when: {type: image/png}}\n")
    assert paths(found, Aspect.IO) == {"/a/x"}
    assert paths(found, Aspect.REDACTION) == {"/a/x"}


def test_no_difference_costs_no_walk():
    assert findings("", "") == []


OWN = "- {id: own, allow: [see, write], who: {app: any}, paths: '/own/**', when: {owner: self}}\n"


def test_callers_who_differ_only_in_their_names_are_compared_once_and_each_has_its_own_example():
    both = groups([compiled(BASE), compiled(BASE + OWN)])
    compared = Comparison(both)
    found = [finding for finding in compared.findings() if finding.op is Op.WRITE]
    assert len(found) == 1
    apps = {subject.apps[0] for group in both for subject in group.subjects if subject.apps[0]}
    assert len(apps) > 1
    for at, group in enumerate(both):
        if found[0].callers >> at & 1:
            request = compared.samples.request(found[0].sample, at)
            assert (request.shown_path, request.facts.owner) == ("/own/x", group.subjects[0].apps[0])


def test_what_is_too_hard_for_all_callers_is_compared_for_half_of_them():
    both = [compiled(BASE), compiled(BASE + OWN)]
    at_once, one_by_one = (Comparison(groups(both), most) for most in (MAX_JOINT_PLACES, 0))
    said = [
        {
            (finding.op, finding.rules, at)
            for finding in compared.findings()
            for at in range(len(compared.groups))
            if finding.callers >> at & 1
        }
        for compared in (at_once, one_by_one)
    ]
    assert said[0] == said[1]


def test_what_is_too_hard_for_one_caller_is_said(monkeypatch):
    monkeypatch.setattr(walk, "MAX_PLACES", 100)
    much = "- {id: b, allow: [see], who: {app: camera}, paths: '/**/a/?/?/?/?/?/?/?/?'}\n"
    with pytest.raises(TooHardError):
        findings("", much)

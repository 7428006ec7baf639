"""Where two policies answer one group of callers differently."""

from __future__ import annotations

from policyfs.domain import Op
from policyfs.policy.analysis.compare import Comparison, Finding
from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.analysis.subjects import groups
from tests.support.models.whole_policies import compiled

BASE = "- {id: a, allow: [see, read], who: {app: camera}, paths: '/a/**'}\n"


def findings(old: str, new: str, label: str = "camera") -> list[tuple[Finding, Comparison]]:
    found = []
    for group in groups([compiled(BASE + old), compiled(BASE + new)]):
        if label in {subject.label for subject in group.subjects}:
            comparison = Comparison(group)
            found += [(finding, comparison) for finding in comparison.findings()]
    return found


def paths(found: list[tuple[Finding, Comparison]], aspect: Aspect = Aspect.ACCESS) -> set[str]:
    return {
        comparison.request(finding.sample).shown_path
        for finding, comparison in found
        if finding.change.aspect is aspect
    }


def test_only_where_rules_differ():
    more = "- {id: b, allow: [see, write], who: {app: camera}, paths: '/a/b'}\n"
    found = findings("", more)
    assert paths(found) == {"/a/b"}
    assert {finding.op for finding, _ in found} == {Op.WRITE}
    assert {finding.rules for finding, _ in found} == {frozenset({("+", "b")})}
    assert findings("", more, "gallery") == []


def test_directories_on_the_way_appear_with_what_is_below():
    found = findings("", "- {id: b, allow: [see], who: {app: gallery}, paths: '/x/y/z'}\n", "gallery")
    assert paths(found) == {"/x", "/x/y", "/x/y/z"}


def test_what_a_directory_above_hides():
    found = findings("- {id: b, deny: [see], paths: '/a/b'}\n", "")
    assert paths(found) == {"/a/b", "/a/b/x"}
    assert all(finding.change.direction is Direction.WIDER for finding, _ in found)
    assert {finding.rules for finding, _ in found} == {frozenset({("-", "b")})}


def test_a_condition_that_turns_passthrough_off_is_a_difference_of_the_view():
    found = findings("", "- {id: b, require: {redact: location}, when: {type: image/png}}\n")
    assert paths(found, Aspect.IO) == {"/a/x"}
    assert paths(found, Aspect.REDACTION) == {"/a/x"}


def test_no_difference_costs_no_walk():
    assert findings("", "") == []

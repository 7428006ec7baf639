"""A sample of every sort of caller."""

from __future__ import annotations

from policyfs.policy.analysis.subjects import groups, subjects
from tests.support.models.whole_policies import compiled

APPS = "apps:\n  one: {uid: 10}\n  two: {uid: '20-29'}\n  own: {}\n"
ALL = "- {id: a, allow: [see], paths: '/a'}"


def labels(*policies) -> list[str]:
    return [subject.label for subject in subjects(policies)]


def test_apps_and_strangers_and_app_mounts_of_apps_without_uids():
    assert sorted(labels(compiled(ALL, apps=APPS))) == ["one", "own", "stranger", "two"]


def test_uids_that_a_rule_names_are_apart():
    policy = compiled("- {id: a, allow: [see], paths: '/a', who: {uid: [5, 25]}}", apps=APPS)
    found = list(subjects([policy]))
    assert {subject.uid for subject in found if subject.label == "stranger"} == {5, 1000}
    assert {(s.mounted, s.uid) for s in found if s.label == "two"} == {(None, 20), (None, 25)}
    # an app mount may admit any uid; a sample of the app's own is another's, too
    assert {(s.mounted, s.uid) for s in found if s.label == "one"} == {(None, 10), ("one", 5)}


def test_uids_that_move_between_apps():
    later = APPS.replace("20-29", "20-24")
    found = labels(compiled(ALL, apps=APPS), compiled(ALL, apps=later))
    assert "uid 25 (two, then stranger)" in found
    assert "two" in found


def test_an_app_that_one_policy_lacks():
    old = compiled(ALL, apps="apps:\n  one: {uid: 10}\n")
    new = compiled(ALL, apps="apps:\n  one: {uid: 10}\n  own: {}\n")
    (own,) = [subject for subject in subjects([old, new]) if subject.mounted]
    assert own.absent == (True, False)
    group = next(group for group in groups([old, new]) if own in group.subjects)
    assert not group.sides[0].rules
    assert group.sides[1].rules


def test_callers_that_rules_treat_alike_are_one_group():
    policy = compiled(ALL, apps=APPS)
    together = [{subject.label for subject in group.subjects} for group in groups([policy])]
    assert {"one", "two", "own"} in together
    by_name = compiled("- {id: a, allow: [see], paths: '/{app}'}", apps=APPS)
    assert all(len(group.subjects) == 1 for group in groups([by_name]))

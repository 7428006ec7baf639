"""Restrictions that change no answer, repeated rules, and files that are hidden from sync jobs."""

from __future__ import annotations

import time

import pytest

from policyfs.policy.analysis.subjects import groups
from policyfs.policy.lint.effects import Effects, repeated
from policyfs.policy.lint.places import Places
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.bench.big_policy import big_policy
from tests.support.models.policies import APPS
from tests.support.models.whole_policies import compiled, policy_of

LOOK = "id: look, allow: [see, read], who: {app: any}, paths: '/DCIM/***'"


def policy(*rules: str) -> str:
    return "".join(f"- {{{rule}}}\n" for rule in rules)


def ids(*rules: str) -> set[str]:
    return {one.subject[5:] for one in Effects(policy_of(policy(*rules))).findings()}


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("deny: [read], paths: '/DCIM/a'", False),
        ("deny: [write], paths: '/DCIM/a'", True),
        ("deny: [write], paths: '/DCIM/a', errno: EROFS", False),
        ("deny: [write], paths: '/Other/a', errno: EROFS", True),
        ("deny: [write], paths: '/DCIM/a', audit: 'off'", False),
        ("deny: [see], paths: '/*/a'", False),
        ("deny: [see], paths: '/*', when: {type: inode/directory}", False),
        ("deny: [see], paths: '/Other/**'", True),
        ("deny: [read], who: {app: stranger}, paths: '/DCIM/**'", False),
        ("deny: [read], who: {uid: 5}, paths: '/DCIM/**'", False),  # an app mount can admit this user
        ("deny: [write]", False),
        ("deny: [read], paths: ['/DCIM/**', '/Dcim/**']", True),
        ("require: {redact: location}, paths: '/DCIM/**'", False),
        ("require: {content: image/*}, paths: '/DCIM/**'", True),
        ("deny: [write], paths: '/Other/a', mode: monitor", False),
    ],
)
def test_restrictions(rule, found):
    assert ids(LOOK, f"id: r, {rule}") == ({"r"} if found else set())


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("allow: [read], who: {app: any}, paths: '/DCIM/***'", {"r"}),
        ("allow: [read], who: {app: any}, paths: '/DCIM/**'", set()),
        ("allow: [read], who: {app: maps}, paths: '/DCIM/***'", set()),
        ("allow: [see, read, write], who: {app: any}, paths: '/DCIM/***'", {"look"}),
        ("allow: [see, read], who: {app: any}, paths: '/DCIM/***', audit: required", set()),
        ("allow: [see, read], who: {app: any}", {"look"}),
    ],
)
def test_repeated_rules(rule, found):
    made = policy_of(policy(LOOK, f"id: r, {rule}"))
    assert {one.subject[5:] for one in repeated(made.rules)} == found


def test_the_remedy_names_a_similar_path():
    (found,) = Effects(policy_of(policy(LOOK, "id: r, deny: [see], paths: '/dcim/a'"))).findings()
    assert found.todo == "write /dcim here and /DCIM in an allow alike, if one is a typing error"


@pytest.mark.parametrize(
    ("who", "found"), [("{app: any}", True), ("{app: gallery}", False), ("{not: {app: syncthing}}", False)]
)
def test_files_hidden_from_a_sync_job(who, found):
    apps = APPS.replace("camera:", "syncthing:")
    made = compiled(policy(LOOK, f"id: r, deny: [see], who: {who}, paths: '/DCIM/a/***'"), apps=apps)
    said = list(Effects(made.engine.policy).hidden_from_sync(Places(made), groups([made])))
    assert [one.subject for one in said] == (["rule r"] if found else [])


def test_a_search_in_a_large_policy_ends_soon_and_says_what_is_left() -> None:
    """Without the bound on the places that are tried, it takes minutes."""
    large = parse_policy([SourceText("large.yaml", big_policy(1000))])
    begin_s = time.process_time()
    found = list(Effects(large).findings())
    assert time.process_time() - begin_s < 20
    [left] = (one for one in found if one.id == "not-searched")
    assert "ended after 5,000 classes of paths; this rule and" in left.message

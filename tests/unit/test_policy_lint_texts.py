"""Findings that the text of one rule shows, and rules that show none."""

from __future__ import annotations

import pytest

from policyfs.policy.lint.texts import texts
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.models.whole_policies import policy_of


@pytest.mark.parametrize(
    ("rule", "ids"),
    [
        ("allow: [see], paths: /a", {"strangers"}),
        ("allow: [see], paths: /a, mode: monitor", {"monitored"}),
        ("allow: [see], paths: /a, who: {app: [any, stranger]}", set()),
        ("allow: [see], paths: /a, who: {not: {app: camera}}", {"strangers"}),
        ("allow: [see], paths: /a, who: {uid: 5}", set()),
        ("deny: [see], paths: '/a/**'", {"deny-leaves-top"}),
        ("deny: [see], paths: ['/a/**', '/a']", set()),
        ("deny: [see], paths: '/a/***'", set()),
        ("deny: [read], paths: '/a/**'", set()),
        ("deny: [read], paths: '/*.jpg'", {"case-of-extension"}),
        ("deny: [read], paths: '/*.{jpg,JPG}'", set()),
        ("deny: [read], paths: ['/a/*.jpg', '/a/*.JPG']", set()),
        ("deny: [read], paths: ['/a/*.jpg', '/A/*.JPG']", {"case-of-extension"}),
        ("deny: [read], paths: '/*.jpg', ignore_case: true", set()),
        ("deny: [read], paths: '/v1.2'", set()),
        ("deny: [read]", {"about-all"}),
        ("require: {redact: location}", set()),
        ("require: {redact: location}, unless: {owner: none}", {"redaction-spares-library"}),
        ("require: {redact: location}, unless: {owner: self}", set()),
        ("require: {redact: location}, when: {type: image/png}", {"type-costs-passthrough"}),
        ("require: {content: [image/jpeg, application/x-tar]}, paths: /a", set()),
        ("deny: [read], paths: /a, who: {not: {app: camera, grant: media.location}}", {"not-of-several"}),
        ("allow: [create], paths: /a, who: {app: camera}, when: {type: image/*}", {"type-on-create"}),
        ("allow: [create], paths: /a, who: {app: camera}, when: {type: inode/directory}", set()),
        ("deny: [read], paths: /$APP", {"spelling"}),
        ("deny: [read], paths: /$apple", set()),
        ("deny: [read], paths: '/a /b'", {"spelling"}),
        ("deny: [read], paths: '/a\\ '", set()),
        ("deny: [read], paths: /caf\u00e9", {"spelling"}),
        ("deny: [read], paths: [/caf\u00e9, /cafe\u0301]", set()),
        ("allow: [read], who: {app: any}, paths: /caf\u00e9", set()),
    ],
)
def test_findings(rule, ids):
    assert {finding.id for finding in texts(policy_of(f"- {{id: r, {rule}}}"))} == ids


APPS = "{a: {uid: 7}, b: {uid: [8, 20-29]}, c: {grants: [g]}}"
HEAD = f"apiVersion: policyfs/v1\nkind: Policy\napps: {APPS}\nrules:\n"


def of_uids(who: str) -> list[str]:
    text = f"{HEAD}  - {{id: r, allow: [see], who: {who}}}\n"
    return [
        one.message
        for one in texts(parse_policy([SourceText("p.yaml", text.encode())]))
        if one.id == "app-and-uid"
    ]


@pytest.mark.parametrize(
    "who",
    [
        "{app: a}",
        "{uid: 9}",
        "{app: a, uid: 7}",
        "{app: [a, b], uid: [1, 25-40]}",
        "{app: any, uid: 9}",
        "{app: [a, stranger], uid: 9}",
        "{grant: g, uid: 9}",
        "{app: a, not: {uid: 9}}",
    ],
)
def test_apps_and_uids_that_can_match_together(who: str):
    assert of_uids(who) == []


def test_apps_and_uids_that_cannot():
    [message] = of_uids("{app: a, uid: [8, 9-12]}")
    assert "a has no uid of 8-12: on a shared mount no caller matches" in message
    [message] = of_uids("{app: [a, c], uid: 8}")
    assert "a and c have no uid of 8" in message
    assert len(of_uids("{app: any, not: {app: b, uid: 7}}")) == 1

"""Findings that the text of one rule shows, and rules that show none."""

from __future__ import annotations

import pytest

from policyfs.policy.lint.texts import texts
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
        ("require: {content: [image/jpge]}, paths: /a", {"unknown-kind"}),
        ("require: {content: [image/jpeg, application/x-tar]}, paths: /a", set()),
        ("deny: [read], paths: /a, when: {type: images/*}", {"unknown-kind"}),
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
    (made,) = policy_of(f"- {{id: r, {rule}}}").rules
    assert {finding.id for finding in texts(made)} == ids

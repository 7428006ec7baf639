"""Findings on what apps may write."""

from __future__ import annotations

import pytest

from policyfs.policy.analysis.subjects import groups
from policyfs.policy.lint.places import Places
from policyfs.policy.lint.writers import Writers
from tests.support.models.whole_policies import compiled

LOOK = "id: look, allow: [see, read], who: {app: any}, paths: '/DCIM/**'"
ALL = "id: all, allow: [all], who: {app: any}, paths: '/DCIM/**'"


def ids(*rules: str) -> set[tuple[str, str]]:
    policy = compiled("".join(f"- {{{rule}}}\n" for rule in rules))
    return {(one.id, one.subject[5:]) for one in Writers(Places(policy), groups([policy])).findings()}


@pytest.mark.parametrize(
    ("rules", "want"),
    [
        ([ALL], set()),
        ([LOOK, "id: r, allow: [create], who: {app: maps}, paths: '/DCIM/**'"], {("create-and-write", "r")}),
        ([LOOK, "id: r, allow: [write], who: {app: maps}, paths: '/DCIM/a'"], set()),
        ([LOOK, "id: r, allow: [write], who: {app: maps}, paths: '/DCIM/*'"], {("create-and-write", "r")}),
        ([ALL, "id: r, deny: [delete], paths: '/DCIM/**'"], {("overwrite", "r")}),
        ([ALL, "id: r, deny: [delete], paths: '/DCIM/**', when: {owner: none}"], {("overwrite", "r")}),
        ([ALL, "id: r, deny: [delete, write, create], paths: '/DCIM/**'"], set()),
        ([LOOK, "id: r, deny: [delete], paths: '/DCIM/**'"], set()),
        (
            [
                ALL,
                "id: r, require: {content: image/*}, paths: '/DCIM/**'",
                "id: s, require: {content: [image/png, text/plain]}, paths: '/DCIM/**'",
            ],
            set(),
        ),
        (
            [
                ALL,
                "id: r, require: {content: application/zip}, paths: '/DCIM/**'",
                "id: s, require: {no: location}, raw_types: [application/zip], paths: '/DCIM/**'",
            ],
            set(),
        ),
        ([ALL, "id: r, require: {no: location}, who: {app: maps}"], {("unchecked-write", "r")}),
        ([ALL, "id: r, require: {no: location}, who: {not: {app: maps}}"], set()),
        ([ALL.replace("any", "maps"), "id: r, require: {no: location}, who: {app: maps}"], set()),
        (
            [
                LOOK,
                "id: put, allow: [create, write], who: {app: camera}, paths: ['/DCIM/a/**', '/DCIM/b/**']",
                "id: c, require: {content: image/*}, paths: '/DCIM/a/**'",
            ],
            {("unchecked-write", "put")},
        ),
        (
            [
                "id: put, allow: [all], who: {app: camera}, paths: ['/DCIM/**', '/Drafts/**']",
                "id: c, require: {content: image/*}, paths: '/DCIM/**'",
            ],
            set(),
        ),
        ([LOOK, "id: r, allow: [create, write], who: {app: maps}, paths: ['/a/**']"], {("unseen", "r")}),
        (
            [
                "id: l, allow: [see], who: {app: stranger}, paths: '/a/**'",
                "id: r, allow: [delete], who: {app: [any, stranger]}, paths: '/a/**'",
            ],
            set(),
        ),
        (
            [
                "id: l, allow: [see], who: {app: maps}, paths: '/a/**', when: {type: text/plain}",
                "id: r, allow: [delete], who: {app: maps}, paths: '/a/**'",
            ],
            set(),
        ),
    ],
)
def test_findings(rules, want):
    assert ids(*rules) == want

"""Findings on what apps may do together."""

from __future__ import annotations

import pytest

from policyfs.policy.analysis.subjects import groups
from policyfs.policy.lint.places import Places
from policyfs.policy.lint.rights import Rights
from tests.support.models.policies import APPS
from tests.support.models.whole_policies import compiled

NO_PLACES = "id: no, require: {redact: location}, who: {not: {grant: media.location}}"
THUMBS = "id: look, allow: [see, read], who: {app: any}, paths: '/x/.Thumbnails/**'"
LOOK = "id: look, allow: [see, read], who: {app: any}, paths: '/DCIM/**'"
SPARED = "who: {not: {grant: media.location}}"


def ids(*rules: str, apps: str = APPS) -> set[tuple[str, str]]:
    policy = compiled("".join(f"- {{{rule}}}\n" for rule in rules), apps=apps)
    return {(one.id, one.subject) for one in Rights(Places(policy), groups([policy])).findings()}


@pytest.mark.parametrize(
    ("rules", "want"),
    [
        ([LOOK], set()),
        ([LOOK.replace("any", "[camera, maps]")], {("app-without-allow", "app gallery")}),
        ([LOOK, f"id: no, require: {{redact: location}}, {SPARED}"], set()),
        (
            [THUMBS, NO_PLACES],
            {("derived-copies", "rule look")},
        ),
        ([THUMBS], set()),
        ([THUMBS, "id: no, deny: [all], who: {app: any}, paths: '/x/**'"], set()),
        (
            [LOOK, f"id: no, require: {{redact: location}}, {SPARED}, paths: '/a'"],
            {("raw-sensitive", "rule look")},
        ),
        (
            [LOOK, f"id: no, require: {{redact: location}}, {SPARED}, unless: {{type: image/png}}"],
            {("raw-sensitive", "rule look")},
        ),
        (
            [LOOK, "id: own, allow: [all], who: {app: any}, paths: '/d/{app}/**'"],
            {("own-directory", "rule own")},
        ),
        ([LOOK, "id: own, allow: [all], who: {app: any}, paths: '/d/{app}/***'"], set()),
        (["id: look, allow: [see, read], who: {app: any}, paths: '/a/*'"], {("one-level", "rule look")}),
        (
            [LOOK, "id: k, deny: [see], who: {app: maps}, paths: '/DCIM/**', when: {type: text/*}"],
            {("see-by-fact", "rule k")},
        ),
        (
            [LOOK, "id: own, allow: [all], who: {app: camera}, paths: '/d/{uid}/**'"],
            {("own-directory", "rule own")},
        ),
        (
            [
                "id: look, allow: [see, read], who: {app: any}, paths: ['/DCIM/***', '/.zfs/snapshot/**']",
                f"id: no, require: {{redact: location}}, {SPARED}, paths: '/DCIM/**'",
            ],
            {("derived-copies", "rule look"), ("raw-sensitive", "rule look")},
        ),
        (
            [
                LOOK.replace("/DCIM/**", "/DCIM/***"),
                f"id: no, require: {{redact: location}}, {SPARED}, paths: '/DCIM/**'",
            ],
            set(),
        ),
    ],
)
def test_findings(rules, want):
    assert ids(*rules) == want


def test_backups_by_their_names():
    apps = APPS.replace("gallery:", "restic:")
    rules = (LOOK, f"id: no, require: {{redact: location}}, {SPARED}")
    assert ids(*rules, apps=apps) == {("backup-redacted", "app restic")}

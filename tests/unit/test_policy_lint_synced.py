"""Hints on apps that read back what was cleaned after they wrote it."""

from __future__ import annotations

import pytest

from policyfs.policy.lint.synced import cleaned_for_readers
from tests.support.models.policies import engine_of

BOTH = "- {id: all, allow: [all], who: {app: [maps, camera]}}"
CLEAN = "- {id: clean, require: {clean: [location]}, paths: '/DCIM/**'%s}\n"


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        (CLEAN % "" + "- {id: all, allow: [all], who: {app: camera}}", [("clean", "camera")]),
        (
            CLEAN % "" + BOTH,
            [("clean", "camera"), ("clean", "maps")],
        ),
        (CLEAN % "" + "- {id: in, allow: [see, write, create]}", []),
        (CLEAN % "" + "- {id: out, allow: [see, read]}", []),
        (CLEAN % "" + "- {id: all, allow: [all], paths: '/Music/**'}", []),
        (
            CLEAN % ", who: {app: maps}" + BOTH,
            [("clean", "maps")],
        ),
        ("- {id: kind, require: {content: [image/*]}}\n- {id: all, allow: [all]}", []),
    ],
)
def test_apps(rules, found):
    told = cleaned_for_readers(engine_of(rules))
    assert sorted((one.rule.id, one.app) for one in told) == sorted(found)
    assert all(one.path.startswith("/DCIM/") for one in told)

"""The tests of a new site's policy hold for it, and fail for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.policy.cases import outcome_of
from policyfs.cli.setup.access import Access, policy_text
from policyfs.cli.setup.access_tests import cases_text

SHARES = {"/Films": True, "/Bücher, {alt}": False, "/Photos/anna": True}


@pytest.mark.parametrize(
    "access",
    [
        Access("arr", SHARES), Access("arr", {"/": False, "/Films": True}), Access("arr", {"/": True}),
        Access("arr", SHARES, keep_others=True), Access("arr", SHARES, hide_places=True, own=("/Films",)),
        Access("arr", {**SHARES, "/elsewhere": False}),
    ],
)  # fmt: skip
def test_they_hold_for_this_policy_and_no_other(tmp_path: Path, access: Access) -> None:
    policy, tests = tmp_path / "p.yaml", tmp_path / "p.test.yaml"
    tests.write_text(cases_text([access, Access("tv", {"/Films": False})], "p.yaml"), encoding="utf-8")

    def failed(one: Access) -> bool:
        both = [one, Access("tv", {"/Films": False})]
        policy.write_text(policy_text(both, name="p", file="p.yaml", store="/s", site="s"), encoding="utf-8")
        return outcome_of(str(policy), [tests]).failed != []

    assert not failed(access)
    assert failed(Access("arr", {"/Films": False, "/Photos": True}))

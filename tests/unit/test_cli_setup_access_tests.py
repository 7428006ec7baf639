"""The tests of a new site's policy: they pass, and one fails for each right more or less."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from policyfs.cli.policy.cases import outcome_of
from policyfs.cli.setup.access import Access, policy_text
from policyfs.cli.setup.access_tests import cases_text

WIDE = Access("plex", {"/Films, new": True, "/Photos": False})
OWN = Access("immich", {"/": True}, keep_others=True, own=("/immich",))
SHORT = Access("jellyfin", {"/": True, "/Music": False}, hide_places=True, raw_texts=("nfo",))


@pytest.mark.parametrize("access", [WIDE, OWN, SHORT])
def test_they_pass_and_are_about_each_right(access: Access, tmp_path: Path) -> None:
    assert not _failed(access, access, tmp_path)
    assert _failed(access, dataclasses.replace(access, shares={"/": not access.shares.get("/")}), tmp_path)
    for other in (
        dataclasses.replace(access, hide_places=not access.hide_places),
        dataclasses.replace(access, keep_others=not access.keep_others),
    ):
        if (other.changes, other.hide_places) != (access.changes, access.hide_places):
            assert _failed(access, other, tmp_path), other
    if access.raw_texts:
        assert _failed(access, dataclasses.replace(access, raw_texts=()), tmp_path)


def _failed(tested: Access, access: Access, directory: Path) -> bool:
    """Return True if a test of one access fails on the policy of another."""
    policy, tests = directory / "home.yaml", directory / "home.test.yaml"
    policy.write_text(
        policy_text([access], name="home", file="home.yaml", store="/srv", site="home.site.yaml")
    )
    tests.write_text(cases_text([tested], "home.yaml"))
    return bool(outcome_of(str(policy), [tests]).failed)

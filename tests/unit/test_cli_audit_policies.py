"""Rules of kept policies, with their places. test_cli_audit_timeline.py prints them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.journal.files.policy_texts import policy_text
from policyfs.journal.files.reader import find_chains
from tests.support.mount.trail import MOUNT_ID, a_journal

POLICY = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: places}
apps: {gallery: {uid: 10011}}
rules:
  - {id: sees, allow: [see, read], who: {app: gallery}, paths: "/***"}

  - id: private
    # nobody

    deny: [all]
    paths: "/Private/***"
exceptions:
  - id: party
    allow: [read]
    until: 2020-01-31T18:00:00Z
    reason: slides
    approved-by: Ann
    paths: "/Private/slides/**"
"""
DIGEST = hashlib.sha256(POLICY).hexdigest()


@pytest.fixture
def kept(tmp_path: Path) -> KeptPolicies:
    with a_journal(tmp_path) as journal:
        journal.tell("mount", {"policy": DIGEST}, policy=policy_text(DIGEST, [("home.yaml", POLICY)]))
    return KeptPolicies(find_chains(tmp_path))


def place(kept: KeptPolicies, rule: str) -> tuple[str, str]:
    fact = kept.fact(DIGEST, rule)
    assert fact is not None
    return fact[:2]


def test_a_rule_has_its_place_and_its_text(kept: KeptPolicies) -> None:
    assert place(kept, "sees") == ("allow", "home.yaml:6")
    assert place(kept, "private") == ("deny", "home.yaml:8")
    assert [line.strip() for line in kept.source(DIGEST, "private")] == [
        "- id: private", "# nobody", "deny: [all]", 'paths: "/Private/***"',
    ]  # fmt: skip


def test_an_exception_has_them_too_also_after_its_end(kept: KeptPolicies) -> None:
    assert place(kept, "exception:party") == ("allow", "home.yaml:14")
    assert kept.source(DIGEST, "exception:party")[0].strip() == "- id: party"


def test_one_good_copy_of_a_policy_is_enough(kept: KeptPolicies, tmp_path: Path) -> None:
    directory = tmp_path / MOUNT_ID
    for other in ("0" * 32, "f" * 32):
        shutil.copytree(directory, tmp_path / other)
        changed = tmp_path / other / "policies" / DIGEST / "home.yaml"
        changed.write_bytes(changed.read_bytes().replace(b"deny", b"allow"))
    again = KeptPolicies(find_chains(tmp_path))
    assert again.source(DIGEST, "private") == kept.source(DIGEST, "private") != []


def test_what_is_not_kept_has_none(kept: KeptPolicies, tmp_path: Path) -> None:
    assert kept.fact("0" * 64, "sees") is None
    assert kept.fact(DIGEST, "other") is None
    assert kept.source(DIGEST, "other") == []
    text = tmp_path / MOUNT_ID / "policies" / DIGEST / "home.yaml"
    text.write_bytes(text.read_bytes().replace(b"deny", b"allow"))
    assert KeptPolicies(find_chains(tmp_path)).policy(DIGEST) is None

"""Whole files in canonical form, in policy_layouts/: NAME.yaml becomes NAME.out.yaml.

POLICYFS_UPDATE_GOLDEN=1 writes the results anew (and fails, so that they are read).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.policy.layout import canonical as module
from policyfs.policy.layout.canonical import LostCommentError, canonical
from tests.support.machine.documents import CHECKOUT

CASES = Path(__file__).parent / "policy_layouts"
NAMES = [path.stem for path in sorted(CASES.glob("*.yaml")) if ".out" not in path.name]
SHIPPED = sorted((CHECKOUT / "policies").rglob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_files(name: str):
    made = canonical((CASES / f"{name}.yaml").read_bytes().decode())
    expected = CASES / f"{name}.out.yaml"
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        expected.write_text(made, "utf-8")
        pytest.fail(f"{expected} was written: read it, then run without updating")
    assert made == expected.read_text("utf-8")
    assert canonical(made) == made


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_policies_and_tests_are_in_canonical_form(path: Path):
    """If not: policyfs policy fmt FILE."""
    text = path.read_text("utf-8")
    assert canonical(text) == text


def test_a_lost_comment_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "attach", lambda text, top, spans: [])
    with pytest.raises(LostCommentError):
        canonical("kind: Policy # c\n")

"""`policyfs audit show --policy`: the policies that a trail names, and their kept texts."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from policyfs.cli.audit.policy import wrong_texts
from policyfs.trail.lines.record import Place
from tests.support.mount.audited import DIGEST, POLICY, Cli, recorded

HERE = Place("0123456789abcdef", "a segment", 3)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


def kept(cli: Cli) -> Path:
    """The one kept file of the policy."""
    [file] = (cli.chain / "policies").rglob("*.yaml")
    return file


def test_the_changes_of_policy_are_listed(cli: Cli) -> None:
    (start,) = cli.json("show", "--policy")
    assert (start["type"], start["policy"]) == ("mount", DIGEST)
    assert DIGEST[:8] in cli("show", "--policy")


def test_times_are_in_utc_if_the_option_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """cli passes --utc."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert cli("show", "--policy").startswith("2026-03-01 08:00:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_text_of_a_policy_is_found_by_its_first_digits(cli: Cli) -> None:
    assert cli("show", "--policy", DIGEST[:6]).encode() == POLICY
    assert cli("show", "--policy", "x" + DIGEST[:6], code=1) == ""
    assert "keeps no policy" in cli.err


def test_a_changed_text_is_not_shown(cli: Cli) -> None:
    kept(cli).write_bytes(POLICY.replace(b"deny: [all]", b"deny: [see]"))
    assert cli("show", "--policy", DIGEST, code=1) == ""
    assert "was changed" in cli.err


def test_a_good_copy_in_another_chain_is_shown(cli: Cli) -> None:
    for other in ("0" * 32, "f" * 32):
        shutil.copytree(cli.chain, cli.root / other)
        [copy] = (cli.root / other / "policies").rglob("*.yaml")
        copy.write_bytes(POLICY.replace(b"deny: [all]", b"deny: [see]"))
    assert cli("show", "--policy", DIGEST).encode() == POLICY


def test_a_verification_tells_changed_texts_from_missing_ones(cli: Cli) -> None:
    named = {DIGEST: HERE}
    assert wrong_texts(cli.chain, named) == ([], [])
    kept(cli).write_bytes(POLICY + b"# more")
    [changed], missing = wrong_texts(cli.chain, named)
    assert "was changed" in changed.what
    assert (changed.place, missing) == (HERE, [])
    shutil.rmtree(kept(cli).parent)
    changed_now, [gone] = wrong_texts(cli.chain, named)
    assert changed_now == []
    assert "is missing" in gone.what


def test_two_policies_of_the_same_first_digits_are_not_mixed_up(cli: Cli) -> None:
    assert cli("show", "--policy", DIGEST[0]).encode() == POLICY, "one is kept"
    twin = kept(cli).parent.parent / (DIGEST[0] + "0" * 63)
    twin.mkdir()
    (twin / "other.yaml").write_bytes(b"rules: []")
    assert cli("show", "--policy", DIGEST[0], code=1) == ""
    assert "more than one" in cli.err

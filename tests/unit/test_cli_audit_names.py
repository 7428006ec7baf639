"""Names in a query: one that no policy and no event has is a typing error, and told with similar ones."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from policyfs.journal.files.policy_texts import policy_text
from policyfs.trail.query.parser import QueryError
from tests.support.mount.audited import POLICY, Cli, recorded
from tests.support.mount.trail import a_journal


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("app:galery", "no app 'galery'"),
        ("rule:no-privat", "no rule 'no-privat'"),
        ("op:opn", "opn"),
        ("not app:galery", "galery"),
        ("app:maps or app:galery", "galery"),
    ],
)
def test_an_unknown_name_is_an_error_with_a_similar_one(cli: Cli, query: str, told: str) -> None:
    with pytest.raises(QueryError, match=told):
        cli("search", query)


@pytest.mark.parametrize("query", ["app:gallery", "app:stranger", "rule:no-location", "rule:gallery-sees"])
def test_known_names_are_none(cli: Cli, query: str) -> None:
    assert cli("search", query)


def test_a_name_of_the_policy_is_known_without_an_event(cli: Cli) -> None:
    assert cli("search", "op:mkdir", code=1) == ""
    assert cli("search", "app:maps rule:no-private", code=1) == ""


def test_an_exception_of_a_policy_is_a_rule(cli: Cli) -> None:
    text = POLICY + b"""
exceptions:
  - {id: party, allow: [see], until: 2020-01-31T18:00:00Z, reason: slides, approved-by: Ann, paths: "/x"}
"""
    digest = hashlib.sha256(text).hexdigest()
    with a_journal(cli.root) as journal:
        journal.tell("reload", {"policy": digest}, policy=policy_text(digest, [("home.yaml", text)]))
    assert cli("search", "rule:exception:party", code=1) == ""
    with pytest.raises(QueryError, match="no rule"):
        cli("search", "rule:exception:other")


def test_a_name_of_an_event_is_known_without_the_policys_text(cli: Cli) -> None:
    shutil.rmtree(cli.chain / "policies")
    assert cli("search", "rule:no-private")
    with pytest.raises(QueryError, match="no rule"):
        cli("search", "rule:no-privacy")

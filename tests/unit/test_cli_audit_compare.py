"""`policyfs audit who-could`: answers in a word. test_cli_audit_files.py runs it, and `diff`, on a trail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policyfs.cli.audit_compare import _answer
from policyfs.cli.main import main
from policyfs.domain import Decision


@pytest.mark.parametrize(
    ("decision", "word"),
    [
        (Decision(allowed=False, errno=13), "no"),
        (Decision(allowed=True, errno=0), "yes"),
        (Decision(allowed=True, errno=0, redact=frozenset({"location"})), "redacted"),
        (Decision(allowed=True, errno=0, content=(frozenset({"image/*"}),)), "checked"),
    ],
)
def test_answers(decision: Decision, word: str) -> None:
    assert _answer(decision) == word


@pytest.mark.parametrize("words", [[], ["--directory"]])
def test_a_new_file_or_directory_is_the_apps_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    ops = "see, create" if words else "see, create, write"
    (tmp_path / "p.yaml").write_text(
        "apiVersion: policyfs/v1\nkind: Policy\napps: {camera: {uid: 10010}}\nrules:\n"
        f"  - {{id: own, allow: [{ops}], who: {{app: camera}}, paths: '/**', when: {{owner: self}}}}\n"
    )
    main(["audit", "who-could", "--json", "--policy", str(tmp_path / "p.yaml"), *words, "/a"])
    camera = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (camera["app"], camera["create"], camera["write"]) == ("camera", "yes", "no")

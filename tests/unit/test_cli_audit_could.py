"""`policyfs audit who-could`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policyfs.cli.audit.could import _answer
from policyfs.cli.main import main
from policyfs.domain import Decision
from policyfs.errors import UsageError
from tests.support.mount.audited import POLICY, recorded


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


def test_the_policy_in_force_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = recorded(tmp_path, monkeypatch, capsys)
    rows = {row["app"]: row for row in cli.json("who-could", "/DCIM/a.jpg")}
    assert rows["gallery"]["read"] == "redacted"
    assert rows["gallery"]["why"] == "gallery-sees (home.yaml:6), no-location (home.yaml:10)"
    assert (rows["maps"]["see"], rows["maps"]["why"]) == ("no", "no rule allows anything here")
    out = cli("who-could", "/Private/a", code=1)
    assert "no-private (home.yaml:7)" in out
    above = {row["app"]: row for row in cli.json("who-could", "/", "--directory")}
    assert (above["maps"]["see"], above["maps"]["why"]) == ("yes", "everyone may see the root")
    (tmp_path / "open.yaml").write_bytes(POLICY.replace(b"/Private/", b"/Other/"))
    assert cli.json("who-could", "/Private/a", "--policy", str(tmp_path / "open.yaml"))
    with pytest.raises(UsageError):
        cli("who-could", "a")


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

"""`policyfs audit timeline|changes|who-did|who-could|diff|show|summary` on one trail, with a kept policy."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import pytest

from policyfs.cli import audit
from policyfs.cli.audit_files import human
from policyfs.domain import Audit
from policyfs.errors import UsageError
from policyfs.journal.policy_texts import policy_text
from policyfs.trail.event import Event
from tests.support.mount.trail import SECOND_NS, START_NS, a_denial, a_journal, an_event

POLICY = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: files}
apps: {gallery: {uid: 10011}, maps: {uid: 10012}}
rules:
  - {id: gallery-sees, allow: [see, read, write], who: {app: gallery}, paths: "/***"}
  - id: no-private
    deny: [all]
    paths: "/Private/***"
  - id: no-location
    require: {redact: [location]}
    who: {app: gallery}
"""
DIGEST = hashlib.sha256(POLICY).hexdigest()
DAY_NS = 86_400 * SECOND_NS


def event(path: bytes, operation: str = "open", day: int = 0, **fields: object) -> Event:
    base = a_denial(path) if fields.get("decision") == "deny" else an_event(path)
    return base._replace(operation=operation, time_ns=START_NS + day * DAY_NS, policy_digest=DIGEST, **fields)


EVENTS = [
    event(b"/in/a.jpg", "create"),
    event(b"/in/a.jpg", "release", size_before=0, size_after=2 << 20, bytes_written=2 << 20),
    event(b"/in/a.jpg", "rename", new_path=b"/DCIM/a.jpg"),
    event(b"/DCIM/a.jpg", app="maps", uid=10012, exe="/usr/bin/maps", pid=7),
    event(b"/Private/b.jpg", day=1, decision="deny"),
    event(b"/Private/b.jpg", day=1, decision="deny", operation="lookup"),
    event(
        b"/DCIM/c.dwg", day=1, decision="deny", rules=("no-location",), kind="image/x-dwg", note="no locator"
    ),
    event(b"/new/d.jpg", day=1, decision="deny", rules=(), app="stranger", uid=1234),
    event(b"/DCIM/a.jpg", "unlink", day=1, size_before=2 << 20),
    event(b"/DCIM/a.jpg", "create", day=1),
]


class Cli:
    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._root = root
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        parser = argparse.ArgumentParser()
        audit.add_parser(parser.add_subparsers())
        args = parser.parse_args(["audit", *words, "--utc", "--trail", str(self._root)])
        assert args.run(args) == code
        return self._capsys.readouterr().out

    def json(self, *words: str, code: int = 0) -> list[dict[str, object]]:
        return [json.loads(line) for line in self(*words, "--json", code=code).splitlines()]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    with a_journal(tmp_path / "trail", segment_bytes=5000) as journal:
        text = policy_text(DIGEST, [("home.yaml", POLICY)])
        journal.tell("mount", {"policy": DIGEST}, policy=text, previous="")
        for one in EVENTS:
            journal.record(one, Audit.REQUIRED)
    return Cli(tmp_path / "trail", capsys)


def test_a_timeline_goes_over_renames_and_tells_files_of_one_name_apart(cli: Cli) -> None:
    for name in ("/in/a.jpg", "/DCIM/a.jpg"):
        found = cli.json("timeline", name)
        first = [item["operation"] for item in found if item["life"] == 1]
        assert first == ["create", "release", "rename", "open", "unlink"]
    assert [item["operation"] for item in cli.json("timeline", "/DCIM/a.jpg") if item["life"] == 2] == [
        "create"
    ]
    out = cli("timeline", "/in/a.jpg")
    assert "/in/a.jpg -> /DCIM/a.jpg: made, deleted, 5 events" in out
    assert cli("timeline", "/nothing", code=1) == ""
    with pytest.raises(UsageError, match="root of the mount"):
        cli("timeline", "a.jpg")


def test_changes_are_one_line_a_file(cli: Cli) -> None:
    first = cli("changes", "until:2026-03-02").splitlines()
    assert first[1].split() == [
        "made,", "moved", "2.0", "MiB", "gallery", "2026-03-01", "08:00:00", "/DCIM/a.jpg", "(was",
        "/in/a.jpg)",
    ]  # fmt: skip
    (later, new) = cli.json("changes", "since:2026-03-02", "path:/DCIM/**")
    assert (later["what"], later["size_before"], later["size_after"]) == (["deleted"], 2 << 20, None)
    assert new["what"] == ["made"]
    assert cli("changes", "app:maps", code=1).splitlines()[-1] == "0 files"


def test_who_did_has_the_grounds_with_their_lines(cli: Cli) -> None:
    out = cli("who-did", "/Private")
    assert "EACCES no-private (home.yaml:7)" in out
    assert cli.json("who-did", "/DCIM/*.jpg", "app:maps")[0]["exe"] == "maps"
    (stranger,) = cli.json("who-did", "/", "decision:deny", "app:stranger")
    assert stranger["why"] == "EACCES no rule allows it"


def test_who_could_asks_the_policy_in_force(cli: Cli, tmp_path: Path) -> None:
    rows = {row["app"]: row for row in cli.json("who-could", "/DCIM/a.jpg")}
    assert rows["gallery"]["read"] == "redacted"
    assert rows["gallery"]["why"] == "gallery-sees (home.yaml:6), no-location (home.yaml:10)"
    assert (rows["maps"]["see"], rows["maps"]["why"]) == ("no", "no rule allows it")
    out = cli("who-could", "/Private/a", code=1)
    assert "no-private (home.yaml:7)" in out
    (tmp_path / "open.yaml").write_bytes(POLICY.replace(b"/Private/", b"/Other/"))
    assert cli.json("who-could", "/Private/a", "--policy", str(tmp_path / "open.yaml"))
    with pytest.raises(UsageError):
        cli("who-could", "a")


def test_a_diff_has_what_is_new(cli: Cli) -> None:
    news = cli.json("diff", "2026-03-01", "2026-03-02", code=1)
    assert {str(one["new"]) for one in news} == {"apps", "directories", "denials"}
    assert [one["app"] for one in news if one["new"] == "apps"] == ["stranger"]
    places = {one["directory"] for one in news if one["new"] == "directories"}
    assert places == {"/Private", "/new", "/DCIM"}  # the gallery's last open there was before its rename
    assert cli.json("diff", "2026-03-02", "2026-03-02") == []
    out = cli("diff", "2026-03-01T00:00Z..2026-03-02", "2026-03-02", "app:gallery", code=1)
    assert "New denials:" in out
    assert "no-private (home.yaml:7)" in out
    with pytest.raises(UsageError, match="ends before it begins"):
        cli("diff", "2026-03-02..2026-03-01", "today")


def test_a_summary_tells_causes_apart(cli: Cli) -> None:
    (summary,) = cli.json("summary", "--by", "day,app")
    grounds = summary["grounds"]
    assert isinstance(grounds, list)
    assert {one["cause"]: one["count"] for one in grounds} == {"rule": 2, "content": 1, "no rule": 1}
    assert {"day": "2026-03-01", "app": "maps", "decision": "allow", "count": 1} in summary["by"]
    out = cli("summary")
    assert "no-private (home.yaml:7) denies it" in out
    assert "no-location (home.yaml:10) asks for content that image/x-dwg cannot give" in out
    assert "no rule allows it: it needs an `allow` for uid 1234" in out
    assert cli("summary", "--by", "day,decision").split() == [
        "DAY", "DECISION", "ALLOW", "DENY", "2026-03-01", "allow", "4", "2026-03-02", "allow", "2",
        "2026-03-02", "deny", "4",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="there are app, rule"):
        cli("summary", "--by", "colour")


def test_a_summary_of_what_is_new_since_the_last_review(cli: Cli) -> None:
    assert cli.json("summary", "--new")[0]["events"] == len(EVENTS)
    assert cli.json("summary", "--new", code=1)[0]["events"] == 0


def test_show_has_the_rules_text_and_what_was_around(cli: Cli) -> None:
    (denial, _) = cli.json("search", "path:/Private/**", "--each")
    out = cli("show", str(denial["id"]))
    assert "no-private (home.yaml:7) denies it: an `unless` there would except app gallery" in out
    assert '\nhome.yaml:7\n    - id: no-private\n      deny: [all]\n      paths: "/Private/***"\n' in out
    assert "Around it, the same process:" in out
    assert "Around it, the same file:" in out
    assert f"> 2026-03-02 08:00:00.000  {denial['id']}" in out


def test_rows_have_the_rules_lines(cli: Cli) -> None:
    assert "no-private (home.yaml:7)" in cli("search", "path:/Private/**")


@pytest.mark.parametrize(
    ("number", "text"), [(None, ""), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(number: int | None, text: str) -> None:
    assert human(number) == text

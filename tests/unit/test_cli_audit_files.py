"""`policyfs audit timeline|changes|who-did|who-could|diff` on one trail, with a kept policy."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from policyfs.cli.audit_files import human
from policyfs.domain import Audit
from policyfs.errors import UsageError
from policyfs.journal.journal import Journal
from tests.support.mount.audited import DIGEST, POLICY, Cli, recorded
from tests.support.mount.trail import SECOND_NS, START_NS, Clock, a_journal, an_event


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


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


def test_a_timeline_goes_over_renames_of_directories_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = recorded(tmp_path, monkeypatch, capsys)
    with a_journal(cli.root) as journal:
        for event in (
            an_event(b"/a/d/f", operation="create"),
            an_event(b"/a", operation="rename", new_path=b"/b"),
            an_event(b"/b/d/f"),
            an_event(b"/b/d", operation="rename", new_path=b"/e"),
            an_event(b"/e/f"),
        ):
            journal.record(event, Audit.REQUIRED)
    for name in ("/a/d/f", "/b/d/f", "/e/f"):
        found = cli.json("timeline", name)
        assert [item["operation"] for item in found] == ["create", "rename", "open", "rename", "open"], name
        assert "/a/d/f -> /b/d/f -> /e/f: made, still there, 5 events" in cli("timeline", name)


@pytest.mark.parametrize("names_store", [True, False])
@pytest.mark.parametrize("store", ["/srv/photos/", "/srv/music"])
def test_mounts_of_one_store_have_the_same_files_and_mounts_of_two_have_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    store: str,
    names_store: bool,
) -> None:
    """names_store: False if rotation has removed the first mount's record, so that its store is unknown."""
    cli = recorded(tmp_path, monkeypatch, capsys)
    others = [
        Journal(str(cli.root / name), name, keep=0, clock_ns=Clock(), steady_ns=Clock())
        for name in ("a" * 16, "b" * 16)
    ]
    with closing(others[0]) as first, closing(others[1]) as second:
        if names_store:
            first.tell("mount", {"policy": DIGEST, "options": {"store": "/srv/photos"}})
        first.record(an_event(b"/i", operation="create", mount="/p"), Audit.REQUIRED)
        second.tell("mount", {"policy": DIGEST, "options": {"store": store}})
        later = an_event(b"/i", operation="unlink", mount="/m", size_before=5)
        second.record(later._replace(time_ns=START_NS + SECOND_NS), Audit.REQUIRED)
    is_one = store == "/srv/photos/" or not names_store
    what = [one["what"] for one in cli.json("changes", "path:/i")]
    assert what == [["made", "deleted"]] if is_one else [["made"], ["deleted"]]
    assert [one["life"] for one in cli.json("timeline", "/i")] == ([1, 1] if is_one else [1, 2])


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
    assert stranger["why"] == "EACCES no rule allows the request"


def test_who_could_asks_the_policy_in_force(cli: Cli, tmp_path: Path) -> None:
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


def test_a_diff_has_what_is_new(cli: Cli) -> None:
    news = cli.json("diff", "2026-03-01", "2026-03-02", code=1)
    assert {str(one["new"]) for one in news} == {"apps", "directories", "denials"}
    assert [one["app"] for one in news if one["new"] == "apps"] == ["stranger"]
    places = {one["directory"] for one in news if one["new"] == "directories"}
    assert places == {"/Private", "/new", "/DCIM"}  # the gallery's last open there was before its rename
    assert cli.json("diff", "2026-03-02", "2026-03-02") == []
    assert cli.json("diff", "2026-03-01", "2026-03-02", "pid:7") == []
    out = cli("diff", "2026-03-01T00:00Z..2026-03-02", "2026-03-02", "app:gallery", code=1)
    assert "New denials:" in out
    assert "no-private (home.yaml:7)" in out
    with pytest.raises(UsageError, match="ends before it begins"):
        cli("diff", "2026-03-02..2026-03-01", "today")


def test_rows_have_the_rules_lines(cli: Cli) -> None:
    assert "no-private (home.yaml:7)" in cli("search", "path:/Private/**")


@pytest.mark.parametrize(
    ("number", "text"), [(None, ""), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(number: int | None, text: str) -> None:
    assert human(number) == text


def test_more_names_than_are_searched_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An app renames a file again and again before it deletes the file."""
    cli = recorded(tmp_path, monkeypatch, capsys)
    for module in ("trail.lives", "cli.audit_files"):
        monkeypatch.setattr(f"policyfs.{module}.NAMES", 5, raising=False)
    with a_journal(cli.root) as journal:
        for number in range(9):
            event = an_event(b"/n%d" % number, operation="rename", new_path=b"/n%d" % (number + 1))
            journal.record(event, Audit.REQUIRED)
        journal.record(an_event(b"/n9", operation="unlink"), Audit.REQUIRED)
    told = cli("timeline", "/n0")
    assert "still there" not in told
    assert "end not known" in told
    assert "5 names or more" in cli.err
    cli("timeline", "/in/a.jpg")
    assert cli.err == ""

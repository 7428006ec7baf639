"""`policyfs audit timeline` on one trail, with a kept policy."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.errors import UsageError
from policyfs.journal.writing.journal import Journal
from tests.support.mount.audited import DIGEST, Cli, recorded
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
    assert "is about /nothing\n" in cli.err
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


def test_a_refused_new_file_is_not_told_as_made(cli: Cli) -> None:
    with a_journal(cli.root) as journal:
        journal.record(an_event(b"/new.jpg", operation="create"), Audit.REQUIRED)
        refusal = an_event(b"/new.jpg", operation="write", decision="deny", errno=1, rules=("no-location",))
        journal.record(refusal, Audit.REQUIRED)
    assert "/new.jpg: made, refused, 2 events" in cli("timeline", "/new.jpg")


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
    assert [one["life"] for one in cli.json("timeline", "/i")] == ([1, 1] if is_one else [1, 2])


def test_rows_have_the_rules_lines(cli: Cli) -> None:
    assert "no-private (home.yaml:7)" in cli("search", "path:/Private/**")


def test_more_names_than_are_searched_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An app renames a file again and again before it deletes the file."""
    cli = recorded(tmp_path, monkeypatch, capsys)
    for module in ("trail.query.lives", "cli.audit.timeline"):
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

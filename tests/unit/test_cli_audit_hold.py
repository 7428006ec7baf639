"""`policyfs audit hold`: what is held, told and put on record, in each chain."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from policyfs.cli.audit import hold as audit_hold
from policyfs.cli.main import build_parser
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.holds import read_holds
from tests.support.mount.trail import MOUNT_ID, an_event, read_all, write_trail

SINCE = "2026-03-01T08:00"


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    root = tmp_path / "trail"
    root.mkdir()
    write_trail(root, [an_event()])
    return root


def run(trail: Path, *words: str) -> int:
    args = build_parser("audit", "hold").parse_args(["audit", "hold", "--trail", str(trail), *words])
    return audit_hold.run_hold(args)


def test_a_period_is_held_with_its_reason_until_it_is_removed(
    trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trail, "list") == EXIT_REFUSED
    assert run(trail, "add", "case-7", "--since", SINCE, "--reason", "asked by court") == EXIT_OK
    [held] = read_holds(trail / MOUNT_ID)
    assert (held.name, held.until, held.reason) == ("case-7", "", "asked by court")
    assert held.since.startswith("2026-03-01T")
    capsys.readouterr()
    assert run(trail, "list", "--json") == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {"mount_id": MOUNT_ID, **held._asdict()}
    assert run(trail, "list") == EXIT_OK
    assert "to the end  asked by court" in capsys.readouterr().out
    assert run(trail, "remove", "case-7") == EXIT_OK
    assert read_holds(trail / MOUNT_ID) == []


def test_a_hold_may_last_for_a_moment(trail: Path) -> None:
    assert run(trail, "add", "case-7", "--since", SINCE, "--until", SINCE) == EXIT_OK


def test_each_change_is_on_record(trail: Path) -> None:
    run(trail, "add", "case-7", "--until", SINCE, "--reason", "x" * 300)
    run(trail, "remove", "case-7")
    added, removed = (one.fields for one in read_all(trail / MOUNT_ID) if one.kind == "hold")
    assert (added["name"], added["done"], added["why"], added["since"]) == ("case-7", "add", "x" * 200, "")
    assert (removed["name"], removed["done"]) == ("case-7", "remove")
    assert added["how"] == "policyfs audit hold add"


@pytest.mark.parametrize("name", [".", "link"])
def test_a_change_is_on_record_in_the_chain_that_another_name_leads_to(
    trail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(trail / MOUNT_ID)
    (tmp_path / "names").mkdir()
    (tmp_path / "names/link").symlink_to(trail / MOUNT_ID)
    at = "." if name == "." else str(tmp_path / "names/link")
    assert run(trail, "add", "case-7", "--trail", at) == EXIT_OK
    assert [one.kind for one in read_all(trail / MOUNT_ID)].count("hold") == 1
    assert {path.parent for path in tmp_path.rglob("*.jsonl")} == {trail / MOUNT_ID}


def test_the_period_is_told_in_utc(
    trail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        run(trail, "add", "case-7", "--since", SINCE)
        run(trail, "add", "case-8", "--since", SINCE, "--until", SINCE, "--utc")
        run(trail, "list")
    finally:
        monkeypatch.undo()
        time.tzset()
    told = capsys.readouterr().out
    assert "case-7  2026-03-01T13:00:00Z to the end" in told
    assert "case-8  2026-03-01T08:00:00Z to 2026-03-01T08:00:00Z" in told


def test_what_changes_nothing_is_told_and_not_on_record(
    trail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trail, "remove", "case-7") == EXIT_REFUSED
    assert "has no such hold" in capsys.readouterr().err
    run(trail, "add", "case-7")
    assert run(trail, "add", "case-7", "--since", SINCE) == EXIT_REFUSED
    assert "has this hold already" in capsys.readouterr().err
    [held] = read_holds(trail / MOUNT_ID)
    assert held.since == ""
    assert [one.kind for one in read_all(trail / MOUNT_ID)].count("hold") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["add"],
        ["add", "../x"],
        ["remove", ".x"],
        ["add", "x", "--since", "when it began"],
        ["add", "x", "--since", "2026-03-02", "--until", "2026-03-01"],
        ["add", "x", "--until", "9999-12-31"],
        ["add", "x", "--since", "0900-01-01"],
    ],
)
def test_an_impossible_hold_is_refused(trail: Path, words: list[str]) -> None:
    with pytest.raises(UsageError):
        run(trail, *words)
    assert read_holds(trail / MOUNT_ID) == []


@pytest.mark.parametrize("what", ["add", "remove"])
def test_what_cannot_be_recorded_ends_with_a_hold(
    trail: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "remove":
        run(trail, "add", "case-7")

    def full(*_: object, **__: object) -> None:
        raise PolicyfsError("no room")

    monkeypatch.setattr(audit_hold, "record", full)
    with pytest.raises(PolicyfsError, match="no room"):
        run(trail, what, "case-7")
    assert [one.name for one in read_holds(trail / MOUNT_ID)] == ["case-7"]

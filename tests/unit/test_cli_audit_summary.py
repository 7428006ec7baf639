"""`policyfs audit summary`: counts, the grounds of denials, and what is new since a time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import policyfs.cli.audit.summary as summary_module
from policyfs.cli.audit.summary import StoredGroups
from policyfs.domain import Audit
from policyfs.errors import UsageError
from policyfs.trail.chain.restarts import KILLED, UNENDED
from policyfs.trail.query.summary import Groups
from tests.support.mount.audited import DAY_NS, Cli, kill_copy, recorded
from tests.support.mount.trail import MOUNT_ID, START_NS, Clock, a_denial, a_journal, an_event, read_all


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


def test_a_summary_tells_causes_apart(cli: Cli) -> None:
    (summary,) = cli.json("summary", "--by", "day,app")
    grounds = summary["grounds"]
    assert isinstance(grounds, list)
    assert {one["cause"]: one["count"] for one in grounds} == {"rule": 2, "content": 1, "no rule": 1}
    assert {"day": "2026-03-01", "app": "maps", "decision": "allow", "count": 1} in summary["by"]
    out = cli("summary")
    assert "rule no-private (home.yaml:7) denies the request" in out
    assert "no-location (home.yaml:10) requires content that a file of kind image/x-dwg cannot have" in out
    assert "no rule allows the request: add an `allow` for uid 1234" in out
    assert cli("summary", "--by", "day,decision").split() == [
        "DAY", "DECISION", "ALLOW", "DENY", "2026-03-01", "allow", "4", "2026-03-02", "allow", "2",
        "2026-03-02", "deny", "4",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="the possible fields are app, rule"):
        cli("summary", "--by", "colour")


def test_requests_are_counted_by_path_and_directory(cli: Cli) -> None:
    """The successor of a list of changes: each path and operation, also both paths of a rename."""
    (summary,) = cli.json("summary", "--by", "path,op", "app:gallery decision:allow until:2026-03-02")
    assert {(one["path"], one["op"]): one["count"] for one in summary["by"]} == {
        ("/in/a.jpg", "create"): 1, ("/in/a.jpg", "release"): 1, ("/in/a.jpg", "rename"): 1,
        ("/DCIM/a.jpg", "rename"): 1,
    }  # fmt: skip
    (summary,) = cli.json("summary", "--by", "directory,uid,exe", "path:/DCIM/**")
    maps = {"directory": "/DCIM", "uid": "10012", "exe": "/usr/bin/maps", "decision": "allow", "count": 1}
    assert maps in summary["by"]


def test_a_path_is_escaped_once(cli: Cli) -> None:
    with a_journal(cli.root) as journal:
        journal.record(an_event(b"/\x1b[2J\\.jpg"), Audit.REQUIRED)
    assert "/\\x1b[2J\\\\.jpg " in cli("summary", "--by", "path,app")
    (summary,) = cli.json("summary", "--by", "path", "app:gallery")
    assert "/\\x1b[2J\\\\.jpg" in {one["path"] for one in summary["by"]}


def test_groups_that_are_new_since_a_time_are_marked(cli: Cli) -> None:
    words = ("summary", "--by", "app,new", "--since", "2026-03-02")
    (summary,) = cli.json(*words)
    assert {one["app"]: one["new"] for one in summary["by"]} == {"gallery": "no", "stranger": "yes"}
    (summary,) = cli.json("summary", "--by", "new,app,directory", "--since", "2026-03-02", "app:gallery")
    assert {(one["directory"], one["new"]) for one in summary["by"]} == {("/Private", "yes"), ("/DCIM", "no")}
    with pytest.raises(UsageError, match="needs --since"):
        cli("summary", "--by", "app,new")


def test_events_that_were_counted_together_have_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = recorded(tmp_path, monkeypatch, capsys)
    same = {"pid": 0, "exe": "", "since_ns": START_NS}
    together = a_denial(b"/", operation="", folded="app", repeats=40, uid=-1, gid=-1, **same)
    together = together._replace(rules=(), errno=0)
    beside = a_denial(b"/Private", folded="directory", repeats=7, **same)
    with a_journal(cli.root) as journal:
        for event in (together, beside):
            journal.record(event, Audit.REQUIRED)
    for by in ("op", "rule", "uid", "exe", "path"):
        (summary,) = cli.json("summary", "--by", by, "repeats:>1")
        assert {one[by]: one["count"] for one in summary["by"]}["(several)"] in {40, 47}, by
    (summary,) = cli.json("summary", "--by", "path", "repeats:7")
    assert [one["path"] for one in summary["by"]] == ["/Private/…"]
    (summary,) = cli.json("summary", "repeats:>1")
    assert "" not in summary["operations"]
    assert "(several)" in cli("summary", "repeats:>1")


def test_events_that_lack_a_field_of_the_query_are_told(cli: Cli) -> None:
    """Opens under rules that do not need the kind have none: "no event matches" would be a wrong answer."""
    for command in ("summary", "search"):
        cli(command, "kind:image/jpeg app:maps", code=1)
        assert "1 further events that match otherwise (1 of open), no kind is known" in cli.err
        cli(command, "kind:image/x-dwg")
        assert "(3 of open" in cli.err or "(4 of open" in cli.err, cli.err
        cli(command, "app:maps not kind:image/jpeg")
        assert "no kind" not in cli.err, "they are counted: an event without a kind has no such kind"


def test_only_the_selected_events_are_counted(cli: Cli) -> None:
    (denied,) = cli.json("summary", "decision:deny", "app:gallery")
    assert denied["events"] == 3
    assert cli.json("summary", "since:2026-04-01", code=1)[0]["events"] == 0


def test_a_killed_daemon_is_told(cli: Cli) -> None:
    (summary,) = cli.json("summary")
    assert summary["crashes"] == []
    assert "did not end in order" not in cli("summary")
    kill_copy(cli.root)
    out = cli("summary")
    assert "Daemons that did not end in order: 1\n" in out
    assert f"  {MOUNT_ID}: {UNENDED}" in out
    with a_journal(cli.root):
        pass
    (start,) = [one for one in read_all(cli.chain) if one.kind == "resume"][-1:]
    (summary,) = cli.json("summary")
    (crash,) = summary["crashes"]
    assert crash["id"] == start.id
    assert crash["what"].startswith(KILLED)
    (later,) = cli.json("summary", "since:2026-03-02")
    assert later["crashes"] == [], "the daemon started again before this time"


def test_a_crash_is_told_in_the_time_in_which_it_may_have_been(cli: Cli) -> None:
    """The daemon that crashed recorded its last event on 2026-03-01; the next one began ten days later."""
    kill_copy(cli.root)
    with a_journal(cli.root, Clock(START_NS + 10 * DAY_NS)):
        pass
    for period, code, crashes in (
        ("until:2026-03-01", 1, 0), ("until:2026-03-02", 0, 1), ("since:2026-03-05 until:2026-03-06", 1, 1),
        ("since:2026-03-11", 1, 1), ("since:2026-03-12", 1, 0),
    ):  # fmt: skip
        (summary,) = cli.json("summary", period, code=code)
        assert len(summary["crashes"]) == crashes, period


def test_a_gap_is_told_in_the_time_of_its_lost_events(cli: Cli) -> None:
    """The journal writes a gap when the disk has room again, here a day after the events were lost."""
    gap = {
        "dropped": 37, "refused": 1, "first": "2026-04-01T08:00:00.000000000Z",
        "last": "2026-04-01T09:00:00.000000000Z", "reason": "disk full",
    }  # fmt: skip
    with a_journal(cli.root, Clock(START_NS + 32 * DAY_NS)) as journal:
        journal.tell("gap", gap)
    for since, until, dropped in (
        ("2026-04-01T06:00Z", "2026-04-01T07:00Z", 0), ("2026-04-01T08:30Z", "2026-04-01T08:40Z", 37),
        ("2026-04-01T08:30Z", "2026-04-03", 37), ("2026-04-01T09:30Z", "2026-04-01T09:40Z", 0),
        ("2026-04-02", "2026-04-03", 37), ("2026-04-03", "2026-04-04", 0),
    ):  # fmt: skip
        (summary,) = cli.json("summary", f"since:{since} until:{until}", code=1)
        assert (summary["dropped"], summary["refused"]) == (dropped, dropped // 37), since
        cli("search", f"since:{since} until:{until}", code=1)
        assert ("37 events dropped" in cli.err) is bool(dropped)


def test_stored_counts_are_as_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_module, "_IN_MEMORY", 50)
    rng, stored, kept = random.Random(7), StoredGroups(2), Groups()
    names = [*map(str, range(20)), "\ud800", "ä", "\U0001f600", ""]
    for number in range(3000):
        key = rng.choice(names), rng.choice(names)
        decision = rng.choice(("allow", "deny", "would_deny"))
        stored.add(key, decision, number)
        kept.add(key, decision, number)
        if number % 500 == 0:
            assert (key in stored) and ("x", key[1]) not in stored
    assert stored.decisions() == kept.decisions()
    assert len(stored._counts) < 50
    for _ in range(2):
        assert list(stored) == list(kept)

"""`policyfs audit summary`: counts, the grounds of denials, and what is new since the last review."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from policyfs.cli import audit_summary
from policyfs.domain import Audit
from policyfs.errors import UsageError
from policyfs.trail.restarts import KILLED, UNENDED
from tests.support.mount.audited import DAY_NS, EVENTS, Cli, kill_copy, recorded
from tests.support.mount.trail import MOUNT_ID, SECOND_NS, START_NS, Clock, a_journal, an_event, read_all


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return recorded(tmp_path, monkeypatch, capsys)


WENT_BACK = "policyfs: the clock went back since the last summary --new: counting all events\n"


def reviewed(cli: Cli, code: int = 0) -> tuple[object, str]:
    """Return the number of new events, and what the command says on stderr."""
    (summary,) = cli.json("summary", "--new", code=code)
    return summary["events"], cli.err


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


def test_a_summary_of_what_is_new_since_the_last_review(cli: Cli) -> None:
    assert cli.json("summary", "--new")[0]["events"] == len(EVENTS)
    assert cli.json("summary", "--new", code=1)[0]["events"] == 0


def test_an_event_that_is_written_after_a_review_is_in_the_next_one(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that knows the time of the review acts right before it."""
    times = [START_NS + 10 * DAY_NS, START_NS + 11 * DAY_NS]
    monkeypatch.setattr("policyfs.cli.audit_summary.time.time_ns", lambda: times[0])
    assert cli.json("summary", "--new")[0]["events"] == len(EVENTS)
    with a_journal(cli.root, Clock(times[0])) as journal:
        journal.record(an_event(time_ns=times[0] - SECOND_NS), Audit.REQUIRED)
    monkeypatch.setattr("policyfs.cli.audit_summary.time.time_ns", lambda: times[1])
    assert cli.json("summary", "--new")[0]["events"] == 1
    assert cli.json("summary", "--new", code=1)[0]["events"] == 0


def test_after_the_clock_went_back_a_review_counts_all_events(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events of the wrong time, and those that the first review missed because of it, are counted."""
    now, hour = [START_NS + 10 * DAY_NS], 3600 * SECOND_NS
    monkeypatch.setattr("policyfs.cli.audit_summary.time.time_ns", lambda: now[0])
    assert reviewed(cli) == (len(EVENTS), "")
    with a_journal(cli.root) as journal:
        for time_ns in (now[0] + hour, now[0] - hour + SECOND_NS):
            journal.record(an_event(time_ns=time_ns), Audit.REQUIRED)
    now[0] -= hour // 2
    assert reviewed(cli) == (len(EVENTS) + 2, WENT_BACK)
    now[0] += 600 * SECOND_NS
    assert reviewed(cli, 1) == (0, "")


def test_a_step_of_the_clock_between_two_reviews_hides_no_event(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock went back to a time before the first review, and has passed this time at the second one."""
    clock = Clock(START_NS + 10 * DAY_NS)
    monkeypatch.setattr("policyfs.cli.audit_summary.time.time_ns", clock)
    assert reviewed(cli) == (len(EVENTS), "")
    with a_journal(cli.root, clock) as journal:
        for step in (60, -1800):
            clock.forward(step)
            journal.record(an_event(time_ns=clock.now_ns), Audit.REQUIRED)
            journal.flush()
    assert "clock" in {one.kind for one in read_all(cli.chain)}
    clock.forward(86400)
    assert reviewed(cli) == (len(EVENTS) + 2, WENT_BACK)
    clock.forward(86400)
    assert reviewed(cli, 1) == (0, "")
    clock.forward(3600)
    with a_journal(cli.root, clock) as journal:
        journal.record(an_event(time_ns=clock.now_ns), Audit.REQUIRED)
        journal.flush()
        clock.forward(-60)
        journal.record(an_event(time_ns=clock.now_ns), Audit.REQUIRED)
    clock.forward(3600)
    assert reviewed(cli) == (2, ""), "a step to a time after the review hides nothing"


def test_a_review_of_one_trail_is_none_of_another(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    other = recorded(tmp_path / "other", monkeypatch, capsys)
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    assert cli.json("summary", "--new")[0]["events"] == len(EVENTS)
    assert other.json("summary", "--new")[0]["events"] == len(EVENTS)


def test_a_review_of_one_query_leaves_the_other_events_new(cli: Cli) -> None:
    assert cli.json("summary", "--new", "app:maps")[0]["events"] == 1
    assert cli.json("summary", "--new", "app:maps", code=1)[0]["events"] == 0
    assert cli.json("summary", "--new", "--app", "maps")[0]["events"] == 1
    assert cli.json("summary", "--new")[0]["events"] == len(EVENTS)
    assert cli.json("summary", "--new", "app:gallery")[0]["events"] == 8


class LostOutput(io.StringIO):
    """Standard output as main() has it, on a full disk: the error is reported when the command ends."""

    error = OSError(28, "No space left on device")


def test_events_of_an_output_that_was_lost_stay_new(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr("sys.stdout", LostOutput())
        cli("summary", "--new")
    assert cli.json("summary", "--new")[0]["events"] == len(EVENTS)


def test_a_review_by_an_older_version_counts(cli: Cli) -> None:
    args = argparse.Namespace(
        trail=str(cli.root), query=[], app=[], uid=[], op=[], decision=[], path=None, rule=[], since=None,
        until=None,
    )  # fmt: skip
    marker = audit_summary._Marker(args)
    marker._cache.save(marker._name, b"%d" % (START_NS + 10 * DAY_NS))
    assert reviewed(cli, 1) == (0, "")


def test_a_plain_summary_is_no_review(cli: Cli) -> None:
    cli("summary")
    assert cli.json("summary", "--new")[0]["events"] == len(EVENTS)


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

"""Groups of a replay. test_cli_policy_replay.py has their exact words."""

from __future__ import annotations

import json

import pytest

from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.replay import report as module
from policyfs.policy.replay.recorded import Cause, Recorded
from policyfs.policy.replay.replay import Verdict
from policyfs.policy.replay.report import EXAMPLES, Example, Report

ASKED = Recorded("a", 7, None, "open", "open(O_RDONLY)", True, 0, Cause.NONE, ("all",), kind="image/jpeg")
NARROWER = Verdict(Direction.NARROWER, "allowed", "EACCES", ("no",))


def test_requests_that_change_alike_are_one_group():
    report = Report()
    for number in range(9):
        report.add(ASKED, NARROWER, 2, lambda: Example(b"/x", None, f"0:{number}"))  # noqa: B023 # called at once
    [change] = report.as_json()["changes"]
    assert change["count"] == 18
    assert len(change["examples"]) == EXAMPLES
    assert report.count(Direction.NARROWER) == 18
    assert report.moves


def test_groups_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "GROUPS", 3)
    report = Report()
    for number in range(50):
        asked = ASKED._replace(rules=(str(number),))
        report.add(asked, NARROWER, 1, lambda: Example(b"/x", None, "0:1"))
    assert len(report.as_json()["changes"]) == 4
    assert report.count(Direction.NARROWER) == 50


def test_what_is_shown_is_bounded_and_harmless(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SHOWN", 2)
    report = Report()
    for number in range(5):
        asked = ASKED._replace(rules=(str(number),), kind="image/\x1b[31m")
        report.add(asked, NARROWER, 1, lambda: Example(b"/\x1b[2J\xff", b"/new", "0:1"))
    text = report.text()
    assert "narrower: 3 more groups, see --json" in text
    assert "\x1b" not in text
    assert " to /new (0:1)" in text
    assert json.loads(json.dumps(report.as_json()))["narrower"] == 5


def test_other_changes_and_undecidable_requests_move_nothing():
    report = Report()
    report.add(ASKED, Verdict(Direction.OTHER, "EACCES", "ENOENT"), 1, lambda: Example(b"/x", None, "0:1"))
    report.add(ASKED, Verdict(untold=("the file's owner",)), 3, lambda: Example(b"/x", None, "0:1"))
    report.add(ASKED, Verdict(by_answer=True), 4, lambda: Example(b"/x", None, "0:1"))
    assert not report.moves
    assert (report.unchanged, report.by_answer, dict(report.untold)) == (4, 4, {"the file's owner": 3})


def test_refusals_less_data_and_stronger_records_are_counted_apart():
    report = Report()
    for number, aspect in enumerate((Aspect.RECORD, Aspect.REDACTION, Aspect.ACCESS), 1):
        report.add(ASKED, NARROWER._replace(aspect=aspect), number, lambda: Example(b"/x", None, "0:1"))
    assert "6 narrower (3 refused, 2 less data, 1 recorded more)" in report.text()
    fields = report.as_json()
    assert fields["sorts"]["narrower"] == {"refused": 3, "less data": 2, "recorded more": 1}
    assert [change["sort"] for change in fields["changes"]] == ["refused", "less data", "recorded more"]

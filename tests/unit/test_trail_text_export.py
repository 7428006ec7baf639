"""Events in the forms of other programs."""

from __future__ import annotations

import pytest

from policyfs.trail.lines.event import Event
from policyfs.trail.text.export import CSV_HEAD, csv_row
from tests.support.mount.trail import START_NS, an_event


def test_a_csv_row_has_each_column() -> None:
    row = dict(zip(CSV_HEAD, csv_row(an_event(redacted=((0, 5),)), "m:1"), strict=True))
    assert (row["id"], row["hidden_bytes"], row["new_path"]) == ("m:1", "5", "")


def test_a_csv_row_tells_what_it_stands_for() -> None:
    event = an_event(
        folded="app", repeats=40, since_ns=START_NS, would_deny=("strict",), would_allow=("a", "b"), handle=7
    )
    row = dict(zip(CSV_HEAD, csv_row(event, "m:1"), strict=True))
    assert [row[name] for name in ("folded", "repeats", "since", "would_deny", "would_allow", "handle")] == [
        "app", "40", "2026-03-01T08:00:00.000000000Z", "strict", "a b", "7",
    ]  # fmt: skip
    shown = {"time", "mount", "path", "decision", "errno", "redacted", "handle", *CSV_HEAD}
    left = {"path_cut", "new_path_cut", "redacted_ranges", "redacted_bytes", "rules_left_out"}
    left |= {"mtime_before_ns", "mtime_after_ns", "redacted"}
    names = {"time_ns": "time", "since_ns": "since"}
    names |= {"policy_generation": "generation", "policy_digest": "policy"}
    assert {names.get(name, name) for name in Event._fields} - left <= shown


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    row = dict(zip(CSV_HEAD, csv_row(an_event(app=text, note=text), "m:1"), strict=True))
    assert row["app"] == row["note"] == f"'{text}"


@pytest.mark.parametrize("formula", ["=1", " =1", '"=1"', "'-1", "@a", "+1"])
def test_nor_behind_a_semicolon(formula: str) -> None:
    """There a German spreadsheet splits a text into cells, also within quotes."""
    row = dict(zip(CSV_HEAD, csv_row(an_event(note=f"a;{formula};b;c=1"), "m:1"), strict=True))
    assert row["note"] == f"a;'{formula};b;c=1"

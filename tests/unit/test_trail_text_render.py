"""How records read."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.trail.chain.verification import Break, Report
from policyfs.trail.lines.record import BadLine, Place, Record, parse_line
from policyfs.trail.lines.table import width
from policyfs.trail.query.rows import Again
from policyfs.trail.query.summary import Summary
from policyfs.trail.text.render import (
    RowPrinter,
    local_time,
    record_sheet,
    report_json,
    report_lines,
    summary_json,
    summary_lines,
    why,
)
from tests.support.mount.trail import START_NS, a_denial, an_event, line_of

PLACE = Place("0123456789abcdef", "00000001-20260301T080000Z.jsonl", 3)


def record_of(event) -> Record:
    found = parse_line(line_of(event, 12), PLACE)
    assert isinstance(found, Record)
    return found


def test_times() -> None:
    assert local_time(START_NS + 123_456_789, UTC) == "2026-03-01 08:00:00.123"
    assert local_time(10**30, UTC) == f"@{10**21}"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (an_event(), "gallery-sees passthrough"),
        (a_denial(), "EACCES no-private"),
        (a_denial(repeats=7), "EACCES no-private 7 more times"),
        (an_event(decision="would_deny", would_deny=("strict",), io=""), "gallery-sees would deny: strict"),
        (
            an_event(view="redacted(location)", redacted=((1, 4), (9, 6))),
            "gallery-sees passthrough redacted(location) 10 bytes hidden",
        ),
        (an_event(errno=28, note="full\x1b"), "ENOSPC gallery-sees passthrough full\\x1b"),
    ],
)
def test_why(event, text: str) -> None:
    assert why(event) == text


def test_a_narrow_terminal_gets_the_essentials_and_why_below_them() -> None:
    rows = RowPrinter(80, UTC)
    assert rows.head() == "TIME            ID           APP       OPERATION  DECISION  PATH"
    row = rows.row(record_of(a_denial(b"/Private/secret.jpg")))
    assert row == (
        "03-01 08:00:00  01234567:12  gallery   open       deny      /Private/secret.jpg\n"
        "    EACCES no-private"
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_why_is_never_cut(columns: int) -> None:
    words = [f"word{number}" for number in range(30)]
    row = RowPrinter(columns, UTC).row(record_of(a_denial(note=" ".join(words))))
    assert max(map(width, row.split("\n"))) <= columns
    assert " ".join(row.split()).endswith(" ".join(words))


def test_in_a_pipe_nothing_is_cut() -> None:
    note = "x" * 500
    (row,) = RowPrinter(None, UTC).row(record_of(a_denial(b"/" + b"y" * 500, note=note))).split("\n")
    assert "/" + "y" * 500 in row
    assert row.endswith(note)


def test_a_row_says_how_often_and_until_when() -> None:
    again = Again(8, (("open", 6), ("lookup", 2)), START_NS + 9 * 10**9)
    row = RowPrinter(None, UTC).row(record_of(a_denial(note="because")), again)
    assert row.endswith("EACCES no-private 8 times until 08:00:09 (open 6, lookup 2) because")
    once_more = again._replace(operations=(("open", 8),), more=True)
    assert "no-private 8 more times until 08:00:09 because" in RowPrinter(None, UTC).row(
        record_of(a_denial(note="because")), once_more
    )


def test_columns_grow_and_stay() -> None:
    rows = RowPrinter(None, UTC)
    first = rows.row(record_of(an_event(app="a-long-name-of-an-app")))
    second = rows.row(record_of(an_event()))
    assert first.index("/DCIM") == second.index("/DCIM")


@given(st.binary(max_size=300), st.integers(80, 200))
def test_a_row_fits_and_is_harmless(path: bytes, columns: int) -> None:
    for line in RowPrinter(columns, UTC).row(record_of(a_denial(path, new_path=path))).split("\n"):
        assert line.isprintable()
        assert width(line) <= columns


KINDS = ["header", "resume", "close", "detached", "gap", "recovered", "damage", "pruned", "\x1b[2J"]
NAMES = st.sampled_from(["cause", "how", "pid", "exe"]) | st.text(max_size=8)
values = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=8), max_size=2)


@given(st.sampled_from(KINDS), st.dictionaries(NAMES, values, max_size=3), st.booleans())
def test_the_journals_own_records_read_well_whatever_they_hold(kind, fields, unsure) -> None:
    if unsure:
        fields = fields | {"unsure_after": "\x1b"}
    record = Record(PLACE, kind, 1, START_NS, fields, None)
    for line in RowPrinter(80, UTC).row(record).split("\n"):
        assert line.isprintable()
        assert width(line) <= 80
    assert all(line.isprintable() for line in record_sheet(record, UTC))


def test_a_bad_line_has_its_place() -> None:
    row = RowPrinter(None, UTC).row(BadLine(PLACE, "no\x1b"))
    assert row == f"-- {PLACE.mount_id}/{PLACE.segment} line 3: this line is not a record: no\\x1b"


def test_a_sheet_shows_exact_paths() -> None:
    lines = record_sheet(record_of(an_event(b"/\xff\n", new_path=b"/b")), UTC)
    fields = dict(line.split(None, 1) for line in lines)
    assert fields["path"] == "/\\xff\\x0a"
    assert fields["path_b64"] == "L/8K"
    assert fields["local"] == "time  2026-03-01 08:00:00.000"


def test_a_summary_on_a_screen() -> None:
    summary = Summary()
    for number in range(20):
        summary.add(a_denial(b"/Private/" + b"\x1b" * number))
    lines = summary_lines(summary, UTC, 60)
    assert max(map(width, lines)) <= 60
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if "  gallery  /Private/" in line]) == 10
    assert summary_json(summary)["events"] == 20


def test_a_report() -> None:
    found = Break(PLACE, "changed")
    report = Report(PLACE.mount_id, 2, 9, 9, "ab" * 32, (found,), (Break(PLACE, "3 events dropped"),))
    assert report_lines(report) == [
        "0123456789abcdef: BROKEN, 9 records in 2 segments",
        "  break: 0123456789abcdef/00000001-20260301T080000Z.jsonl line 3: changed",
        "  note: 0123456789abcdef/00000001-20260301T080000Z.jsonl line 3: 3 events dropped",
        "  proven: the lines to seq 0",
        f"  head: 01234567:9={'ab' * 32}",
    ]
    assert report_json(report)["whole"] is False

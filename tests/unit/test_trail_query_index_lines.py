"""The quick way to read a line, and its limits. tests/property/test_audit_index.py compares whole indexes."""

from __future__ import annotations

from typing import Any

import pytest

from policyfs.trail.query.index_lines import EVENT_COLUMNS, IndexLines, common_of, split_line
from tests.support.mount.trail import an_event, line_of


def read(*lines: bytes) -> tuple[IndexLines, list[dict[str, Any]]]:
    found = IndexLines()
    rows = found.rows((0, one) for one in lines)
    return found, [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in rows]


def test_the_parts_of_a_line() -> None:
    parts = split_line(line_of(an_event(handle=7), 9).rstrip(b"\n"))
    assert parts is not None
    seq, second, nanoseconds, pid, caller, path, verdict, details = parts
    assert (seq, second, nanoseconds, pid) == (9, b"2026-03-01T08:00:00", 0, 4242)
    assert path == b',"path":"/DCIM/a.jpg"'
    assert b"pid" not in caller
    assert verdict.endswith(b'"')
    assert details == b',"handle":7'


@pytest.mark.parametrize(
    "old", [b'"path"', b'"decision"', b'"policy"', b'"pid"', b'"exe"', b'"chain"', b'Z"', b'"pid":4242']
)
def test_a_line_of_another_form_has_no_parts(old: bytes) -> None:
    assert split_line(line_of(an_event()).rstrip(b"\n").replace(old, b'"x"', 1)) is None


def test_callers_that_differ_in_a_process_are_of_one_class() -> None:
    found, rows = read(*(line_of(an_event(pid=pid, time_ns=pid)) for pid in range(5)))
    assert list(found.classes) == [common_of(an_event())]
    assert [(row["time"], row["pid"], row["class"]) for row in rows] == [(pid, pid, 0) for pid in range(5)]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\n",
        line_of(an_event()).replace(b'"handle"', b'"handle'),
        line_of(an_event(handle=1)).replace(b'"handle":1', b'"handle":'),
        line_of(an_event(handle=1)).replace(b'"handle":1', b'"handle":true'),
        line_of(an_event()).replace(b"2026-03", b"2026-13"),
        line_of(an_event()).replace(b"2026-03", b"9999-03"),
        line_of(an_event()).replace(b'"uid":10011', b'"uid":"x"'),
    ],
)
def test_damaged_lines_do_no_harm(raw: bytes) -> None:
    found, rows = read(raw, line_of(an_event()))
    assert len(rows) + len(found.others) == found.count == 2


@pytest.mark.parametrize("ranges", [b"[5]", b"[[0]]", b'[[0,"x"]]', b"[{}]"])
def test_a_line_that_differs_only_in_damaged_details_does_no_harm(ranges: bytes) -> None:
    hiding = line_of(an_event(redacted=((0, 5),)))
    found, rows = read(hiding, hiding.replace(b"[[0,5]]", ranges))
    assert (len(rows), len(found.others)) == (1, 1)


def test_numbers_that_an_app_makes_as_large_as_it_can_fit_a_column() -> None:
    """The app keeps a sparse file of 4 EiB, of which all but the beginning is hidden."""
    ranges = ((0, 1 << 62),) * 3
    large = line_of(an_event(handle=1, size_after=5)).replace(b'"handle":1', b'"handle":1' + b"0" * 30)
    _, rows = read(line_of(an_event(redacted=ranges)), large)
    assert rows[0]["hidden"] == rows[1]["handle"] == (1 << 63) - 1
    assert rows[1]["size_after"] == 5

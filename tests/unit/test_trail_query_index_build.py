"""The quick way to read a line, and its limits. tests/property/test_audit_index.py compares whole indexes."""

from __future__ import annotations

import pytest

from policyfs.trail.query.index import Index
from policyfs.trail.query.index_build import IndexBuilder, common_of, loaded, split_line
from tests.support.mount.trail import an_event, line_of


def index_of(*lines: bytes) -> Index:
    builder = IndexBuilder()
    for line in lines:
        builder.add(line, 0)
    return Index(builder.finish("s", 0, "00"))


def test_the_parts_of_a_line() -> None:
    parts = split_line(line_of(an_event(handle=7)).rstrip(b"\n"))
    assert parts is not None
    assert parts.second == b"2026-03-01T08:00:00"
    assert parts.path == b',"path":"/DCIM/a.jpg"'
    assert b"pid" not in parts.caller
    assert parts.verdict.endswith(b'"')
    assert parts.details == b',"handle":7'


@pytest.mark.parametrize(
    "old", [b'"path"', b'"decision"', b'"policy"', b'"pid"', b'"exe"', b'"chain"', b'Z"']
)
def test_a_line_of_another_form_has_no_parts(old: bytes) -> None:
    assert split_line(line_of(an_event()).rstrip(b"\n").replace(old, b'"x"', 1)) is None


def test_callers_that_differ_in_a_process_are_of_one_class() -> None:
    index = index_of(*(line_of(an_event(pid=pid, time_ns=pid)) for pid in range(5)))
    assert len(index.classes) == 1
    assert index.times.tolist() == [0, 1, 2, 3, 4]
    assert index.classes == [common_of(an_event())]
    assert loaded([*common_of(an_event())[:11], *common_of(an_event())[12:]]) == common_of(an_event())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\n",
        line_of(an_event()).replace(b'"handle"', b'"handle'),
        line_of(an_event(handle=1)).replace(b'"handle":1', b'"handle":'),
        line_of(an_event()).replace(b"2026-03", b"2026-13"),
        line_of(an_event()).replace(b"2026-03", b"9999-03"),
        line_of(an_event()).replace(b'"uid":10011', b'"uid":"x"'),
    ],
)
def test_damaged_lines_do_no_harm(raw: bytes) -> None:
    index = index_of(raw, line_of(an_event()))
    assert index.rows + len(index.bad) == 2


@pytest.mark.parametrize("ranges", [b"[5]", b"[[0]]", b'[[0,"x"]]', b"[{}]"])
def test_a_line_that_differs_only_in_damaged_details_does_no_harm(ranges: bytes) -> None:
    hiding = line_of(an_event(redacted=((0, 5),)))
    index = index_of(hiding, hiding.replace(b"[[0,5]]", ranges))
    assert (index.rows, len(index.bad)) == (1, 1)


def test_sizes_that_an_app_makes_as_large_as_it_can_do_no_harm() -> None:
    """The app keeps a sparse file of 4 EiB, of which all but the beginning is hidden."""
    index = index_of(*[line_of(an_event(redacted=((0, 1 << 62),)))] * 3)
    assert [number for _, number in index.numbers("hidden")] == [1 << 62] * 3
    [hour] = index.hours()
    assert hour.weight == 3

"""Queries as SQL. tests/property/test_audit_index.py compares selections with the lines."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policyfs.trail.query.condition import EVERYTHING, condition_of, fixed_parts, of_classes
from policyfs.trail.query.expression import Or, Term, Value
from policyfs.trail.query.selection import Selection, parse_query
from policyfs.trail.query.terms import Clock
from tests.support.mount.trail import an_event, index_of

CLOCK = Clock(datetime(2026, 3, 1, 9, 0, tzinfo=UTC), UTC)


@pytest.mark.parametrize(
    ("glob", "prefix", "needle"),
    [
        ("/DCIM/*.jpg", b"/DCIM", b"DCIM"),
        ("*.jpg", b"", b".jpg"),
        ("a.jpg", b"", b"a.jpg"),
        ("/a/**/bcd", b"/a", b"bcd"),
        ("/a/**/b", b"/a", b"a"),
        ("/{a,b}/c", b"", b"c"),
        ("/D*/***", b"/D", b"D"),
        ("/a\\*b/c", b"/a", b"b/c"),
        ("*", b"", b""),
        ("/**", b"", b""),
    ],
)
def test_the_fixed_parts_of_a_glob(glob: str, prefix: bytes, needle: bytes) -> None:
    assert fixed_parts(glob) == (prefix, needle)


def test_classes_are_tested_at_once() -> None:
    classes = {0: an_event(), 1: an_event(app="maps")}
    wanted = Selection(parse_query("app:maps (uid:10011 or exe:x)"), CLOCK)
    assert condition_of(wanted, classes) == of_classes([1], 2) == ("class IN (1)", ())
    assert condition_of(Selection(parse_query(""), CLOCK), classes) == of_classes([0, 1], 2) == EVERYTHING


@pytest.mark.parametrize("field", ["path", "pid"])
def test_a_list_may_be_long(field: str) -> None:
    """SQLite refuses expressions that are deeper than 1,000."""
    values = [str(number) if field == "pid" else f"/{number}/***" for number in range(1200)]
    one = Term(field, tuple(map(Value, values)))
    many = Or(tuple(Term(field, (Value(value),)) for value in values))
    index = index_of(an_event(b"/1199/x", pid=1199), an_event(b"/1200", pid=1200))
    for tree in (one, many):
        assert [line for (line,) in index.select("line", Selection(tree, CLOCK))] == [1]

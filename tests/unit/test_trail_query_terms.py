"""Fields of the query language by themselves; test_trail_query_selection.py asks whole queries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policyfs.trail.lines.bounds import PATH_BYTES, bounded
from policyfs.trail.lines.event import Event
from policyfs.trail.query.expression import Term, Value
from policyfs.trail.query.parser import QueryError
from policyfs.trail.query.terms import COLUMNS, Bounds, Clock, compile_term, is_pattern, number_bounds, plain
from tests.support.mount.trail import an_event

CLOCK = Clock(datetime(2026, 3, 1, tzinfo=UTC), UTC)


def test_each_field_can_be_asked() -> None:
    example = {"number": "1", "time": "1h", "path": "/a"}
    for column in COLUMNS:
        text = column.known[0] if column.known else example.get(column.kind, "a")
        assert compile_term(Term(column.name, (Value(text),)), CLOCK)(an_event()) in {True, False}


@pytest.mark.parametrize("field", ["errno", "kind", "io", "view"])
def test_wildcards_do_not_find_events_without_the_field(field: str) -> None:
    def finds(value: str, event: Event) -> bool:
        return compile_term(Term(field, (Value(value),)), CLOCK)(event)

    without = an_event(kind=None, io="", view="")
    has = an_event(decision="deny", errno=1, kind="EPERM", io="EPERM", view="EPERM")
    for value in ("*", "?*", "{E*,x}"):
        assert finds(value, has)
        assert not finds(value, without)
    for value in ("none", "{none,EACCES}"):
        assert finds(value, without)
        assert not finds(value, has)
    assert finds("{none,E*}", without)
    assert finds("{none,E*}", has)


def test_a_path_that_was_cut_is_found_by_its_whole_text() -> None:
    path = b"/" + b"x" * PATH_BYTES
    event = bounded(an_event(path))
    assert compile_term(Term("path", (Value(path.decode()),)), CLOCK)(event)
    assert not compile_term(Term("path", (Value(path.decode() + "y"),)), CLOCK)(event)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("10k", 10240), ("1.5M", 3 << 19), ("2GiB", 2 << 30), ("1t", 1 << 40)]
)
def test_numbers(text: str, number: int) -> None:
    assert number_bounds(Term("size", (Value(text),))) == [Bounds(number, number)]


@pytest.mark.parametrize("text", ["", "-1", "1x", "1.", "k", "1" * 19])
def test_no_numbers(text: str) -> None:
    with pytest.raises(QueryError):
        number_bounds(Term("size", (Value(text),)))


def test_words_and_patterns() -> None:
    assert is_pattern(Value("a*"))
    assert not is_pattern(Value("a*", literal=True))
    assert not is_pattern(Value("a\\*"))
    assert is_pattern(Value("a\\\\*"))
    assert plain(Value("a\\*")) == "a*"
    assert plain(Value("a\\*", literal=True)) == "a\\*"

"""Selections of events: a query of the command line, ready to be asked (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from policyfs.trail.expression import And, Expression, Term, Value, all_of, conjuncts, terms
from policyfs.trail.line import iso_time, quote
from policyfs.trail.parser import Parser
from policyfs.trail.terms import (
    NAMES,
    NUMERIC,
    RECORDED,
    Clock,
    compile_tree,
    is_pattern,
    moment,
    number_bounds,
    plain,
)

_HEAD: Final = re.compile(rb'\{"type":"event","seq":\d+,"time":"([0-9T:.Z-]{30})"')
_IN_LINES: Final = {"app": "app", "op": "operation", "decision": "decision"}


def parse_query(text: str) -> Expression:
    """Parse a query. Raises QueryError."""
    return Parser(text, NAMES, NUMERIC).parse()


def option(field: str, values: list[str]) -> Expression:
    """Return the term of an option whose values are meant as they are."""
    literal = field in _IN_LINES or field == "rule"
    return Term(field, tuple(Value(value, literal) for value in values)) if values else And()


class Selection:
    """The events that a query selects, and the time that it is about."""

    def __init__(self, tree: Expression, clock: Clock, text: str = "") -> None:
        """text: the query as typed, for errors. Raises QueryError."""
        self.tree = tree
        self.clock = clock
        self.text = text
        self.matches = compile_tree(tree, clock, text)
        times: dict[str, list[int]] = {"since": [], "until": []}
        for term in conjuncts(tree):
            if term.field in times:
                times[term.field].append(moment(term, clock, text))
        self.since_ns = max(times["since"], default=None)
        self.until_ns = min(times["until"], default=None)

    def covers(self, time_ns: int) -> bool:
        """True if the time lies in the period that the whole query is limited to."""
        if self.since_ns is not None and time_ns < self.since_ns:
            return False
        return self.until_ns is None or time_ns < self.until_ns

    def names(self) -> Iterator[tuple[str, str, Value]]:
        """Yield the words that the trail should know: field, word, value."""
        for term in terms(self.tree):
            if term.field in RECORDED:
                yield from ((term.field, plain(one), one) for one in term.values if not is_pattern(one))

    def narrowed(self, *parts: Expression) -> Selection:
        """Return the selection of events that fulfil these conditions, too."""
        return Selection(all_of(self.tree, *parts), self.clock, self.text)


class Prefilter:
    """Refuses most lines that a selection will refuse by their bytes, ten times faster than parsing.

    It never refuses a line, as policyfs writes them, that the selection accepts.
    """

    def __init__(self, wanted: Selection) -> None:
        self._since = _time_bytes(wanted.since_ns)
        self._until = _time_bytes(wanted.until_ns)
        self._groups = [group for term in conjuncts(wanted.tree) if (group := _group(term, wanted.text))]

    def may_match(self, raw: bytes) -> bool:
        """False if this line is an event that the selection refuses; True if it must be parsed."""
        head = _HEAD.match(raw)
        if head is None:
            return True
        if self._since is not None and head[1] < self._since:
            return False
        if self._until is not None and head[1] >= self._until:
            return False
        return all(any(text in raw for text in group) for group in self._groups)


def _group(term: Term, text: str) -> tuple[bytes, ...]:
    """Return bytes of which a line has at least one if it matches the term; empty if there are none."""
    if term.field in _IN_LINES and not any(map(is_pattern, term.values)):
        name = _IN_LINES[term.field]
        return tuple(f'"{name}":{quote(plain(value))}'.encode() for value in term.values)
    if term.field == "uid" and term.relation == "=":
        return tuple(f'"uid":{bounds.low},'.encode() for bounds in number_bounds(term, text))
    return ()


def _time_bytes(time_ns: int | None) -> bytes | None:
    if time_ns is None:
        return None
    return iso_time(time_ns).encode()

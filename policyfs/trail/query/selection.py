"""Selections: queries of the command line, compiled to functions that test events (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policyfs.trail.lines.record import Record, parse_time
from policyfs.trail.query.expression import And, Expression, Not, Or, Term, Value, all_of, conjuncts, terms
from policyfs.trail.query.parser import Parser
from policyfs.trail.query.terms import (
    NAMES,
    NUMERIC,
    OFTEN_ABSENT,
    RECORDED,
    Clock,
    absence,
    compile_tree,
    is_pattern,
    moment,
    plain,
)

_LITERAL: Final = ("app", "op", "decision", "rule")


def parse_query(text: str) -> Expression:
    """Parse the text of a query for events, and return it as a tree. Raises QueryError."""
    return Parser(text, NAMES, NUMERIC).parse()


def option(field: str, values: list[str]) -> Expression:
    """Return the condition for an option such as ``--app A --app B``. In app, op, decision and rule,
    wildcards are plain."""
    literal = field in _LITERAL
    return Term(field, tuple(Value(value, literal) for value in values)) if values else And()


class Selection:
    """A query that is ready for use. matches: tests an event. since_ns, until_ns: its period (ns since 1970;
    None: no limit)."""

    def __init__(self, tree: Expression, clock: Clock, text: str = "") -> None:
        """clock: the present time, for times such as ``2h``. text: for errors. Raises QueryError."""
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
        """Return True if a time (ns since 1970) is in the period of the query."""
        if self.since_ns is not None and time_ns < self.since_ns:
            return False
        return self.until_ns is None or time_ns < self.until_ns

    def overlaps(self, one_ns: int, other_ns: int) -> bool:
        """Return True if any time (ns since 1970) from one to the other, in any order, is in the period."""
        first_ns, last_ns = sorted((one_ns, other_ns))
        if self.since_ns is not None and last_ns < self.since_ns:
            return False
        return self.until_ns is None or first_ns < self.until_ns

    def concerns(self, record: Record) -> bool:
        """Return True if a record of the journal itself belongs to the period. A gap, written when the disk
        works again, also belongs to that in which its events were lost."""
        if self.covers(record.time_ns):
            return True
        first, last = record.fields.get("first"), record.fields.get("last")
        if record.kind != "gap" or not isinstance(first, str) or not isinstance(last, str):
            return False
        try:
            return self.overlaps(parse_time(first), parse_time(last))
        except ValueError:
            return False

    def names(self) -> Iterator[tuple[str, str, Value]]:
        """Yield (field, word, value) for names that the trail should have, of apps, operations and rules."""
        for term in terms(self.tree):
            if term.field in RECORDED:
                yield from ((term.field, plain(one), one) for one in term.values if not is_pattern(one))

    def narrowed(self, *parts: Expression) -> Selection:
        """Return a selection of those events of this selection that also meet the conditions *parts*."""
        return Selection(all_of(self.tree, *parts), self.clock, self.text)

    def lacking(self) -> Iterator[tuple[str, Selection]]:
        """Yield each field that many events lack, with a selection of those that lack it and meet all other
        conditions."""
        for name in dict.fromkeys(term.field for term in terms(self.tree) if term.field in OFTEN_ABSENT):
            tree = _without(self.tree, name)
            if tree != self.tree:
                yield name, Selection(all_of(tree, Not(self.tree)), self.clock)


def _without(tree: Expression, field: str) -> Expression:
    if isinstance(tree, Term):
        return absence(field) if tree.field == field else tree
    if isinstance(tree, Not):
        return Not(_without(tree.part, field))
    parts = tuple(_without(part, field) for part in tree.parts)
    return And(parts) if isinstance(tree, And) else Or(parts)

"""Queries for events as SQL conditions on an index, a table of the events in one segment (pure).

An index stores the fields of caller, decision and note once for each class of events. A part of a query about
these is tested in Python, once for each class; the rest is SQL. index_lines.py has the columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from policyfs.trail.lines.event import Event
from policyfs.trail.query.expression import And, Expression, Not, Term, terms
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.terms import BY_NAME, compile_tree, moment, number_bounds, path_tests

GLOB_FUNCTION: Final = "matches_glob"
"""The SQL function (glob, path) that tests whether a path matches a glob. The reader of an index adds it."""

SIZE: Final = "ifnull(size_after, size_before)"
_EXACT: Final = re.compile(r"/(?:\\.|[^\\*?{}\[\],])*", re.DOTALL)
_BELOW: Final = re.compile(r"((?:/[^\\*?{}\[\],/]+)*)/(\*\*\*?)")
_RUN: Final = re.compile(r"[^\\*?{}\[\],]+")

Values = tuple[object, ...]


class Condition(NamedTuple):
    """An SQL condition on a row of the table `event`, and the values for its question marks."""

    sql: str
    values: Values = ()


EVERYTHING: Final = Condition("1")
NOTHING: Final = Condition("0")


def condition_of(wanted: Selection, classes: Mapping[int, Event]) -> Condition:
    """Return the condition for exactly the events of a selection. classes: an event with the shared fields,
    by id."""
    return _tree(wanted.tree, wanted, classes)


def of_classes(ids: Sequence[int], count: int) -> Condition:
    """Return the condition for the events of some classes. count: the number of all classes."""
    if len(ids) in (0, count):
        return EVERYTHING if ids else NOTHING
    return Condition(f"class IN ({','.join(map(str, ids))})")


def _tree(tree: Expression, wanted: Selection, classes: Mapping[int, Event]) -> Condition:
    if tree == And():
        return EVERYTHING
    if not any(BY_NAME[term.field].by_row for term in terms(tree)):
        test = compile_tree(tree, wanted.clock, wanted.text)
        return of_classes([id_ for id_, event in classes.items() if test(event)], len(classes))
    if isinstance(tree, Term):
        return _term(tree, wanted)
    if isinstance(tree, Not):
        inner = _tree(tree.part, wanted, classes)
        return Condition(f"NOT {inner.sql}", inner.values)
    return _joined(
        "AND" if isinstance(tree, And) else "OR", [_tree(one, wanted, classes) for one in tree.parts]
    )


def _joined(word: str, parts: Sequence[Condition]) -> Condition:
    """Return the parts with AND or OR between them, in a balanced tree: SQLite limits the depth."""
    if len(parts) < 2:
        return parts[0] if parts else NOTHING
    half = len(parts) // 2
    first, second = _joined(word, parts[:half]), _joined(word, parts[half:])
    return Condition(f"({first.sql} {word} {second.sql})", first.values + second.values)


def _term(term: Term, wanted: Selection) -> Condition:
    kind = BY_NAME[term.field].kind
    if kind == "time":
        relation = ">=" if term.field == "since" else "<"
        return Condition(f"time {relation} ?", (moment(term, wanted.clock, wanted.text),))
    if kind == "path":
        return _paths(term, wanted.text)
    column = SIZE if term.field == "size" else term.field
    bounds = [
        Condition(f"ifnull({column} BETWEEN ? AND ?, 0)", (_limited(bound.low, -1), _limited(bound.high, 1)))
        for bound in number_bounds(term, wanted.text)
    ]
    return _joined("OR", bounds)


def _limited(number: int | None, sign: int) -> int:
    most = (1 << 63) - 1
    return sign * most if number is None else max(-most, min(number, most))


def _paths(term: Term, text: str) -> Condition:
    tests = path_tests(term, text)
    names = [_name(value.text) for value in term.values]
    exact = [name for name in names if isinstance(name, bytes)]
    parts = [name for name in names if isinstance(name, Condition)]
    if exact:
        parts.append(Condition(f"name IN ({','.join('?' * len(exact))})", tuple(exact)))
    found = _joined("OR", parts)
    paths = f"line IN (SELECT line FROM place WHERE path IN (SELECT id FROM path WHERE {found.sql}))"
    cuts = [
        Condition("line IN (SELECT line FROM cut WHERE sha256 = ?)", (one.sha256,))
        for one in tests
        if one.sha256
    ]
    return _joined("OR", [Condition(paths, found.values), *cuts])


def _name(glob: str) -> Condition | bytes:
    """Return a condition on a row of the table `path`, or the only name that the glob matches."""
    if _EXACT.fullmatch(glob):
        return _bytes(re.sub(r"\\(.)", r"\1", glob, flags=re.DOTALL))
    below = _BELOW.fullmatch(glob)
    if below is not None:
        place = _bytes(below[1])
        inside = Condition("(name > ? AND name < ?)", (place + b"/", place + b"0"))
        own = Condition("name = ?", (place or b"/",))
        return _joined("OR", [own, inside]) if below[2] == "***" else inside
    prefix, needle = fixed_parts(glob)
    parts = [Condition(f"{GLOB_FUNCTION}(?, name)", (glob,))]
    if needle:
        parts.insert(0, Condition("instr(name, ?)", (needle,)))
    if prefix and prefix[-1] < 255:
        after = prefix[:-1] + bytes([prefix[-1] + 1])
        parts.insert(0, Condition("(name >= ? AND name < ?)", (prefix, after)))
    return _joined("AND", parts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def fixed_parts(glob: str) -> tuple[bytes, bytes]:
    """Return two strings, perhaps empty: each path that matches begins with the first, and contains the
    second. ``/D/*/photo.jpg`` gives ``/D`` and ``photo.jpg``."""
    outside = re.sub(r"\\.|\{.*\}", "*", glob.removesuffix("/***"), flags=re.DOTALL)
    runs = _RUN.findall(outside)
    best = max((run for run in runs if run.strip("/") not in ("", "**")), key=len, default="")
    prefix = runs[0] if runs and outside.startswith(runs[0]) and runs[0].startswith("/") else ""
    # The slashes before and after ** are not fixed, because "/a/**/b" also matches "/a/b".
    return _bytes(prefix.rstrip("/")), _bytes(best.strip("/"))

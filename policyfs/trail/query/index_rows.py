"""Searches in an index (a table of the events in one file of the trail) for events that match a query (pure).

Each event has a row in the index. A set of rows is one integer with a byte for each row: 1 if the row is in
the set, else 0. So Python's arithmetic on long integers joins and intersects sets. Each part of a query gives
two sets: rows that surely match, and rows that may match. The sets differ if the index lacks a field of the
query. Then the event's line itself must be read.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import compress
from typing import Final, NamedTuple

from policyfs.trail.lines.event import DENY
from policyfs.trail.query.expression import And, Expression, Not, Term, terms
from policyfs.trail.query.index import Index
from policyfs.trail.query.index_build import NUMBERS
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.summary import HOUR_NS, Summary
from policyfs.trail.query.terms import BY_NAME, compile_tree, moment, number_bounds, path_tests

_RUN: Final = re.compile(r"[^\\*?{}\[\],]+")
_BELOW: Final = re.compile(r"((?:/[^\\*?{}\[\],/]+)*)/(\*\*\*?)")
_FEW: Final = 200
"""The limit of paths for which rows are looked up path by path. For more paths, all rows are tested."""


class Rows(NamedTuple):
    """Two sets of rows (events of an index): rows that surely match a query, and rows that may match it.

    A set is an integer: its byte number R is 1 if row R is in the set.
    """

    surely: int
    maybe: int


class RowFinder:
    """A search in one index for the rows (events) that match one query."""

    def __init__(self, index: Index, wanted: Selection) -> None:
        self._index = index
        self._wanted = wanted

    @cached_property
    def _all(self) -> int:
        return int.from_bytes(b"\1" * self._index.rows, "little")

    def find(self) -> Rows:
        """Return two sets: the rows that surely match the query, and the rows that may match it."""
        return self._tree(self._wanted.tree)

    def _tree(self, tree: Expression) -> Rows:
        if tree != And() and not any(BY_NAME[term.field].by_row for term in terms(tree)):
            return self._of_classes(tree)
        if isinstance(tree, Term):
            return self._term(tree)
        if isinstance(tree, Not):
            surely, maybe = self._tree(tree.part)
            return Rows(self._all ^ maybe, self._all ^ surely)
        if isinstance(tree, And):
            surely = maybe = self._all
            for part in sorted(tree.parts, key=_by_row):
                if not maybe:
                    break
                found = self._tree(part)
                surely, maybe = surely & found.surely, maybe & found.maybe
            return Rows(surely, maybe)
        surely = maybe = 0
        for part in tree.parts:
            found = self._tree(part)
            surely, maybe = surely | found.surely, maybe | found.maybe
        return Rows(surely, maybe)

    def _of_classes(self, tree: Expression) -> Rows:
        test = compile_tree(tree, self._wanted.clock, self._wanted.text)
        answers = bytes(map(test, self._index.classes))
        if 0 not in answers:
            return Rows(self._all, self._all)
        if 1 not in answers:
            return Rows(0, 0)
        return self._exactly(bytes(map(answers.__getitem__, self._index.class_of)))

    def _exactly(self, mask: bytes | bytearray) -> Rows:
        rows = int.from_bytes(mask, "little")
        return Rows(rows, rows)

    def _term(self, term: Term) -> Rows:
        kind = BY_NAME[term.field].kind
        if kind == "time":
            return self._times(term)
        if kind == "path":
            return self._paths(term)
        if term.field not in NUMBERS:
            return Rows(0, self._all)
        mask = bytearray(self._index.rows)
        bounds = number_bounds(term, self._wanted.text)
        for row, number in self._index.numbers(term.field):
            if any(bound.holds(number) for bound in bounds):
                mask[row] = 1
        return self._exactly(mask)

    def _times(self, term: Term) -> Rows:
        time_ns = moment(term, self._wanted.clock, self._wanted.text)
        is_since = term.field == "since"
        period = (time_ns, None) if is_since else (None, time_ns)
        between = self._index.rows_between(*period)
        if between is None:
            test = time_ns.__le__ if is_since else time_ns.__gt__
            return self._exactly(bytes(map(test, self._index.times)))
        low, high = between
        return self._exactly(bytes(low) + b"\1" * (high - low))

    def _paths(self, term: Term) -> Rows:
        index, rows = self._index, 0
        for value, test in zip(term.values, path_tests(term, self._wanted.text), strict=True):
            if ids := path_ids(index, value.text, test.pattern):
                rows |= self._on_paths(ids)
            if test.sha256 and (cut := index.rows_cut(test.sha256)):
                mask = bytearray(index.rows)
                for row in cut:
                    mask[row] = 1
                rows |= int.from_bytes(mask, "little")
        return Rows(rows, rows)

    def _on_paths(self, ids: Sequence[int]) -> int:
        index = self._index
        mask = bytearray(index.rows)
        if len(ids) <= _FEW:
            for path_id in ids:
                for row in index.rows_of_path(path_id):
                    mask[row] = 1
        else:
            table = bytearray(index.path_count)
            for path_id in ids:
                table[path_id] = 1
            mask = bytearray(map(table.__getitem__, index.path_of))
            for row, path_id in index.new_paths.items():
                mask[row] |= table[path_id]
        return int.from_bytes(mask, "little")


def _by_row(tree: Expression) -> bool:
    return any(BY_NAME[term.field].by_row for term in terms(tree))


def path_ids(index: Index, glob: str, pattern: re.Pattern[bytes]) -> Sequence[int]:
    """Return the ids of the paths in an index that match a glob. pattern: the compiled glob."""
    below = _BELOW.fullmatch(glob)
    if below is not None:
        place = below[1].encode("utf-8", "surrogateescape")
        first, last = index.first_path(place + b"/"), index.first_path(place + b"0")
        if not place:
            last = index.path_count
        if below[2] == "**":
            return range(first + (not place and first < last and index.path(first) == b"/"), last)
        own = index.first_path(place)
        mine = [own] if place and own < index.path_count and index.path(own) == place else []
        return [*mine, *range(first, last)]
    prefix, needle = fixed_parts(glob)
    return index.paths_matching(pattern, prefix, needle)


def fixed_parts(glob: str) -> tuple[bytes, bytes]:
    """Return two strings. Each path that matches the glob begins with the first string, and contains the
    second string.

    For example, ``/D/*/photo.jpg`` gives ``/D`` and ``photo.jpg``. A string is empty if no text is fixed.
    """
    outside = re.sub(r"\\.|\{.*\}", "*", glob.removesuffix("/***"), flags=re.DOTALL)
    runs = _RUN.findall(outside)
    best = max((run for run in runs if run.strip("/") not in ("", "**")), key=len, default="")
    prefix = runs[0] if runs and outside.startswith(runs[0]) and runs[0].startswith("/") else ""
    if prefix == outside and not glob.endswith("/***"):
        return prefix.encode("utf-8", "surrogateescape"), b""
    # The slashes before and after ** are not fixed, because "/a/**/b" also matches "/a/b".
    prefix, best = prefix.rstrip("/"), best.strip("/")
    return prefix.encode("utf-8", "surrogateescape"), best.encode("utf-8", "surrogateescape")


def chosen(rows: int, count: int) -> list[int]:
    """Return the numbers of the rows in a set, in ascending order.

    rows: the set, an integer with a byte for each row. count: the number of all rows of the index.
    """
    return list(compress(range(count), rows.to_bytes(count, "little"))) if rows else []


def is_all(rows: int, count: int) -> bool:
    """Return True if the set *rows* has all *count* rows of an index."""
    return rows == int.from_bytes(b"\1" * count, "little")


def add_to_summary(summary: Summary, index: Index, rows: int) -> None:
    """Count some events of an index in a summary. rows: the set of these events.

    The sums and counts are the same as after Summary.add() for each event, but no line is read.
    """
    count = index.rows
    if not rows:
        return
    if is_all(rows, count):
        for hour in index.hours():
            summary.add_sums(index.classes[hour.class_id], hour.hour, hour)
    else:
        _add_rows(summary, index, rows.to_bytes(count, "little"))
    if summary.by_path:
        _add_groups(summary, index, chosen(rows, count))
    times = list(compress(index.times, rows.to_bytes(count, "little")))
    summary.add_period(min(times), max(times))
    denied = bytes(event.decision == DENY for event in index.classes)
    mask = rows & int.from_bytes(bytes(map(denied.__getitem__, index.class_of)), "little")
    refused: Counter[tuple[int, int]] = Counter()
    for row in chosen(mask, count):
        refused[index.class_of[row], index.path_of[row]] += index.repeats.get(row, 1)
    for (class_id, path_id), weight in refused.items():
        summary.add_denied(index.classes[class_id], index.path(path_id), weight)


def _add_groups(summary: Summary, index: Index, rows: Sequence[int]) -> None:
    """Count some rows (events) of an index in the groups of a summary by path. Equal rows count together."""
    groups: Counter[tuple[int, int, int | None, int]] = Counter()
    for row in rows:
        key = index.class_of[row], index.path_of[row], index.new_paths.get(row), index.times[row] // HOUR_NS
        groups[key] += index.repeats.get(row, 1)
    for (class_id, path_id, new_id, hour), weight in groups.items():
        event = index.classes[class_id]._replace(
            path=index.path(path_id), new_path=None if new_id is None else index.path(new_id)
        )
        summary.add_group(event, hour, weight)


def _add_rows(summary: Summary, index: Index, mask: bytes) -> None:
    """Count some rows (events) of an index in a summary. mask: one byte for each row, 1 for a row to count.

    The sums in the index cannot be used, because they are sums over all rows.
    """
    hours = array("q", [time // HOUR_NS for time in compress(index.times, mask)])
    counts = Counter(zip(hours, compress(index.class_of, mask), strict=True))
    sums: dict[tuple[int, int], list[int]] = {key: [count, 0, 0, 0, 0] for key, count in counts.items()}

    def sums_of(row: int) -> list[int]:
        return sums[index.times[row] // HOUR_NS, index.class_of[row]]

    for row, repeats in index.repeats.items():
        if mask[row]:
            sums_of(row)[0] += repeats - 1
    for at, name in ((1, "bytes_read"), (2, "bytes_written"), (4, "hidden")):
        for row, number in index.numbers(name):
            if mask[row]:
                sums_of(row)[at] += number
                if name == "hidden":
                    sums_of(row)[3] += index.repeats.get(row, 1)
    for (hour, class_id), values in sums.items():
        summary.add_sums(index.classes[class_id], hour, Sums(*values))


class Sums(NamedTuple):
    """Sums over events of one class (with the same caller, decision and note).

    weight: the number of requests. redacted: the number of requests with hidden bytes. hidden: the number of
    bytes that were hidden.
    """

    weight: int
    bytes_read: int
    bytes_written: int
    redacted: int
    hidden: int

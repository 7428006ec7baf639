"""Indexes of segments against the lines themselves: every selection, and every sum."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import accumulate, islice
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.cli.audit.summary import add_events
from policyfs.journal.index.database import Index, build
from policyfs.trail.chain import chain
from policyfs.trail.lines.bounds import PATH_BYTES, bounded
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import LineFormatter, iso_time
from policyfs.trail.lines.record import Place, Record, parse_line
from policyfs.trail.query.expression import And, Expression, Term, Value, all_of
from policyfs.trail.query.index_lines import EVENT_COLUMNS
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.summary import Summary
from policyfs.trail.query.terms import Clock, hidden_of
from tests.property.test_audit_queries import TREES
from tests.support.machine.counts import count
from tests.support.mount.trail import START_NS, an_event

CLOCK = Clock(datetime(2026, 3, 1, 9, 0, tzinfo=UTC), UTC)
EVERYTHING = Selection(And(), CLOCK)
HOUR_NS = 3600 * 10**9
PATHS = [
    b"/", b"/a", b"/a/b", b"/b", b"/a b", b"/a b/c", b'/"', b"/*", b"/a/\xff", b"/a\\b", b"/ab", b"/a0",
    b"/a/b/c.jpg", "/猫/a.jpg".encode(), b"/\x1b", b"/x" + b"y" * PATH_BYTES,
]  # fmt: skip
GLOBS = [
    "/**", "/***", "/a/**", "/a/***", "/a b/***", "a", "b", "*.jpg", "/a*", "/*/b", "/**/b", "/{a,b}", "/a/?",
    "/a\\\\b", '/"', "/猫/**", "/猫/*.jpg", "/x" + "y" * PATH_BYTES, "/a/**/c.jpg", "/{a,b}/**", "/a/b",
]  # fmt: skip
NAMES = ["a", "b", "ab", 'q"', "\\", "猫", "\x1b"]
TEXTS = st.sampled_from(["", "not understood", 'a "note"', "\u202e"])
NUMBERS = st.none() | st.integers(0, 4)
EVENTS = st.builds(
    an_event,
    st.sampled_from(PATHS),
    time_ns=st.integers(-3, 3).map(lambda hours: START_NS + hours * HOUR_NS),
    app=st.sampled_from(NAMES),
    exe=st.sampled_from(["", "/x/a", "/a", 'a"b']),
    uid=st.integers(0, 4),
    pid=st.integers(0, 4),
    operation=st.sampled_from(["open", "release"]),
    decision=st.sampled_from(["allow", "deny", "would_deny"]),
    errno=st.sampled_from([0, 13]),
    rules=st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
    would_deny=st.sampled_from([(), ("a",)]),
    new_path=st.none() | st.sampled_from(PATHS),
    kind=st.none() | st.sampled_from(NAMES),
    redacted=st.sampled_from([(), ((0, 2),), ((0, 1), (5, 1))]),
    handle=NUMBERS,
    bytes_read=NUMBERS,
    bytes_written=NUMBERS,
    size_before=NUMBERS,
    size_after=NUMBERS,
    note=TEXTS,
    repeats=st.sampled_from([0, 0, 2]),
    since_ns=st.none() | st.just(START_NS),
)
OTHER_LINES = st.sampled_from([b"\xff\n", b"{}\n", b'{"type":"event","seq":1}\n'])
LINES = st.lists(EVENTS | st.just(None) | OTHER_LINES, max_size=12)


def written(items: list[Event | bytes | None]) -> list[bytes]:
    """The lines of a segment. None: a gap."""
    form, head, lines = LineFormatter(), chain.GENESIS, []
    for seq, item in enumerate(items, start=1):
        if isinstance(item, bytes):
            lines.append(item)
            continue
        body = form.record("gap", seq, START_NS, {}) if item is None else form.event(bounded(item), seq)
        line, head = chain.seal(head, body)
        lines.append(line)
    return lines


def indexed(lines: list[bytes]) -> Index:
    offsets = accumulate(map(len, lines), initial=0)
    return Index(build(zip(offsets, lines, strict=False), sum(map(len, lines)), "00"))


def events_of(lines: list[bytes]) -> list[tuple[int, Event]]:
    parsed = [parse_line(line, Place("", "", number)) for number, line in enumerate(lines, start=1)]
    return [
        (one.place.line, one.event) for one in parsed if isinstance(one, Record) and one.event is not None
    ]


PATH_TERMS = st.builds(Term, st.just("path"), st.tuples(st.sampled_from(GLOBS).map(Value)))
TIMES = st.builds(
    lambda field, hours: Term(field, (Value(iso_time(START_NS + hours * HOUR_NS)),)),
    st.sampled_from(["since", "until"]), st.integers(-2, 2),
)  # fmt: skip
QUERIES = st.lists(TREES | PATH_TERMS | TIMES, min_size=1, max_size=2).map(lambda parts: all_of(*parts))


@settings(max_examples=count(150, 5_000))
@given(LINES, QUERIES)
def test_an_index_finds_what_the_lines_have(items: list[Event | bytes | None], tree: Expression) -> None:
    lines = written(items)
    index, wanted, events = indexed(lines), Selection(tree, CLOCK), events_of(lines)
    matching = [(line, event) for line, event in events if wanted.matches(event)]
    assert [line for (line,) in index.select("line", wanted)] == [line for line, _ in matching]
    for by in ((), ("op", "hour", "rule"), ("path", "directory", "hour")):
        for selection, found in ((wanted, matching), (EVERYTHING, events)):
            summary, naive = Summary(by), Summary(by)
            add_events(summary, index, selection)
            for _, event in found:
                naive.add(event)
            assert counted(summary) == counted(naive)


def counted(summary: Summary) -> dict[str, object]:
    """The numbers of a summary, and the examples that it gives."""
    refused = {grounds: (one.count, one.path) for grounds, one in summary.refusals.items()}
    return vars(summary) | {"refusals": refused, "grouped": list(summary.grouped)}


def told_by(index: Index, row: dict[str, Any]) -> Event:
    """The event of a row, as far as the index has its fields."""
    new = row["new_path"]
    same = ("pid", "handle", "bytes_read", "bytes_written", "size_before", "size_after")
    return index.classes[row["class"]]._replace(
        time_ns=row["time"], path=index.path(row["path"]), repeats=row["repeats"] or 0,
        new_path=None if new is None else index.path(new), **{name: row[name] for name in same},
    )  # fmt: skip


@given(LINES)
def test_an_index_has_each_line_once(items: list[Event | bytes | None]) -> None:
    lines = written(items)
    index, events = indexed(lines), events_of(lines)
    rows = [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in index.query("SELECT * FROM event")]
    others = [line for (line,) in index.query("SELECT line FROM other")]
    assert sorted([row["line"] for row in rows] + others) == list(range(1, len(lines) + 1))
    for row, (line, event) in zip(rows, events, strict=True):
        assert row["line"] == line
        kept = event._replace(redacted=(), since_ns=None, path_cut=None, new_path_cut=None)
        assert told_by(index, row) == kept
        assert row["hidden"] == hidden_of(event)
        assert bytes(islice(b"".join(lines), row["offset"], None)).startswith(lines[line - 1])

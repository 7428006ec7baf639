"""The query language of `policyfs audit`: its text is exact, and a naive matcher agrees with it."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st

from policyfs.trail.lines.event import Event
from policyfs.trail.query.expression import And, Expression, Not, Or, Term, Value, all_of, any_of, text_of
from policyfs.trail.query.parser import QueryError
from policyfs.trail.query.selection import Selection, parse_query
from policyfs.trail.query.terms import Clock
from tests.support.mount.trail import START_NS, an_event

CLOCK = Clock(datetime(2026, 3, 1, 9, 0, tzinfo=UTC), UTC)
WORDS = ["a", "b", "ab", "*", "a*", "?"]
NAMES = ["a", "b", "ab", "ba", "*"]
LITERALS = st.builds(Value, st.sampled_from(NAMES) | st.text(max_size=4), st.just(True))
BARE = st.builds(Value, st.sampled_from(WORDS))
TEXTS = st.builds(
    Term, st.sampled_from(["app", "exe", "rule", "kind"]),
    st.lists(LITERALS | BARE, min_size=1, max_size=3).map(tuple),
)  # fmt: skip
NUMBERS = st.integers(0, 4).map(str).map(Value)
COMPARED = st.builds(
    Term, st.sampled_from(["uid", "pid", "size", "bytes_read"]), st.tuples(NUMBERS),
    st.sampled_from(["=", "<", "<=", ">", ">="]),
)  # fmt: skip
RANGES = st.builds(
    lambda field, low, more: Term(field, (Value(str(low)), Value(str(low + more))), ".."),
    st.sampled_from(["uid", "pid", "size"]), st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip
GLOBS = st.sampled_from(["/a/*", "/**", "b", "/a b", '/"', "/{a,b}", "/\\*"])
PATHS = st.builds(Term, st.just("path"), st.tuples(GLOBS.map(Value)))
TERMS = TEXTS | COMPARED | RANGES | PATHS
TREES = st.recursive(
    TERMS,
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: all_of(*parts))
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: any_of(*parts))
    ),
    max_leaves=8,
)
EVENTS = st.builds(
    an_event,
    st.sampled_from([b"/a/b", b"/b", b"/a b", b'/"', b"/*", b"/a", b"/a/\xff"]),
    app=st.sampled_from(NAMES),
    exe=st.sampled_from(["", "/x/a", "/a", "ab"]),
    rules=st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
    kind=st.none() | st.sampled_from(NAMES),
    uid=st.integers(0, 4),
    pid=st.integers(0, 4),
    size_before=st.none() | st.integers(0, 4),
    bytes_read=st.none() | st.integers(0, 4),
    time_ns=st.just(START_NS),
)


@given(TREES)
def test_the_text_of_a_tree_is_the_same_tree(tree: Expression) -> None:
    assert parse_query(text_of(tree)) == tree
    assert parse_query(f" ( {text_of(tree)} ) ") == tree


@given(st.text(alphabet='ab:("),>. not*{}\\', max_size=20))
def test_any_text_is_a_tree_or_an_error(text: str) -> None:
    with contextlib.suppress(QueryError):
        Selection(parse_query(text), CLOCK, text)


PATH_MATCHES = {
    "/a/*": {b"/a/b", b"/a/\xff"},
    "/**": {b"/a/b", b"/b", b"/a b", b'/"', b"/*", b"/a", b"/a/\xff"},
    "b": {b"/a/b", b"/b"},
    "/a b": {b"/a b"},
    '/"': {b'/"'},
    "/{a,b}": {b"/a", b"/b"},
    "/\\*": {b"/*"},
}


def naive(tree: Expression, event: Event) -> bool:
    """Evaluate a tree in the most plain way, without anything of the package's."""
    if isinstance(tree, And):
        return all(naive(part, event) for part in tree.parts)
    if isinstance(tree, Or):
        return any(naive(part, event) for part in tree.parts)
    if isinstance(tree, Not):
        return not naive(tree.part, event)
    if tree.field == "path":
        return event.path in PATH_MATCHES[tree.values[0].text]
    texts = {
        "app": [event.app], "rule": list(event.rules), "kind": [event.kind] if event.kind else [],
        "exe": [event.exe, event.exe.split("/")[-1]],
    }.get(tree.field)  # fmt: skip
    if tree.field == "kind" and event.kind is None:  # no wildcard means the word for "no kind"
        return any(value.text == "none" for value in tree.values)
    if texts is not None:
        return any(
            text == value.text if value.literal else fnmatchcase(text, value.text)
            for text in texts
            for value in tree.values
        )
    number = {
        "uid": event.uid, "pid": event.pid, "size": event.size_before, "bytes_read": event.bytes_read
    }[tree.field]  # fmt: skip
    if number is None:
        return False
    first = int(tree.values[0].text)
    if tree.relation == "..":
        return first <= number <= int(tree.values[1].text)
    return {
        "=": number == first, "<": number < first, "<=": number <= first, ">": number > first,
        ">=": number >= first,
    }[tree.relation]  # fmt: skip


@given(TREES, EVENTS)
def test_a_naive_matcher_agrees(tree: Expression, event: Event) -> None:
    selection = Selection(tree, CLOCK)
    assert selection.matches(event) == naive(tree, event)

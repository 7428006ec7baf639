"""Selections of events, and the test of bytes before them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policyfs.trail.query.expression import And, all_of
from policyfs.trail.query.parser import QueryError
from policyfs.trail.query.selection import Selection, option, parse_query
from policyfs.trail.query.terms import Clock
from tests.support.mount.trail import BASE, START_NS, a_denial

CLOCK = Clock(datetime(2026, 3, 1, 9, 0, tzinfo=UTC), UTC)
EVENT = BASE._replace(
    new_path=b"/Music/b.mp3", operation="rename", would_deny=("strict",), kind="image/jpeg",
    note="Not understood",
    size_before=10, size_after=2 << 20, bytes_read=0, redacted=((0, 3), (9, 4)), syscall="rename",
)  # fmt: skip


def select(text: str) -> Selection:
    return Selection(parse_query(text), CLOCK, text)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app:maps,gallery", True),
        ("app:maps", False),
        ("app:gal*", True),
        ('app:"gal*"', False),
        ("app:gal?ery", True),
        ("app:{maps,gallery}", True),
        ("uid:10011", True),
        ("uid:10000..10999", True),
        ("uid:..10010", False),
        ("uid:>10011", False),
        ("uid:>=10011 uid:<=10011", True),
        ("op:rename", True),
        ("operation:open", False),
        ("decision:deny", False),
        ("not decision:deny", True),
        ("rule:gallery-sees", True),
        ("rule:strict", True),
        ("rule:gallery", False),
        ("path:/DCIM/*", True),
        ("path:/Music/*", True),
        ("path:/Movies/*", False),
        ("path:b.mp3", True),
        ("exe:exiftool", True),
        ("exe:/usr/bin/*", True),
        ("exe:tool", False),
        ("syscall:rename", True),
        ("errno:none", True),
        ("errno:EACCES", False),
        ("kind:image/*", True),
        ("kind:video/*", False),
        ("reason:understood", True),
        ('reason:"not under"', True),
        ("reason:eacces", False),
        ("size:>1M", True),
        ("size:2M", True),
        ("size:1.5M..3M", True),
        ("size:<1k", False),
        ("bytes_read:0", True),
        ("bytes_written:>=0", False),
        ("not bytes_written:>=0", True),
        ("hidden:7", True),
        ("mount:/srv/*", True),
        ("policy:abab", True),
        ("policy:ab1", False),
        ("generation:1", True),
        ("pid:4242", True),
        ("io:passthrough view:raw", True),
        ("since:1h", True),
        ("since:10m", False),
        ("until:1h", False),
        ("until:now", True),
        ("app:maps or op:rename", True),
        ("app:maps or op:rename decision:deny", False),
        ("(app:maps or op:rename) decision:allow", True),
        ("not (app:maps or op:rename)", False),
        ("not not op:rename", True),
    ],
)
def test_queries(text: str, matches: bool) -> None:
    assert select(text).matches(EVENT) is matches


def test_a_denial_tells_its_errno() -> None:
    assert select("errno:EACCES reason:eacces,x decision:deny").matches(a_denial())


@pytest.mark.parametrize(
    ("text", "message", "mark"),
    [
        ("ap:gallery", "no field is called ap: did you mean app?", "^^"),
        ("op:open siez:1", "did you mean size or since?", "        ^^^^"),
        ("decision:denied", "there is no decision 'denied': did you mean deny?", "         ^^^^^^"),
        ("errno:eacces", "write EACCES", "      ^^^^^^"),
        ("app:a size:big", "'big' is not a number: write 10, 64k", "           ^^^"),
        ("size:5..2", "write the smaller number first", "^^^^^^^^^"),
        ("size:1.5", "is not a number", "     ^^^"),
        ("size:..", "a range needs a number", "     ^^"),
        ("since:soon", "is not a time: write 10m", "      ^^^^"),
        ("since:1h,2h", "give since a single time, not a list", "         ^^"),
        ("path:/a[", "write \\[ for a bracket", "     ^^^"),
        ("a.jpg", "such as path:a.jpg", "^^^^^"),
        ("gallery", "such as app:gallery", "^^^^^^^"),
        ("app:", "a value is missing after app:", "    ^"),
        ("app:a,", "a value is missing after app:", "      ^"),
        ('reason:"a b', "this quote is never closed", "       ^"),
        ('app:"a"b', "a space is missing here", "       ^"),
        ("(app:a", "this parenthesis is never closed", "^"),
        ("app:a)", "this parenthesis closes nothing", "     ^"),
        ("()", "a condition is missing before", " ^"),
        ("app:a or", "a condition is missing here", "        ^"),
        ("app:a and", "a condition is missing here", "         ^"),
        ("not", "a condition is missing here", "   ^"),
        ("(" * 101, "more than 100 parentheses", " " * 100 + "^"),
        ("app:猫 x:y", "no field is called x", "       ^"),
    ],
)
def test_errors_mark_their_place(text: str, message: str, mark: str) -> None:
    with pytest.raises(QueryError) as info:
        select(text)
    first, shown, marks = str(info.value).split("\n")
    assert message in first
    assert (shown, marks) == (f"  {text}", f"  {mark}")
    assert info.value.exit_code == 2


def test_a_text_that_could_harm_a_terminal_is_shown_harmlessly() -> None:
    with pytest.raises(QueryError) as info:
        select("app:\x1b[2J x:y")
    assert str(info.value).split("\n")[1:] == ["  app:\\x1b[2J x:y", "              ^"]


def test_options_mean_their_words_as_they_are() -> None:
    tree = all_of(option("app", ["gal*"]), option("uid", []))
    assert not Selection(tree, CLOCK).matches(EVENT)
    assert Selection(tree, CLOCK).matches(EVENT._replace(app="gal*"))
    assert option("uid", []) == And()


def test_the_period_of_a_query() -> None:
    selection = select("since:2h app:a (until:1h since:90m)")
    assert selection.since_ns == START_NS - 30 * 60 * 10**9
    assert selection.until_ns == START_NS
    assert selection.covers(START_NS - 1)
    assert not selection.covers(START_NS)
    assert not selection.covers(START_NS - 31 * 60 * 10**9)
    assert select("since:2h or app:a").since_ns is None


def test_names_are_those_that_the_trail_should_know() -> None:
    wanted = select('app:a,b* not (op:c or rule:"d*") exe:e')
    assert [(field, name) for field, name, _ in wanted.names()] == [("app", "a"), ("op", "c"), ("rule", "d*")]


def test_a_selection_can_be_narrowed() -> None:
    assert not select("op:rename").narrowed(parse_query("uid:1")).matches(EVENT)

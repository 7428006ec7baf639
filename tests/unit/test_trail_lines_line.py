"""Lines: what they say is what the event was, and they are harmless to look at."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.trail.chain import chain
from policyfs.trail.lines.bounds import bounded
from policyfs.trail.lines.event import BY_APP, BY_DIRECTORY, BY_OPERATION, BY_RULE, DECISIONS, Cut, Event
from policyfs.trail.lines.line import LineFormatter, is_plain, iso_time, quote
from policyfs.trail.lines.record import Place, Record, parse_line
from tests.support.machine.counts import count
from tests.support.mount.trail import BASE, an_event, line_of

PLACE = Place("0123456789abcdef", "00000001-20260301T080000Z.jsonl", 2)

# What bytes become through surrogateescape, and every other character but surrogates.
texts = st.text(
    st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=40,  # so that no field is cut, whatever it is escaped to (test_trail_lines_bounds.py)
)
paths = st.binary(max_size=40) | texts.map(lambda text: text.encode("utf-8", "surrogateescape"))
numbers = st.integers(0, 2**63)
maybe = st.none() | numbers
rules = st.lists(texts, max_size=3).map(tuple)
cuts = st.none() | st.builds(
    Cut, numbers, numbers, numbers, st.text("0123456789abcdef", min_size=64, max_size=64)
)

events = st.builds(
    Event,
    time_ns=st.integers(0, 4_000_000_000_000_000_000),
    mount=texts,
    policy_generation=numbers,
    policy_digest=texts,
    app=texts,
    uid=numbers,
    gid=numbers,
    pid=numbers,
    exe=texts,
    operation=texts,
    syscall=texts,
    path=paths,
    decision=st.sampled_from(DECISIONS),
    errno=st.sampled_from([0, 1, 2, 5, 13, 28, 116, 9999]),
    rules=rules,
    new_path=st.none() | paths,
    kind=st.none() | texts.filter(bool),
    io=texts,
    view=texts,
    redacted=st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    handle=maybe,
    bytes_read=maybe,
    bytes_written=maybe,
    size_before=maybe,
    size_after=maybe,
    mtime_before_ns=maybe,
    mtime_after_ns=maybe,
    would_deny=rules,
    would_allow=rules,
    note=texts,
    repeats=st.integers(0, 5),
    since_ns=st.none() | st.integers(0, 4_000_000_000_000_000_000),
    folded=st.sampled_from(["", BY_DIRECTORY, BY_OPERATION, BY_RULE, BY_APP]),
    path_cut=cuts,
    new_path_cut=st.none(),  # there is none without a new path
    redacted_ranges=st.just(0),  # nor these without ranges
    redacted_bytes=st.just(0),
    rules_left_out=st.integers(0, 1000),
)


@given(events)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    record = parse_line(line_of(event, 7), PLACE)
    assert isinstance(record, Record), record
    assert record.event == event
    assert (record.kind, record.seq, record.time_ns) == ("event", 7, event.time_ns)


@given(events)
def test_a_line_is_one_line_of_visible_characters(event: Event) -> None:
    line = line_of(event)
    assert line.count(b"\n") == 1
    assert is_plain(line.decode()[:-1])
    assert chain.split(line[:-1]) is not None


@given(st.lists(events, max_size=5))
def test_what_the_formatter_remembers_changes_nothing(several: list[Event]) -> None:
    remembering = LineFormatter()
    for event in several + several:
        assert remembering.event(event, 1) == LineFormatter().event(event, 1)


def test_memory_of_the_formatter_is_bounded_and_lines_stay_right() -> None:
    formatter = LineFormatter()
    tracemalloc.start()
    try:
        for pid in range(count(10_000, 100_000)):
            line = formatter.event(BASE._replace(pid=pid), 1)
            assert b'"pid":%d,' % pid in line
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most_bytes < 1 << 20, "processes of which each does little leave nothing behind"


@given(texts)
def test_a_quoted_text_is_json(text: str) -> None:
    assert json.loads(quote(text)) == text


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ("Käse 猫", '"Käse 猫"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a\nb", '"a\\nb"'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("\x7f\x9b", '"\\u007f\\u009b"'),
        ("a\u202eb", '"a\\u202eb"'),
        ("a\u200bb\ufeff", '"a\\u200bb\\ufeff"'),
        ("\u3164\u034f\ufe0f", '"\\u3164\\u034f\\ufe0f"'),
        ("\u2028", '"\\u2028"'),
        ("\U000e0041", '"\\udb40\\udc41"'),
    ],
)
def test_what_is_escaped(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_a_path_that_is_no_utf8_is_shown_and_kept_exactly() -> None:
    fields = json.loads(line_of(an_event(b"/DCIM/\xff\xfe.jpg", new_path=b"/\x80")))
    assert (fields["path"], fields["path_b64"]) == ("/DCIM/\\xff\\xfe.jpg", "L0RDSU0v//4uanBn")
    assert (fields["new_path"], fields["new_path_b64"]) == ("/\\x80", "L4A=")
    assert "path_b64" not in json.loads(line_of(an_event("/Käse".encode())))


def test_a_file_with_endless_ranges_makes_no_endless_line() -> None:
    ranges = tuple((offset * 10, 3) for offset in range(100_000))
    line = line_of(bounded(an_event(redacted=ranges)))
    assert len(line) < 10_000
    fields = json.loads(line)
    assert (fields["redacted_ranges"], fields["redacted_bytes"]) == (100_000, 300_000)
    assert fields["redacted"] == [list(pair) for pair in ranges[:256]]


def test_fields_that_do_not_apply_are_left_out() -> None:
    assert set(json.loads(line_of(BASE))) == {
        "type",
        "seq",
        "time",
        "mount",
        "app",
        "uid",
        "gid",
        "pid",
        "exe",
        "operation",
        "syscall",
        "path",
        "decision",
        "rules",
        "io",
        "view",
        "generation",
        "policy",
        "chain",
    }


def test_times_are_exact() -> None:
    assert iso_time(1) == "1970-01-01T00:00:00.000000001Z"
    assert iso_time(1_772_352_000_123_456_789) == "2026-03-01T08:00:00.123456789Z"


def test_records_of_the_journal_are_json_too() -> None:
    body = LineFormatter().record("gap", 3, 0, {"reason": "a\n\u202e", "dropped": 2})
    line, _ = chain.seal(chain.GENESIS, body)
    assert json.loads(line)["reason"] == "a\n\u202e"
    assert line[:-1].isascii()
    assert is_plain(line.decode()[:-1])

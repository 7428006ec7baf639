"""Times and globs as people write them, and several chains as one."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from policyfs.trail.lines.event import Event
from policyfs.trail.lines.record import BadLine, Place, Record
from policyfs.trail.query.query import compile_glob, merge, parse_when
from tests.support.mount.trail import START_NS, a_denial, an_event

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
MINUTE_NS = 60_000_000_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("45s", NOW - timedelta(seconds=45)),
        ("10m", NOW - timedelta(minutes=10)),
        ("2h", NOW - timedelta(hours=2)),
        ("1d12h", NOW - timedelta(days=1, hours=12)),
        ("3w", NOW - timedelta(weeks=3)),
        ("today", datetime(2026, 3, 1, tzinfo=UTC)),
        ("yesterday", datetime(2026, 2, 28, tzinfo=UTC)),
        ("2026-02-03", datetime(2026, 2, 3, tzinfo=UTC)),
        ("2026-02-03T04:05", datetime(2026, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-02-03 04:05:06", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2026-02-03T04:05:06Z", datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("2026-02-03T04:05+02:00", datetime(2026, 2, 3, 2, 5, tzinfo=UTC)),
        ("@1772352000", NOW),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    assert parse_when(text, NOW, UTC) == round(moment.timestamp()) * 1_000_000_000


def test_fractions_of_a_second_are_kept() -> None:
    assert parse_when("2026-03-01T08:00:00.000123Z", NOW) == START_NS + 123_000


def test_days_are_those_of_the_zone_with_its_summer_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert parse_when("2026-07-01T12:00", NOW, berlin) == parse_when("2026-07-01T10:00Z", NOW)
    assert parse_when("2026-01-01T12:00", NOW, berlin) == parse_when("2026-01-01T11:00Z", NOW)
    evening = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    assert parse_when("today", evening, timezone(timedelta(hours=2))) == parse_when("2026-03-01T22:00Z", NOW)


@pytest.mark.parametrize(
    "text", ["", "soon", "10", "10x", "2026-13-01", "m", "@", "@99999999999999999", "9999999w"]
)
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write 10m"):
        parse_when(text, NOW, UTC)


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("/DCIM/*", [b"/DCIM/a", b"/DCIM/a\nb", b"/DCIM/\xff"], [b"/DCIM", b"/DCIM/a/b", b"/x/DCIM/a"]),
        ("/DCIM/**", [b"/DCIM/a", b"/DCIM/a/b"], [b"/DCIM", b"/DCIMx/a"]),
        ("/DCIM/***", [b"/DCIM", b"/DCIM/a/b"], [b"/DCIMx"]),
        ("/***", [b"/", b"/a/b"], []),
        ("/**/a.jpg", [b"/a.jpg", b"/x/y/a.jpg"], [b"/a.jpg/b"]),
        ("*.jpg", [b"/a.jpg", b"/x/y/.jpg"], [b"/a.JPG", b"/a.jpg/b"]),
        ("/a?c", ["/aäc".encode(), b"/a\xffc", b"/abc"], [b"/ac", b"/a/c", b"/abbc"]),
        ("/{a,b*}/c", [b"/a/c", b"/bbb/c"], [b"/ab/c", b"/{a,b}/c"]),
        ("/a\\*b", [b"/a*b"], [b"/axb"]),
        ("/a.b(c)+", [b"/a.b(c)+"], [b"/axbc"]),
        ("/", [b"/"], [b"/a"]),
    ],
)
def test_globs(glob: str, yes: list[bytes], no: list[bytes]) -> None:
    pattern = compile_glob(glob)
    assert [path for path in yes if not pattern.fullmatch(path)] == []
    assert [path for path in no if pattern.fullmatch(path)] == []


def test_a_question_mark_is_one_character_or_a_byte_of_none() -> None:
    """As in the policy language: names are decoded, and each byte that is not UTF-8 counts alone."""
    exact, least = ([compile_glob(f"/{star}{'?' * number}") for number in range(6)] for star in ("", "*"))
    for length in range(5):
        for parts in itertools.product(b"a\xc3\xa4\xe2\x82\xac\xed\xf0\x9f\xff", repeat=length):
            name = bytes(parts)
            count = len(name.decode("utf-8", "surrogateescape"))
            found = [number for number, pattern in enumerate(exact) if pattern.fullmatch(b"/" + name)]
            assert found == [count], name
            found = [number for number, pattern in enumerate(least) if pattern.fullmatch(b"/" + name)]
            assert found == list(range(count + 1)), name


@pytest.mark.parametrize("glob", ["/a/", "/a**", "/a[b]", "/{a", "/a\\", "/***/b"])
def test_bad_globs_are_refused(glob: str) -> None:
    with pytest.raises(ValueError, match="glob"):
        compile_glob(glob)


def record(mount_id: str, seq: int, event: Event) -> Record:
    return Record(Place(mount_id, "s", seq), "event", seq, event.time_ns, {}, event)


def test_merge_is_by_time_and_keeps_the_order_within_a_chain() -> None:
    def chain_of(mount_id: str, *offsets: int) -> list[Record]:
        return [
            record(mount_id, seq, an_event(time_ns=START_NS + offset)) for seq, offset in enumerate(offsets)
        ]

    stepped_back = chain_of("b", 2, 0, 4)
    bad = BadLine(Place("c", "s", 1), "why")
    merged = list(merge([chain_of("a", 1, 3), stepped_back, [bad]]))
    assert [(item.place.mount_id, item.place.line) for item in merged] == [
        ("c", 1),
        ("a", 0),
        ("b", 0),
        ("b", 1),
        ("a", 1),
        ("b", 2),
    ]


def test_merge_reads_no_further_than_asked() -> None:
    def endless():
        seq = 0
        while True:
            seq += 1
            yield record("a", seq, a_denial(time_ns=START_NS + seq))

    stream = merge([endless(), endless()])
    assert [next(stream).place.line for _ in range(4)] == [1, 1, 2, 2]

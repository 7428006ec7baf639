"""Counts over events."""

from __future__ import annotations

from policyfs.trail.lines.record import BadLine, Place, Record
from policyfs.trail.query.summary import Summary
from tests.support.mount.trail import START_NS, a_denial, an_event

PLACE = Place("0123456789abcdef", "s", 1)


def test_counts() -> None:
    summary = Summary()
    summary.add(an_event(time_ns=START_NS + 5, redacted=((0, 4),)))
    summary.add(an_event(operation="release", redacted=((0, 4),), bytes_read=10, bytes_written=3))
    summary.add(a_denial(b"/x"))
    summary.add(a_denial(b"/x", repeats=9, time_ns=START_NS + 9))
    assert summary.events == 12
    assert summary.by_decision == {"allow": 2, "deny": 10}
    assert summary.by_operation["open", "deny"] == 10
    assert summary.by_rule["no-private", "deny"] == 10
    assert summary.denied_paths == {("gallery", b"/x"): 10}
    assert summary.redacted_opens == 1
    assert (summary.bytes_read, summary.bytes_written) == (10, 3)
    assert (summary.first_ns, summary.last_ns) == (START_NS, START_NS + 9)


def test_the_example_of_denials_is_the_path_with_most_requests() -> None:
    """As it is if the requests for each path are added at once, which an index does."""
    one, each = Summary(), Summary()
    for path in (b"/a", b"/c", b"/b", b"/c", b"/b"):
        each.add(a_denial(path))
    for path, weight in ((b"/a", 1), (b"/c", 2), (b"/b", 2)):
        one.add_denied(a_denial(path), path, weight)
    for summary in (one, each):
        (refusals,) = summary.refusals.values()
        assert (refusals.count, refusals.path) == (5, b"/b"), "of two paths the first by name"


def test_trouble_is_counted_and_odd_values_do_no_harm() -> None:
    summary = Summary()
    summary.add_trouble(Record(PLACE, "gap", 1, 0, {"dropped": 3, "refused": "many"}, None))
    summary.add_trouble(Record(PLACE, "gap", 1, 0, {"unsure_after": 3}, None))
    summary.add_trouble(Record(PLACE, "header", 1, 0, {}, None))
    summary.add_trouble(BadLine(PLACE, "why"))
    assert (summary.trouble, summary.dropped, summary.refused, summary.bad_lines) == (2, 3, 0, 1)


def test_a_flood_of_different_paths_takes_bounded_memory() -> None:
    summary = Summary()
    for number in range(100_500):
        summary.add(a_denial(b"/%d" % number))
    assert len(summary.denied_paths) == 100_000
    (refusals,) = summary.refusals.values()
    assert (refusals.count, len(refusals.paths), refusals.path) == (100_500, 100_000, b"/0")
    summary.add(a_denial(b"/y", app="maps"))
    assert [one.path for one in summary.refusals.values()] == [b"/0", b"/y"]

"""Gaps: counts of events without a record, and the names of refused requests."""

from __future__ import annotations

import json

from policyfs.journal.writing.gap import Gap
from policyfs.trail.lines.line import LINE_BYTES
from policyfs.trail.lines.record import Place, Record
from policyfs.trail.text.sentences import describe
from tests.support.mount.trail import START_NS, an_event


def test_a_gap_names_the_first_refused_requests_and_counts_all() -> None:
    gap = Gap("disk full", START_NS)
    for number in (0, 0, *range(30)):
        gap.refuse(an_event(b"/%d" % number))
    fields = gap.fields()
    assert fields["refused"] == 32
    requests = fields["requests"]
    assert isinstance(requests, list)
    assert len(requests) == 16
    assert requests[0] == {"app": "gallery", "operation": "open", "path": "/0", "count": 3}
    told = describe(Record(Place("m", "s", 1), "gap", 1, START_NS, fields, None))
    assert "32 requests refused" in told
    assert "refused were gallery open /0 3, gallery open /1 1" in told


def test_a_gap_fits_in_a_line_whatever_the_names_are() -> None:
    gap = Gap("x" * 1000, START_NS)
    for number in range(30):
        gap.refuse(an_event(b"/%d" % number + b"\xff" * 4000, app="\x1b" * 4000))
    assert len(json.dumps(gap.fields())) < LINE_BYTES


def test_without_a_refused_request_none_is_named() -> None:
    assert "requests" not in Gap("queue full", START_NS).fields()

"""Facts of the report. test_trail_text_report_page.py shows them."""

from __future__ import annotations

from datetime import UTC, datetime

from policyfs.cli.audit.report import add_events
from policyfs.trail.query.selection import Selection, parse_query
from policyfs.trail.query.terms import Clock
from policyfs.trail.text.cause import nothing_known
from policyfs.trail.text.overview import Access, Overview
from tests.support.mount.trail import a_denial, an_event, index_of


def test_counts_by_directory() -> None:
    index = index_of(
        an_event(b"/a", redacted=((0, 3),), view="redacted(location)"),
        an_event(b"/x/a"),
        an_event(b"/x/y/a"),
        an_event(b"/x/y/z/a"),
        a_denial(b"/x/y/b", repeats=5),
        an_event(b"/x/y/b", operation="release", redacted=((0, 3),)),
    )
    overview, clock = Overview(nothing_known), Clock(datetime.now(UTC))
    add_events(overview, index, Selection(parse_query(""), clock))
    heat = {place.decode(): count for (_, place), count in overview.heat.items()}
    assert heat == {"/": 1, "/x": 1, "/x/y": 8}
    assert dict(overview.heat_denied) == {("gallery", b"/x/y"): 5}
    denied = Access("gallery", "open", b"/x/y", "deny", "rule", "no-private")
    assert overview.accesses[denied] == 5
    assert dict(overview.redactions) == {("gallery", "redacted(location)", ""): 1}
    assert dict(overview.hidden_bytes) == {("gallery", "redacted(location)", ""): 3}
    assert overview.by_minute is not None
    assert {decision: count for (_, decision), count in overview.by_minute.items()} == {"allow": 5, "deny": 5}
    add_events(overview, index, Selection(parse_query("app:nobody"), clock))
    assert sum(overview.heat.values()) == 10

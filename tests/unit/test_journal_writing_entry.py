"""Entries: their lines are those of their events, and their bounds hold."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from policyfs.journal.writing.entry import Entry, entry_of
from policyfs.trail.chain import chain
from policyfs.trail.lines.event import STRANGER, Event
from policyfs.trail.lines.line import LineFormatter, numbered
from tests.support.mount.trail import an_event


@given(
    path=st.binary(min_size=1, max_size=1024),
    handle=st.none() | st.integers(0, (1 << 63) - 1),
    seq=st.integers(1, (1 << 63) - 1),
    repeats=st.integers(0, 3),
)
def test_the_line_is_that_of_the_event_and_no_longer_than_told(
    path: bytes, handle: int | None, seq: int, repeats: int
) -> None:
    event = an_event(path, handle=handle, repeats=repeats)
    entry = entry_of(event, LineFormatter())
    assert isinstance(entry, Entry)
    body = numbered(entry.text, seq)
    assert body == LineFormatter().event(event, seq)
    line, _ = chain.seal(chain.GENESIS, body)
    assert len(line) <= entry.line_bytes < len(line) + 19
    assert (entry.weight, entry.time_ns) == (event.weight, event.time_ns)
    assert sum(map(sys.getsizeof, (entry, *entry[:3]))) < entry.memory_bytes


def test_strangers_are_charged_by_their_uid() -> None:
    entry = entry_of(an_event(app=STRANGER, uid=77), LineFormatter())
    assert isinstance(entry, Entry)
    assert entry.holder == 77


def test_an_event_without_a_line_stays_an_event() -> None:
    wrong: Event = an_event(since_ns="no time")
    assert entry_of(wrong, LineFormatter()) is wrong

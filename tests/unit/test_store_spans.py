"""Splitting and merging of locked ranges, against a table that has one entry for each byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policyfs.store.spans import LAST_BYTE, Span, Spans

BYTES = 24
ranges = st.tuples(st.integers(0, BYTES - 1), st.integers(0, BYTES - 1)).map(sorted)
steps = st.lists(st.tuples(ranges, st.sampled_from(["read", "write", "unlock"])), max_size=25)


def by_byte(spans: Spans) -> list[bool | None]:
    """Of each byte: None, or whether it is locked exclusively."""
    table: list[bool | None] = [None] * BYTES
    for start, end, exclusive in spans:
        for byte in range(start, end + 1):
            assert table[byte] is None, "two spans of one owner overlap"
            table[byte] = exclusive
    return table


@given(steps, ranges, st.booleans())
def test_as_one_entry_for_each_byte(steps, probe, exclusive) -> None:
    spans, table = Spans(), [None] * BYTES
    for (start, end), kind in steps:
        splits = spans.splits(start, end)
        before = len(spans)
        if kind == "unlock":
            spans.unlock(start, end)
            assert splits == (len(spans) > before)
        else:
            spans.lock(start, end, exclusive=kind == "write")
        table[start : end + 1] = [{"read": False, "write": True, "unlock": None}[kind]] * (end - start + 1)
    assert by_byte(spans) == table
    assert list(spans) == sorted(spans)
    for one, other in zip(spans, list(spans)[1:], strict=False):
        assert one.end + 1 < other.start or one.exclusive != other.exclusive, "neighbours are not merged"

    start, end = probe
    overlapping = [span for span in spans if span.start <= end and start <= span.end]
    assert spans.first_overlap(start, end) == (overlapping[0] if overlapping else None)
    against = [span for span in overlapping if exclusive or span.exclusive]
    assert spans.conflict(start, end, exclusive=exclusive) == (against[0] if against else None)


def test_to_the_end_of_any_file() -> None:
    spans = Spans()
    spans.lock(10, LAST_BYTE, exclusive=True)
    spans.unlock(1 << 40, 1 << 41)
    spans.lock(0, 9, exclusive=True)
    assert list(spans) == [Span(0, (1 << 40) - 1, True), Span((1 << 41) + 1, LAST_BYTE, True)]
    assert spans.conflict(LAST_BYTE, LAST_BYTE, exclusive=False) == Span((1 << 41) + 1, LAST_BYTE, True)

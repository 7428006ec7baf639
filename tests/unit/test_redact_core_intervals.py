"""Sets of byte ranges, against plain sets of numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.redact.core.intervals import Extents

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


def numbers(spans) -> set[int]:
    return {at for start, end in spans for at in range(start, end)}


def is_tidy(extents: Extents) -> bool:
    """Ordered, not empty, and never touching: equal sets are equal lists."""
    flat = [bound for span in extents for bound in span]
    return all(here < there for here, there in pairwise(flat))


@given(SPANS)
def test_a_set_holds_the_bytes_of_its_spans(spans):
    made = Extents(spans)
    assert numbers(made) == numbers(spans)
    assert is_tidy(made)
    assert bool(made) == bool(numbers(spans))


@given(SPANS, SPANS)
def test_adding_one_by_one_is_the_union(spans, more):
    made = Extents(spans)
    for start, end in more:
        made.add(start, end)
    assert list(made) == list(Extents([*spans, *more]))


@given(SPANS, st.integers(0, 32), st.integers(0, 32))
def test_hits(spans, start, end):
    assert Extents(spans).hits(start, end) == bool(numbers(spans) & set(range(start, end)))


@given(SPANS, SPANS)
def test_without(spans, other):
    left = Extents(spans).without(Extents(other))
    assert numbers(left) == numbers(spans) - numbers(other)
    assert is_tidy(left)


@given(SPANS, st.integers(0, 32), st.integers(0, 32))
def test_clipped(spans, start, end):
    left = list(Extents(spans).clipped(start, end))
    assert numbers(left) == numbers(spans) & set(range(start, end))
    assert list(Extents(left)) == left


@given(SPANS, st.integers(0, 40))
def test_gaps(spans, size):
    gaps = list(Extents(spans).gaps(size))
    assert numbers(gaps) == set(range(size)) - numbers(spans)
    assert list(Extents(gaps)) == gaps


@pytest.mark.parametrize(
    ("spans", "joined"),
    [
        ([(0, 4), (4, 8)], [(0, 8)]),
        ([(0, 4), (5, 8)], [(0, 4), (5, 8)]),
        ([(0, 9), (2, 3)], [(0, 9)]),
        ([(3, 3), (5, 2)], []),
    ],
)
def test_spans_that_touch_are_one(spans, joined):
    assert list(Extents(spans)) == joined

"""Ranges of removed segments, against a set of numbers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policyfs.trail.chain.removed import not_in, ranges_of, with_numbers

NUMBERS = st.sets(st.integers(1, 40), max_size=30)


def covered(ranges: tuple[tuple[int, int], ...]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@settings(max_examples=100, deadline=None)
@given(NUMBERS, NUMBERS, st.integers(1, 40), st.integers(0, 20))
def test_ranges_are_the_set(some: set[int], more: set[int], first: int, length: int) -> None:
    ranges = with_numbers(with_numbers((), some), more)
    assert covered(ranges) == some | more
    assert all(ranges[n][1] + 1 < ranges[n + 1][0] for n in range(len(ranges) - 1))
    missing = set(range(first, first + length + 1)) - some - more
    assert not_in(ranges, first, first + length) == ((min(missing), max(missing)) if missing else None)
    assert ranges_of([list(one) for one in ranges]) == ranges


def test_another_form_is_none() -> None:
    for value in (None, 1, {}, [1], [[1]], [["1", 2]], [[1, 2, 3]], [[True, 2]]):
        assert ranges_of(value) is None
    assert ranges_of([]) == ()

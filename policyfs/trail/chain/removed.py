"""The numbers of the segments that policyfs has removed because of limits, as ranges (pure).

The first line of each segment, and the record of each removal, state all that were ever removed, because
records of earlier removals may be removed, too.
"""

from __future__ import annotations

from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]
"""Ranges of numbers, in ascending order. Each range is a pair of its first and its last number."""


def with_numbers(ranges: Ranges, numbers: Iterable[int]) -> Ranges:
    """Return ranges that contain all numbers of *ranges*, and *numbers*."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted([*ranges, *((number, number) for number in numbers)]):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return tuple(joined)


def ranges_of(value: object) -> Ranges | None:
    """Return the ranges in a record's JSON value, or None if the value does not have the right form."""
    if not isinstance(value, list):
        return None
    found = []
    for one in value:
        if not (isinstance(one, list) and len(one) == 2 and all(type(number) is int for number in one)):
            return None
        found.append((one[0], one[1]))
    return with_numbers(tuple(found), ())


def not_in(ranges: Ranges, first: int, last: int) -> tuple[int, int] | None:
    """Return the lowest and the highest number from *first* to *last* that is in no range, or None."""
    missing = [(first, last)]
    for begin, end in ranges:
        missing = [
            part
            for low, high in missing
            for part in ((low, min(high, begin - 1)), (max(low, end + 1), high))
            if part[0] <= part[1]
        ]
    return (missing[0][0], missing[-1][1]) if missing else None

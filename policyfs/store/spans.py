"""The byte ranges that one lock owner has locked. The ranges are split and merged as POSIX requires
(fcntl(2)).

This module does no I/O. A new lock replaces those parts of the owner's old locks that it overlaps; the other
parts stay. Adjacent locks of one kind become one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

LAST_BYTE: Final = (1 << 63) - 1
"""The end of a lock that covers all bytes to the end of the file, even if the file grows."""


class Span(NamedTuple):
    """A locked byte range; start and end are both included. exclusive: True for a write lock."""

    start: int
    end: int
    exclusive: bool

    def overlaps(self, start: int, end: int) -> bool:
        """Return True if the span and start..end (inclusive) have a byte in common."""
        return self.start <= end and start <= self.end


class Spans:
    """A list of the ranges that one owner has locked: sorted, disjoint, none empty."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        first = bisect_left(self._spans, start, key=lambda span: span.end)
        behind = first
        while behind < len(self._spans) and self._spans[behind].start <= end:
            behind += 1
        return first, behind

    def lock(self, start: int, end: int, *, exclusive: bool) -> None:
        """Add a lock on the bytes start..end (both included), in place of the owner's old locks there."""
        first, behind = self._cut(start, end)
        if first:
            before = self._spans[first - 1]
            if before.end + 1 == start and before.exclusive is exclusive:
                start = before.start
                first -= 1
        if behind < len(self._spans):
            after = self._spans[behind]
            if after.start == end + 1 and after.exclusive is exclusive:
                end = after.end
                behind += 1
        self._spans[first:behind] = [Span(start, end, exclusive)]

    def unlock(self, start: int, end: int) -> None:
        """Remove the owner's locks on the bytes start..end (both included)."""
        first, behind = self._cut(start, end)
        del self._spans[first:behind]

    def _cut(self, start: int, end: int) -> tuple[int, int]:
        """Split the spans that reach beyond start or end. Return the slice (first index, index behind the
        last) of the spans within start..end."""
        first, behind = self._touched(start, end)
        parts: list[Span] = []
        for span in self._spans[first:behind]:
            if span.start < start:
                parts.append(span._replace(end=start - 1))
            parts.append(span._replace(start=max(span.start, start), end=min(span.end, end)))
            if span.end > end:
                parts.append(span._replace(start=end + 1))
        self._spans[first:behind] = parts
        return self._touched(start, end)

    def first_overlap(self, start: int, end: int) -> Span | None:
        """Return the first locked range that has a byte of start..end (both included), or None."""
        first, behind = self._touched(start, end)
        return self._spans[first] if first < behind else None

    def conflict(self, start: int, end: int, *, exclusive: bool) -> Span | None:
        """Return the owner's first range that conflicts with another owner's lock on start..end, or None."""
        first, behind = self._touched(start, end)
        return next((span for span in self._spans[first:behind] if exclusive or span.exclusive), None)

    def splits(self, start: int, end: int) -> bool:
        """Return True if unlock(start, end) would split one span into two."""
        first, behind = self._touched(start, end)
        return behind - first == 1 and self._spans[first].start < start and end < self._spans[first].end

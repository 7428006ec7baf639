"""Sets of byte ranges, for example the parts of a file that stay."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Extents:
    """A set of bytes, as ordered, disjoint ranges [start, end) of offsets in bytes."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        """Make the union of these ranges, which may be in any order; empty ranges are ignored."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(spans):
            if start >= end:
                continue
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, start: int, end: int) -> None:
        """Add the bytes [start, end) to the set."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def hits(self, start: int, end: int) -> bool:
        """Return True if any byte of [start, end) is in the set."""
        at = bisect_right(self._ends, start)
        return start < end and at < len(self._starts) and self._starts[at] < end

    def clipped(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of the set within [start, end)."""
        if start < end:
            for at in range(bisect_right(self._ends, start), bisect_left(self._starts, end)):
                yield max(start, self._starts[at]), min(end, self._ends[at])

    def without(self, other: Extents) -> Extents:
        """Return the bytes of this set that are not in the set *other*."""
        left: list[tuple[int, int]] = []
        cuts = list(other)
        index = 0
        for start, end in self:
            while index < len(cuts) and cuts[index][1] <= start:
                index += 1
            at = index
            while at < len(cuts) and cuts[at][0] < end:
                if start < cuts[at][0]:
                    left.append((start, cuts[at][0]))
                start = max(start, cuts[at][1])
                at += 1
            if start < end:
                left.append((start, end))
        return Extents(left)

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of [0, size) that are not in the set."""
        at = 0
        for start, end in self:
            if at < min(start, size):
                yield at, min(start, size)
            at = max(at, end)
        if at < size:
            yield at, size

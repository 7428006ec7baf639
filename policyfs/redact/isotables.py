"""Where in a file the samples of a track lie: sample tables (ISO/IEC 14496-12 sections 8.7.2 to 8.7.5).

A track may have a million samples, so nothing here makes an object of each: tables are arrays, and
what has to be done with each of their members is done by itertools.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, chain, compress, islice, repeat
from operator import add, floordiv, gt, mul, sub
from typing import Final

from policyfs.redact.blocks import NotThisKindError, TooMuchError

MAX_CHUNKS: Final = 1_000_000
_LITTLE: Final = sys.byteorder == "little"


def numbers(data: bytes, code: str) -> array[int]:
    """Big-endian numbers as an array (code B, H, I or Q); what is left at the end is dropped."""
    made: array[int] = array(code)
    made.frombytes(data[: len(data) // made.itemsize * made.itemsize])
    if _LITTLE:
        made.byteswap()
    return made


def part_of(payload: bytes, header: int, width: int) -> bytes:
    """The entries of a table (its count is in the last 4 bytes of the header), as far as they go."""
    count = int.from_bytes(payload[header - 4 : header])
    return payload[header : header + count * width]


@dataclass(slots=True)
class Extents:
    """Ranges of a file, any number of them, in any order: their starts and their ends in bytes."""

    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, start: int, size: int) -> None:
        """One more range."""
        if size > 0:
            self.starts.append(start)
            self.ends.append(start + size)

    def extend(self, other: Extents) -> None:
        """All ranges of another. Raises TooMuchError."""
        self.starts.extend(other.starts)
        self.ends.extend(other.ends)
        if len(self.starts) > MAX_CHUNKS:
            raise TooMuchError("too many chunks")

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """The ranges of [0, size) that are in none of these, in order.

        With starts and ends sorted each for itself, nothing lies over the room between the i-th end
        and the start that follows it exactly if that start is greater: then as many ranges have
        ended as have begun.
        """
        ends = sorted(self.ends)
        following = sorted(self.starts)
        first = following[0] if following else size
        following = [*following[1:], size] if following else []
        if first > 0:
            yield 0, min(first, size)
        for start, end in compress(zip(ends, following, strict=True), map(gt, following, ends)):
            if start < size:
                yield start, min(end, size)


@dataclass(slots=True)
class SampleTable:
    """The tables of one track as they are in its ``stbl``: whole payloads, empty where missing."""

    stsc: bytes = b""
    stsz: bytes = b""
    stz2: bytes = b""
    stco: bytes = b""
    co64: bytes = b""
    stss: bytes = b""

    def offsets(self) -> array[int]:
        """Offset of each chunk."""
        if self.co64:
            return numbers(part_of(self.co64, 8, 8), "Q")
        return numbers(part_of(self.stco, 8, 4), "I")

    def constant(self) -> int:
        """Size of every sample if they are all alike, else 0."""
        return int.from_bytes(self.stsz[4:8])

    def samples(self) -> int:
        """How many samples there are by the table of sizes."""
        return int.from_bytes((self.stsz or self.stz2)[8:12])

    def sizes(self) -> Iterable[int]:
        """Size of each sample, if they are not all alike."""
        if not self.stz2:
            return numbers(part_of(self.stsz, 12, 4), "I")
        width, count = self.stz2[7], self.samples()
        entries = self.stz2[12:]
        if width == 4:
            halves = chain.from_iterable(
                zip((b >> 4 for b in entries), (b & 15 for b in entries), strict=True)
            )
            return islice(halves, count)
        return numbers(entries[: count * (width // 8)], "H" if width == 16 else "B")

    def per_chunk(self, chunks: int) -> array[int]:
        """How many samples each chunk holds. Raises NotThisKindError if the table goes back and forth."""
        runs = numbers(part_of(self.stsc, 8, 12), "I")
        firsts, counts = runs[0::3], runs[1::3]
        if not firsts or any(map(gt, firsts, firsts[1:])):
            if not chunks:
                return array("I")
            raise NotThisKindError("its sample tables contradict each other")
        lengths = map(sub, chain(firsts[1:], (chunks + 1,)), chain((1,), firsts[1:]))
        spread = chain.from_iterable(map(repeat, counts, map(max, lengths, repeat(0))))
        return array("I", islice(spread, chunks))


def extents_of(table: SampleTable, limit: int, sounds: Iterable[tuple[int, int]] = ()) -> Extents:
    """The chunks of a track, cut at limit (the file's size). Raises TooMuchError, NotThisKindError.

    sounds: for plain sound, (bytes, samples) of its entries, by which players reckon whatever
    the table of sizes says; the greatest of all answers counts.
    """
    offsets = table.offsets()
    if len(offsets) > MAX_CHUNKS:
        raise TooMuchError("too many chunks")
    counts = table.per_chunk(len(offsets))
    if not table.stsz and not table.stz2:
        raise NotThisKindError("a track has no table of sizes")
    if len(counts) < len(offsets):
        raise NotThisKindError("its sample tables contradict each other")
    constant = table.constant()
    if constant or not table.samples():
        sizes: Iterable[int] = map(mul, counts, repeat(constant))
        for size, samples in sounds:
            scaled = map(mul, counts, repeat(size))
            sizes = map(max, sizes, map(floordiv, map(add, scaled, repeat(samples - 1)), repeat(samples)))
    else:
        sums = array("Q", accumulate(table.sizes(), initial=0))
        last = len(sums) - 1
        until = array("Q", map(min, accumulate(counts, initial=0), repeat(last)))
        at = array("Q", map(sums.__getitem__, until))
        sizes = map(sub, at[1:], at)
    ends = array("Q", map(min, map(add, offsets, sizes), repeat(limit)))
    return Extents(array("Q", map(min, offsets, ends)), ends)


@dataclass(slots=True)
class Finder:
    """Where single samples of a track lie."""

    table: SampleTable
    _offsets: array[int] = field(init=False)
    _first: array[int] = field(init=False)
    _sums: array[int] | None = field(init=False)

    def __post_init__(self) -> None:
        table = self.table
        self._offsets = table.offsets()
        self._first = array("Q", accumulate(table.per_chunk(len(self._offsets)), initial=0))
        self._sums = None if table.constant() else array("Q", accumulate(table.sizes(), initial=0))

    def __len__(self) -> int:
        known = self._first[-1] if self._first else 0
        return min(known, self.table.samples() if self._sums is None else len(self._sums) - 1)

    def sample(self, number: int) -> tuple[int, int]:
        """(offset, size) of a sample, counted from 0."""
        chunk = bisect_right(self._first, number) - 1
        first = self._first[chunk]
        if self._sums is None:
            size = self.table.constant()
            return self._offsets[chunk] + (number - first) * size, size
        sums = self._sums
        return self._offsets[chunk] + sums[number] - sums[first], sums[number + 1] - sums[number]

    def samples(self, wanted: Iterable[int]) -> Iterator[tuple[int, int]]:
        """(offset, size) of the samples of these numbers, as far as there are such."""
        count = len(self)
        return (self.sample(number) for number in wanted if 0 <= number < count)

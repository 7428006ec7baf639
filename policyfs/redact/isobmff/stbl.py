"""Sample tables: where a track's samples are in a file (ISO/IEC 14496-12 sections 8.7.2 to 8.7.5).

A track may have a million samples, so no sample is an object. Tables are arrays, and C code (_stbl.c) works
on their members.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Final

from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.frame_table import MAX_FRAMES
from policyfs.redact.isobmff import _stbl

MAX_CHUNKS: Final = 2_000_000
"""Maximum number of chunks of all kept tracks, and of all removed tracks. A film of many hours has fewer."""
_PLAIN_BYTES: Final = 8
"""Samples of one size below this are plain sound, not packets. (QuickTime states 1 byte.)"""
_MAX_PAIRS: Final = 4 << 20
_HIGH: Final = bytes(byte >> 4 for byte in range(256))
_LOW: Final = bytes(byte & 15 for byte in range(256))
_NOTHING: Final = memoryview(b"")
_OTHER_FORM: Final = {"stsz": "stz2", "stz2": "stsz", "stco": "co64", "co64": "stco"}
"""A dictionary from the name of a table to the name of its other form, with fields of another size."""
_LITTLE: Final = sys.byteorder == "little"


def numbers(data: memoryview, code: str) -> array[int]:
    """Return the big-endian numbers in *data* as an array.

    code: the size of a number, as a letter of the struct module: B, H, I or Q. An incomplete number at the
    end is dropped.
    """
    made: array[int] = array(code)
    made.frombytes(data[: len(data) // made.itemsize * made.itemsize])
    if _LITTLE:
        made.byteswap()
    return made


def part_of(payload: memoryview, header: int, width: int) -> memoryview:
    """Return the entries of a table, cut at the table's end. The last 4 bytes of the table's header state the
    number of entries.

    header: size of the header in bytes. width: size of an entry in bytes.
    """
    count = int.from_bytes(payload[header - 4 : header])
    return payload[header : header + count * width]


@dataclass(slots=True)
class Extents:
    """Any number of ranges of a file, in any order, as arrays of their starts and their ends (bytes)."""

    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    _ordered: tuple[array[int], array[int]] | None = None

    def add(self, start: int, size: int) -> None:
        """Add the range of *size* bytes from *start* on."""
        self._ordered = None
        if size > 0:
            self.starts.append(start)
            self.ends.append(start + size)

    def extend(self, other: Extents) -> None:
        """Add all ranges of the object *other*. Raises TooMuchError if there are too many."""
        self._ordered = None
        self.starts.extend(other.starts)
        self.ends.extend(other.ends)
        if len(self.starts) > MAX_CHUNKS:
            raise TooMuchError(f"its tracks have too many chunks of samples (more than {MAX_CHUNKS:,})")

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of [0, size) that no range of this object covers, in order.

        Starts and ends are sorted separately. A gap follows end number i if start number i + 1 is greater
        than this end: then all ranges that have begun have ended.
        """
        if self._ordered is None:
            self._ordered = self.starts[:], self.ends[:]
            for values in self._ordered:
                _stbl.sort(values)
        starts, ends = self._ordered
        first = starts[0] if starts else size
        if first > 0:
            yield 0, min(first, size)
        at = _stbl.next_gap(starts, ends, 0)
        while at >= 0 and ends[at] < size:
            yield ends[at], min(starts[at + 1], size)
            at = _stbl.next_gap(starts, ends, at + 1)
        if ends and ends[-1] < size:
            yield ends[-1], size

    def covered(self, size: int) -> int:
        """Return the number of bytes of [0, size) that a range of this object covers."""
        return size - sum(end - start for start, end in self.gaps(size))


@dataclass(slots=True)
class Runs(Extents):
    """The ranges of a track's runs of samples in fragments, and the sizes of the samples in each run."""

    _sizes: list[array[int]] = field(default_factory=list)

    def add_run(self, start: int, size: int, sizes: array[int]) -> None:
        """Add a run of *size* bytes from *start* on.

        sizes: the size of each sample in bytes; a single number if all samples have this size.
        """
        if size > 0:
            self.add(start, size)
            self._sizes.append(sizes)

    def append_samples(self, run: int, starts: array[int], ends: array[int]) -> None:
        """Append the starts and the ends of the samples in the run with this number. Raises TooMuchError."""
        at, end, sizes = self.starts[run], self.ends[run], self._sizes[run]
        if len(sizes) == 1:
            size = sizes[0] or end - at
            if (end - at) // size > MAX_FRAMES:
                raise TooMuchError(f"it has more than {MAX_FRAMES:,} frames")
            places = array("Q", range(at, end, size))
        else:
            places = array("Q", accumulate(sizes, initial=at))
            while len(places) > 1 and places[-2] >= end:
                places.pop()  # behind the end of the file
            places.pop()
        starts += places
        ends += places[1:]
        ends.append(end)


@dataclass(slots=True)
class SampleTable:
    """The sample tables of one track (``stbl``): for each table its whole payload, empty if the track has no
    such table.
    """

    stsc: memoryview = _NOTHING
    stsz: memoryview = _NOTHING
    stz2: memoryview = _NOTHING
    stco: memoryview = _NOTHING
    co64: memoryview = _NOTHING

    def keep(self, kind: bytes, payload: memoryview) -> None:
        """Keep the payload of a table if policyfs knows its kind.

        Raises NotThisKindError if the track has another table of this use: some readers take the first one,
        some the last one.
        """
        name = kind.decode("latin-1")
        if name not in self.__slots__:
            return
        if any(getattr(self, other) for other in (name, _OTHER_FORM.get(name, name))):
            raise NotThisKindError("its sample tables contradict each other")
        setattr(self, name, payload)

    def offsets(self) -> array[int]:
        """Return the offset in the file of each chunk of samples."""
        if self.co64:
            return numbers(part_of(self.co64, 8, 8), "Q")
        return numbers(part_of(self.stco, 8, 4), "I")

    def constant(self) -> int:
        """Return the size of each sample if all samples have the same size, else 0."""
        return int.from_bytes(self.stsz[4:8])

    def samples(self) -> int:
        """Return the number of samples that the table of sizes states."""
        return int.from_bytes((self.stsz or self.stz2)[8:12])

    def sizes(self) -> array[int]:
        """Return the size of each sample, for a track with samples of different sizes.

        Raises TooMuchError.
        """
        if not self.stz2:
            return numbers(part_of(self.stsz, 12, 4), "I")
        width, count = self.stz2[7], self.samples()
        entries = self.stz2[12:]
        if width == 4:
            if len(entries) > _MAX_PAIRS:
                raise TooMuchError("too many samples")
            pairs = bytes(entries)
            halves = bytearray(2 * len(pairs))
            halves[0::2], halves[1::2] = pairs.translate(_HIGH), pairs.translate(_LOW)
            return array("B", halves[:count])
        return numbers(entries[: count * (width // 8)], "H" if width == 16 else "B")

    def per_chunk(self, chunks: int) -> array[int]:
        """Return the number of samples in each chunk.

        Raises NotThisKindError if the table's rows are out of order.
        """
        rows = numbers(part_of(self.stsc, 8, 12), "I")
        if len(rows) <= 3:
            counts = rows[1:2] * chunks
        else:
            counts = array("I", (0,)) * chunks
            filled = _stbl.spread(rows, counts)
            if filled < 0 < chunks:
                raise NotThisKindError("the rows of its chunk table are out of order")
            del counts[max(0, filled) :]
        return counts


@dataclass(slots=True)
class Samples:
    """The offsets and sizes of a track's samples, computed from its tables on demand."""

    table: SampleTable
    _offsets: array[int] = field(init=False)
    _counts: array[int] = field(init=False)
    _sizes: array[int] | None = field(init=False, default=None)
    _constant: int = field(init=False)
    _total: int = field(init=False)

    def __post_init__(self) -> None:
        """Read the tables. Raises NotThisKindError if the tables contradict each other.

        Raises TooMuchError if there are too many chunks or samples.
        """
        table = self.table
        self._offsets = table.offsets()
        if len(self._offsets) > MAX_CHUNKS:
            raise TooMuchError(f"its tracks have too many chunks of samples (more than {MAX_CHUNKS:,})")
        self._counts = table.per_chunk(len(self._offsets))
        if len(self._counts) < len(self._offsets) or (self._offsets and not (table.stsz or table.stz2)):
            raise NotThisKindError("its sample tables contradict each other")
        self._total = _stbl.total(self._counts)
        self._constant = table.constant()
        if not self._constant:
            self._sizes = table.sizes()

    def extents(self, limit: int, sounds: Iterable[tuple[int, int]] = ()) -> Extents:
        """Return the ranges of the track's chunks, cut at `limit` (the file's size).

        sounds: pairs (bytes, samples): this many bytes hold this many samples of plain sound
        (Entries.sounds). Players compute the size of a chunk from such a pair, even if the table of sizes
        states another size. The greatest of these sizes counts.
        """
        starts = array("Q", self._offsets)
        ends = array("Q", (0,)) * len(starts)
        listed, plain = self._sizes is not None, self._constant < _PLAIN_BYTES
        frames = array("Q", chain.from_iterable(sounds) if plain and not listed else ())
        sizes = array("I") if self._sizes is None else self._sizes
        _stbl.ranges(starts, ends, self._counts, sizes, frames, listed, self._constant, limit)
        return Extents(starts, ends)

    def ranges(self, limit: int) -> tuple[array[int], array[int]]:
        """Return the starts and the ends of all samples, cut at `limit` (the file's size)."""
        count = len(self)
        starts, ends = array("Q", bytes(8 * count)), array("Q", bytes(8 * count))
        sizes = array("I") if self._sizes is None else self._sizes
        listed = self._sizes is not None
        offsets = array("Q", self._offsets)
        _stbl.places(offsets, self._counts, sizes, starts, ends, listed, self._constant, limit)
        return starts, ends

    def __len__(self) -> int:
        """Return the number of samples that have a size and are in a chunk."""
        return min(self._total, self.table.samples() if self._sizes is None else len(self._sizes))

    def places(self, wanted: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Yield (offset, size) of the samples with the numbers *wanted*.

        wanted: numbers from 0 on, in ascending order. Numbers without a sample are left out.
        """
        counts = self._counts
        plain = counts == array("I", (1,)) * len(counts)
        firsts = range(len(counts) + 1) if plain else array("Q", accumulate(counts, initial=0))
        count, chunk, at, offset = len(self), -1, 0, 0
        for number in wanted:
            if not 0 <= number < count:
                continue
            if chunk < 0 or number >= firsts[chunk + 1]:
                chunk = bisect_right(firsts, number) - 1
                at, offset = firsts[chunk], self._offsets[chunk]
            if self._sizes is None:
                offset += (number - at) * self._constant
                size = self._constant
            else:
                offset += sum(self._sizes[at:number])
                size = self._sizes[number]
            at = number
            yield offset, size


def common(ranges: Iterable[tuple[int, int]], gaps: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the parts of `ranges` that are in `gaps`. The gaps must be in order."""
    rest = iter(sorted(ranges))
    current = next(rest, None)
    for start, end in gaps:
        while current is not None and current[1] <= start:
            current = next(rest, None)
        while current is not None and current[0] < end:
            yield max(start, current[0]), min(end, current[1])
            if current[1] > end:
                break
            current = next(rest, None)

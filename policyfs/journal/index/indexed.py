"""Searches of the trail that use indexes, and read only lines that they may find.

Each older segment has one index. Of the newest, each part of 8 MiB has a stored index, and the rest gets one
in memory. A segment that rotation removes meanwhile is left out.
"""

from __future__ import annotations

import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.journal.files.inventory import Inventory
from policyfs.journal.files.segment_file import SegmentFile
from policyfs.journal.files.segments import Chain, is_compressed
from policyfs.journal.index.cache import IndexCache
from policyfs.journal.index.database import Index, build
from policyfs.journal.index.known_digests import KnownDigests
from policyfs.trail.chain.continuity import Hole
from policyfs.trail.lines.record import BadLine, Place, Record
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.summary import TROUBLE

Progress = Callable[[str, int, int], None]
"""A function that reports progress. Arguments: name of the work, number of finished steps, of all steps.
If the two numbers are equal, nothing is under way."""

_LOADED: Final = 64 << 20
_Range = tuple[int, int]
_PLACE: Final = "line, offset"


class Portion:
    """Consecutive lines of a segment, with their index, which counts from 1. first_line: the lines before
    them."""

    def __init__(self, file: SegmentFile, index: Index, first_line: int) -> None:
        self.file = file
        self.index = index
        self.first_line = first_line

    def place(self, line: int) -> Place:
        """Return the place of a line of the index."""
        return Place(self.file.chain.name, self.file.name, self.first_line + line)

    def row(self, line: int, offset: int) -> Record | BadLine:
        """Read and parse a line. line, offset: as in the index."""
        return self.file.record(offset, self.first_line + line)

    def rows(self, places: Iterable[tuple[int, int]]) -> Iterator[Record | BadLine]:
        """Yield parsed lines, in the given order. places: line and offset of each, as in the index."""
        return (self.row(line, offset) for line, offset in places)

    def own(self, kinds: frozenset[str]) -> Iterator[Record | BadLine]:
        """Yield the journal's own records of these types (``gap``, ``close``), and lines that cannot be
        parsed, in order."""
        for line, offset, kind, why in self.index.query("SELECT line, offset, kind, why FROM other"):
            if why is not None:
                yield BadLine(self.place(line), why)
            elif kind in kinds:
                yield self.row(line, offset)

    def selected(self, wanted: Selection, kinds: frozenset[str] = TROUBLE) -> Iterator[Record | BadLine]:
        """Yield the events that match, and the journal's own records of *kinds* (losses and damage), in
        order."""
        rows = self.rows(self.index.select(_PLACE, wanted))
        yield from heapq.merge(rows, self.own(kinds), key=lambda item: item.place.line)


class _Task(NamedTuple):
    """One segment to read, as byte ranges. kept: of the first *kept* of them, the indexes belong in the
    cache."""

    name: str
    ranges: list[_Range]
    kept: int


class IndexedTrail:
    """A reader of the trail's hash chains that uses stored indexes to find events."""

    def __init__(
        self, chains: Sequence[Chain], cache: IndexCache, progress: Progress,
        ends: Mapping[str, int] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """ends: the numbers of the last lines of chains, by name, as far as they are known."""
        self.chains = chains
        self.holes: dict[str, list[Hole]] = {}
        """The holes in each chain that was read to its end, or that is none of *chains*."""
        self._ends = ends
        self._cache = cache
        self._known = KnownDigests(cache)
        self._progress = progress
        self.built = 0
        """The number of indexes that this object has made and tried to store in the cache."""
        self._rest: dict[tuple[str, str, int, int], Index] = {}
        """Indexes that are only in memory, by (chain, segment, begin, end), for a second search."""
        self._loaded: dict[str, Index] = {}
        """Indexes by the digest of their segment, up to _LOADED bytes: many commands read a trail twice."""
        self._done = 0
        self._total = 0

    def inventory(self, chain: Chain) -> Inventory:
        """Begin the check that what is read of a hash chain is complete."""
        return Inventory(chain, self._ends.get(chain.name, 0))

    def portions(self, chain: Chain) -> Iterator[Portion]:
        """Yield a hash chain as portions, oldest first. Each is valid until the next one: then its file is
        closed."""
        inventory = self.inventory(chain)
        tasks = list(self._tasks(chain, inventory.names))
        self._total += len(tasks)
        try:
            for task in tasks:
                with inventory.reading(task.name):
                    for portion in self._opened(chain, task):
                        inventory.take_joints(portion.place(0), portion.index.joints(), portion.index.last)
                        yield portion
                self._done += 1
                self._progress("reading segments", self._done, self._total)
        finally:
            self._known.save()
        self.holes[chain.name] = inventory.end()

    def _opened(self, chain: Chain, task: _Task) -> Iterator[Portion]:
        with contextlib.closing(SegmentFile(chain, task.name)) as file:
            if is_compressed(file.name) and not is_compressed(task.name):  # so the task's ranges are wrong
                yield Portion(file, self._index(file, (0, file.size), is_kept=False), 0)
                return
            line = 0
            for number, one in enumerate(task.ranges):
                index = self._index(file, one, is_kept=number < task.kept)
                self._progress("reading segments", self._total, self._total)  # rows may be printed now
                yield Portion(file, index, line)
                line += index.lines

    def _index(self, file: SegmentFile, one: _Range, *, is_kept: bool) -> Index:
        """Return the index of a byte range, from the cache or newly made. is_kept: False to store none."""
        size = one[1] - one[0]
        if not is_kept:
            place = (file.chain.name, file.name, *one)
            if place not in self._rest:
                self._rest[place] = Index(build(file.lines(*one), size, ""))
            return self._rest[place]
        digest = self._digest(file, one)
        index = self._loaded.get(digest) or self._cache.load(digest, size)
        if index is None:
            data = build(file.lines(*one), size, digest)
            self.built += 1
            if self.built == 1:
                self._cache.forget_old()
            self._cache.save_index(digest, data)
            self._progress("indexing segments", self._done, self._total)
            index = Index(data)
        if index.bytes + sum(one.bytes for one in self._loaded.values()) <= _LOADED:
            self._loaded[digest] = index
        return index

    def _digest(self, file: SegmentFile, one: _Range) -> str:
        is_whole = one == (0, file.size)
        digest = self._known.get(file.info) if is_whole else ""
        if not digest:
            digest = file.digest(*one)
            if is_whole:
                self._known.put(file.info, digest)
        return digest

    def _tasks(self, chain: Chain, names: Sequence[str]) -> Iterator[_Task]:
        for name in names:
            ranges, is_growing = list[_Range](), False
            with contextlib.suppress(OSError), contextlib.closing(SegmentFile(chain, name)) as file:
                is_growing = name == names[-1] and not is_compressed(file.name)
                ranges = file.parts() if is_growing else [(0, file.size)]
            yield _Task(name, ranges, len(ranges) - is_growing)

    def own(self, chain: Chain, kinds: frozenset[str]) -> Iterator[Record | BadLine]:
        """Yield the journal's own records of these types in a chain, and its bad lines, in order."""
        for portion in self.portions(chain):
            yield from portion.own(kinds)

    def selected(
        self, chain: Chain, wanted: Selection, kinds: frozenset[str] = TROUBLE
    ) -> Iterator[Record | BadLine]:
        """Yield the events of a chain that match *wanted*, and all records of *kinds* (losses and damage), in
        order."""
        for portion in self.portions(chain):
            yield from portion.selected(wanted, kinds)

    def newest(self, chain: Chain, wanted: Selection, count: int) -> list[Record | BadLine]:
        """Return the newest *count* events of a chain that match, and all records of losses and damage, in
        order."""
        found: deque[tuple[str, int, int]] = deque(maxlen=count)
        trouble: list[Record | BadLine] = []
        for portion in self.portions(chain):
            trouble += portion.own(TROUBLE)
            newest = list(portion.index.select(_PLACE, wanted, f"ORDER BY line DESC LIMIT {count}"))
            found += [(portion.file.name, portion.first_line + line, at) for line, at in reversed(newest)]
        return sorted([*trouble, *_read(chain, found)], key=lambda item: item.place)


def _read(chain: Chain, places: Iterable[tuple[str, int, int]]) -> Iterator[Record | BadLine]:
    for name, lines in groupby(places, key=itemgetter(0)):
        with contextlib.suppress(FileNotFoundError), contextlib.closing(SegmentFile(chain, name)) as file:
            for _, line, offset in lines:
                yield file.record(offset, line)

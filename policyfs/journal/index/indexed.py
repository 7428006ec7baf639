"""Searches of the trail that use indexes. Only lines that the search may find are read and parsed.

The trail consists of hash chains, and a chain consists of files (segments). Each older segment has one index.
The newest segment still grows: each part of 8 MiB has a stored index, and the rest gets an index in memory.
If rotation removes a segment during the search, the search leaves this segment out.
"""

from __future__ import annotations

import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.journal.files.reader import Chain
from policyfs.journal.files.segment_file import SegmentFile
from policyfs.journal.files.segments import is_compressed
from policyfs.journal.index.cache import IndexCache, build
from policyfs.journal.index.known_digests import KnownDigests
from policyfs.trail.lines.record import BadLine, Place, Record
from policyfs.trail.query.index import Index
from policyfs.trail.query.index_rows import RowFinder, Rows, chosen
from policyfs.trail.query.selection import Selection
from policyfs.trail.query.summary import TROUBLE

if TYPE_CHECKING:
    from concurrent.futures import Future

Progress = Callable[[str, int, int], None]
"""A function that reports progress. Arguments: name of the work, number of finished steps, of all steps."""

_THREADS: Final = 2
_Range = tuple[int, int]


class Portion:
    """Consecutive lines of a segment (a file of the trail), with their index.

    first_line: the number of lines in the segment before these lines. The index has one row for each event of
    these lines. Row numbers begin with 0.
    """

    def __init__(self, file: SegmentFile, index: Index, first_line: int) -> None:
        self.file = file
        self.index = index
        self.first_line = first_line

    def find(self, wanted: Selection) -> Rows:
        """Return two sets of rows (events): the events that surely match *wanted*, and those that may match.

        Each row stands for one event of this portion.
        """
        return RowFinder(self.index, wanted).find()

    def exact(self, wanted: Selection) -> int:
        """Return the set of rows (events) that match *wanted*: byte number R of the integer is 1 for row R.

        If the index is not enough to decide about an event, this method reads the event's line.
        """
        surely, maybe = self.find(wanted)
        for row in chosen(surely ^ maybe, self.index.rows):
            if _matches(self.row(row), wanted):
                surely |= 1 << (8 * row)
        return surely

    def row(self, row: int) -> Record | BadLine:
        """Read and parse the line of a row (an event of the index)."""
        line = self.first_line + self.index.line_of(row)
        return self.file.record(self.index.offset_of[row], line)

    def rows(self, rows: Sequence[int]) -> Iterator[Record | BadLine]:
        """Yield the parsed lines of rows (events of the index), in the given order."""
        return map(self.row, rows)

    def own(self, kinds: frozenset[str]) -> Iterator[Record | BadLine]:
        """Yield the journal's own records of these types, and lines that cannot be parsed, in file order.

        kinds: types of records about the journal or the mount, such as ``gap`` or ``close``.
        """
        place = self.file.chain.mount_id, self.file.name
        found: list[tuple[int, int | str]] = [
            (own.line, own.offset) for own in self.index.own if own.kind in kinds
        ]
        for line, where in sorted([*found, *self.index.bad], key=lambda one: one[0]):
            if isinstance(where, str):
                yield BadLine(Place(*place, self.first_line + line), where)
            else:
                yield self.file.record(where, self.first_line + line)

    def selected(self, wanted: Selection, kinds: frozenset[str] = TROUBLE) -> Iterator[Record | BadLine]:
        """Yield the events that may match *wanted*, and the journal's own records of *kinds*, in file order.

        kinds: types of records about the journal or the mount. The default means losses and damage.
        """
        rows = self.rows(chosen(self.find(wanted).maybe, self.index.rows))
        yield from heapq.merge(rows, self.own(kinds), key=lambda item: item.place.line)


class _Task(NamedTuple):
    """One segment (a file of the trail) to read, as a list of byte ranges.

    kept: the indexes of the first *kept* ranges belong in the cache. The other ranges get an index in memory.
    known: the SHA-256 of the range, if there is only one range and its SHA-256 is known; else an empty
    string.
    """

    name: str
    ranges: list[_Range]
    kept: int
    known: str = ""


class IndexedTrail:
    """A reader of the trail's hash chains that uses stored indexes to find events."""

    def __init__(self, chains: Sequence[Chain], cache: IndexCache, progress: Progress) -> None:
        self.chains = chains
        self._cache = cache
        self._known = KnownDigests(cache)
        self._progress = progress
        self.built = 0
        """The number of indexes that this object has made and tried to store in the cache."""
        self._rest: dict[tuple[str, str, int, int], Index] = {}
        """Dictionary from (chain, segment, begin, end) to an index that is only in memory.

        A second search by this object uses these indexes again."""
        self._done = 0
        self._total = 0

    def portions(self, chain: Chain) -> Iterator[Portion]:
        """Yield a hash chain as portions (lines with their index), oldest first.

        A portion is valid only until the next portion is requested, because then its file is closed.
        """
        tasks = list(self._tasks(chain))
        self._total += len(tasks)
        with contextlib.ExitStack() as stack:
            digests = self._digests(chain, tasks, stack)
            try:
                for task in tasks:
                    mine = [digests.popleft() for _ in range(task.kept)]
                    with contextlib.suppress(FileNotFoundError):
                        yield from self._opened(chain, task, mine)
                    self._done += 1
                    self._progress("reading segments", self._done, self._total)
            finally:
                for digest in digests:
                    if not isinstance(digest, str):
                        digest.cancel()
                self._known.save()

    def _digests(
        self, chain: Chain, tasks: Sequence[_Task], stack: contextlib.ExitStack
    ) -> deque[str | Future[str]]:
        """Return the SHA-256 of each range whose index belongs in the cache. Threads compute unknown digests.
        """
        if all(task.known or not task.kept for task in tasks):
            return deque(task.known for task in tasks if task.kept)
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only where it is needed

        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        return deque(
            task.known or pool.submit(self._digest, chain, task.name, one)
            for task in tasks
            for one in task.ranges[: task.kept]
        )

    def _opened(self, chain: Chain, task: _Task, digests: list[str | Future[str]]) -> Iterator[Portion]:
        with contextlib.closing(SegmentFile(chain, task.name)) as file:
            if is_compressed(file.name) and not is_compressed(task.name):  # so the task's ranges are wrong
                yield Portion(file, self._index(file, (0, file.size), ""), 0)
                return
            line, no_digests = 0, [""] * (len(task.ranges) - task.kept)
            for one, digest in zip(task.ranges, [*digests, *no_digests], strict=True):
                index = self._index(file, one, digest if isinstance(digest, str) else digest.result())
                yield Portion(file, index, line)
                line += index.lines

    def _index(self, file: SegmentFile, one: _Range, digest: str) -> Index:
        """Return the index of a byte range of a segment, from the cache or newly made.

        digest: the SHA-256 of the range, or empty if the index must not be stored in the cache.
        """
        if not digest:
            place = (file.chain.mount_id, file.name, *one)
            if place not in self._rest:
                self._rest[place] = Index(build(file, *one, digest))
            return self._rest[place]

        def again() -> bytes:
            data = build(file, *one, digest)
            self.built += 1
            if self.built == 1:
                self._cache.forget_old()
            self._cache.save_index(digest, data)
            self._progress("indexing segments", self._done, self._total)
            return data

        return self._cache.load(digest, one[1] - one[0], again) or Index(again())

    def _digest(self, chain: Chain, name: str, one: _Range) -> str:
        with contextlib.closing(SegmentFile(chain, name)) as file:
            is_whole = one == (0, file.size)
            digest = self._known.get(file.info) if is_whole else ""
            if not digest:
                digest = file.digest(*one)
                if is_whole:
                    self._known.put(file.info, digest)
            return digest

    def _tasks(self, chain: Chain) -> Iterator[_Task]:
        names = chain.segments()
        for name in names:
            with contextlib.suppress(FileNotFoundError), contextlib.closing(SegmentFile(chain, name)) as file:
                if name == names[-1] and not is_compressed(file.name):
                    ranges = file.parts()
                    yield _Task(name, ranges, len(ranges) - 1)
                else:
                    yield _Task(name, [(0, file.size)], 1, self._known.get(file.info))

    def selected(
        self, chain: Chain, wanted: Selection, kinds: frozenset[str] = TROUBLE
    ) -> Iterator[Record | BadLine]:
        """Yield the events of a chain that may match *wanted*, in order.

        Also yield all records of *kinds* of the chain. The default means losses and damage.
        """
        for portion in self.portions(chain):
            yield from portion.selected(wanted, kinds)

    def newest(self, chain: Chain, wanted: Selection, count: int) -> list[Record | BadLine]:
        """Return the newest *count* events of a chain that match *wanted*, in order.

        The list also has all records of losses and damage of the chain (TROUBLE).
        """
        found: deque[Place] = deque(maxlen=count)
        offsets: dict[Place, int] = {}
        trouble: list[Record | BadLine] = []
        for portion in self.portions(chain):
            trouble += portion.own(TROUBLE)
            surely, maybe = portion.find(wanted)
            rows = chosen(maybe, portion.index.rows)
            if surely != maybe:
                sure = surely.to_bytes(portion.index.rows, "little")
                rows = [row for row in rows if sure[row] or _matches(portion.row(row), wanted)]
            for row in rows[-count:]:
                place = Place(
                    chain.mount_id, portion.file.name, portion.first_line + portion.index.line_of(row)
                )
                found.append(place)
                offsets[place] = portion.index.offset_of[row]
            offsets = {place: offsets[place] for place in found}
        return sorted([*trouble, *_read(chain, offsets)], key=lambda item: item.place)


def _read(chain: Chain, offsets: dict[Place, int]) -> Iterator[Record | BadLine]:
    """Yield parsed lines. offsets: a dictionary from the place of a line to its offset in the segment."""
    for name, places in groupby(offsets, key=lambda place: place.segment):
        with contextlib.suppress(FileNotFoundError), contextlib.closing(SegmentFile(chain, name)) as file:
            for place in places:
                yield file.record(offsets[place], place.line)


def _matches(item: Record | BadLine, wanted: Selection) -> bool:
    return isinstance(item, Record) and item.event is not None and wanted.matches(item.event)

"""The reader of an index. An index is a table of the events in one file of the trail (segment) (pure).

The reader finds events without reading their lines. Events with the same caller, decision and note are of one
*class*. Each event has a *row*: its class, its time, its path and the offset of its line. So a condition on a
caller or a decision is tested only once for each class.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, NamedTuple

from policyfs.trail.lines.event import Event
from policyfs.trail.query.index_body import Body, Read, WrongIndexError
from policyfs.trail.query.index_build import FORMAT, MAGIC, NUMBERS, loaded

_PAIR: Final = struct.Struct("=II")
_FEW_PATHS: Final = 200
"""The number of paths that are read one by one. When more paths are needed, all paths are read at once."""

HEAD_BYTES: Final = 1 << 16
"""The limit of bytes of an index's head, a line of JSON that says where each section of the index is."""


def head_of(data: memoryview | bytes) -> bytes:
    """Return the head of an index (its first line), without newline. data: the index, or its beginning."""
    return bytes(data[:HEAD_BYTES]).partition(b"\n")[0]


def _behind_head(data: bytes) -> bytes:
    return data[len(head_of(data)) + 1 :]


class Own(NamedTuple):
    """A record about the journal or the mount itself (no event), such as ``gap``.

    line, offset: position of its line in the segment (the file of the trail), as line number and in bytes.
    """

    line: int
    kind: str
    seq: int
    time_ns: int
    offset: int


class Hour(NamedTuple):
    """Sums over the events of one class (with the same caller, decision and note) in one hour.

    hour: hours since 1970. weight: the number of requests. redacted: the number of requests with hidden
    bytes. hidden: the number of bytes that were hidden.
    """

    hour: int
    class_id: int
    weight: int
    bytes_read: int
    bytes_written: int
    redacted: int
    hidden: int


class _Items:
    """A column of an index, with one number for each row. Numbers are read one by one."""

    def __init__(self, body: Body, kind: str, at: int) -> None:
        self._body = body
        self._item = struct.Struct(f"={kind}")
        self._at = at

    def __getitem__(self, number: int) -> int:
        item = self._item
        found: int = item.unpack(self._body.part(self._at + number * item.size, item.size))[0]
        return found


class Index:
    """An index: a table of the events in one segment (a file of the trail). Each event has a row.

    Each block of 16 KiB is compared with its digest when it is read.
    """

    def __init__(
        self, data: memoryview | bytes, read: Read | None = None, again: Callable[[], bytes] | None = None
    ) -> None:
        """data: the bytes of the index. If *read* is given, *data* is only the beginning with the whole head.

        read: function that reads bytes after the head. again: function that makes the index again from its
        segment, called if a block does not match its digest. Raises WrongIndexError if the bytes are not an
        index, or are damaged.
        """
        head = head_of(data)
        try:
            if not head.startswith(MAGIC):
                raise WrongIndexError("no index of this version")
            fields: dict[str, Any] = json.loads(head)
            if fields["format"] != FORMAT or fields["order"] != sys.byteorder:
                raise WrongIndexError("no index of this version")
            self.segment: str = fields["segment"]
            self.size: int = fields["size"]
            self.sha256: str = fields["sha256"]
            self.lines: int = fields["lines"]
            self.rows: int = fields["rows"]
            self._places: dict[str, tuple[Any, int, int]] = {
                name: (kind, int(at), int(size)) for name, (kind, at, size) in fields["sections"].items()
            }
            behind = bytes(data)[len(head) + 1 :]
            self._body = Body(
                int(fields["body"]), str(fields["digests"]),
                read or (lambda at, count: behind[at : at + count]),
                None if again is None else lambda: _behind_head(again()),
            )  # fmt: skip
            if read is None:
                self._body.check()
        except (KeyError, TypeError, ValueError, RecursionError) as exc:
            raise WrongIndexError(str(exc)) from exc
        self._columns: dict[str, memoryview] = {}
        self._looked_up = 0
        """The number of paths that were read one by one (see _FEW_PATHS)."""

    def _section(self, name: str) -> bytes:
        """Return the bytes of the section *name*, such as ``paths``.

        Raises WrongIndexError if the section is damaged and cannot be made again.
        """
        _, at, size = self._places[name]
        return self._body.read(at, size)

    def _pair(self, name: str, number: int) -> tuple[int, int]:
        """Return begin and end of the item *number* in a section. name: the column with begins and ends."""
        begin, end = _PAIR.unpack(self._body.part(self._places[name][1] + 4 * number, _PAIR.size))
        return begin, end

    def _column(self, name: str) -> memoryview:
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = memoryview(self._section(name)).cast(self._places[name][0])
        return column

    @cached_property
    def times(self) -> memoryview:
        """The time of each row's event, in ns since 1970."""
        return self._column("time")

    @cached_property
    def class_of(self) -> memoryview:
        """The class id of each row. Events of a class have the same caller, decision and note."""
        return self._column("class")

    @cached_property
    def path_of(self) -> memoryview:
        """The id of each row's path (see path())."""
        return self._column("path")

    @cached_property
    def offset_of(self) -> _Items:
        """The offset of each row's line in the segment, in bytes."""
        kind, at, _ = self._places["offset"]
        return _Items(self._body, kind, at)

    def _list(self, name: str) -> list[Any]:
        found = json.loads(self._section(name))
        return found if isinstance(found, list) else []

    @cached_property
    def classes(self) -> list[Event]:
        """One event for each class, with the fields that all events of the class share, such as the caller.

        The other fields, such as time and path, are empty.
        """
        return [loaded(values) for values in self._list("classes")]

    @cached_property
    def own(self) -> list[Own]:
        """The segment's records about the journal or the mount itself (no events), in order."""
        return [Own(*values) for values in self._list("own")]

    @cached_property
    def bad(self) -> list[tuple[int, str]]:
        """Pairs for the lines that cannot be parsed: number of the line, and the reason."""
        return [(line, why) for line, why in self._list("bad")]

    @cached_property
    def _others(self) -> list[int]:
        """For each line that is not an event, in order: the number of events before this line."""
        lines = sorted([own.line for own in self.own] + [line for line, _ in self.bad])
        return [line - 1 - index for index, line in enumerate(lines)]

    def line_of(self, row: int) -> int:
        """Return the number of a row's line in the segment, from 1."""
        return row + 1 + bisect_right(self._others, row)

    def time_before(self, line: int) -> int | None:
        """Return the time (ns) of the last event before a line, or None. line: its number, from 1."""
        row = bisect_left(range(self.rows), line, key=self.line_of) - 1
        kind, at, _ = self._places["time"]
        return _Items(self._body, kind, at)[row] if row >= 0 else None

    @cached_property
    def _paths(self) -> tuple[bytes, memoryview]:
        return self._section("paths"), self._column("paths.at")

    @property
    def path_count(self) -> int:
        """Return the number of different paths in the index."""
        return self._places["paths.at"][2] // 4 - 1

    def path(self, path_id: int) -> bytes:
        """Return the path with this id. The ids are 0, 1, 2, ... in the order of the sorted paths."""
        if self._looked_up > _FEW_PATHS:
            blob, ends = self._paths
            return blob[ends[path_id] : ends[path_id + 1] - 1]
        self._looked_up += 1
        begin, end = self._pair("paths.at", path_id)
        return self._body.part(self._places["paths"][1] + begin, end - begin - 1)

    def paths(self, path_ids: Iterable[int]) -> list[bytes]:
        """Return the paths with these ids. For many paths, this is quicker than path() for each."""
        blob, at = self._paths
        return [blob[at[path_id] : at[path_id + 1] - 1] for path_id in path_ids]

    def first_path(self, least: bytes) -> int:
        """Return the id of the first path that is equal to *least* or comes after it in sorted order."""
        low, high = 0, self.path_count
        while low < high:
            middle = (low + high) // 2
            if self.path(middle) < least:
                low = middle + 1
            else:
                high = middle
        return low

    def paths_matching(self, pattern: re.Pattern[bytes], prefix: bytes, needle: bytes) -> list[int]:
        """Return the ids of the paths that match *pattern*.

        prefix, needle: each such path begins with *prefix* and contains *needle* (each may be empty). This
        makes the search faster.
        """
        first, last = 0, self.path_count
        if prefix:
            first = self.first_path(prefix)
            after = prefix[:-1] + bytes([prefix[-1] + 1]) if prefix[-1] < 255 else b""
            last = self.first_path(after) if after else last
        if not needle:
            return [one for one in range(first, last) if pattern.fullmatch(self.path(one))]
        blob, at = self._paths
        found, position, end = [], blob.find(needle, at[first], at[last]), at[last]
        while position >= 0:
            path_id = bisect_right(at, position) - 1
            if pattern.fullmatch(self.path(path_id)):
                found.append(path_id)
            position = blob.find(needle, at[path_id + 1], end)
        return found

    def rows_of_path(self, path_id: int) -> list[int]:
        """Return the rows (events) with this path, also as the second path of a rename or link."""
        begin, end = self._pair("postings.at", path_id)
        kind, at, _ = self._places["postings"]
        rows = self._body.part(at + 4 * begin, 4 * (end - begin))
        return memoryview(rows).cast(kind).tolist()

    def moves(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield the class id, the path and the new path of each event with two paths (rename, link)."""
        names, ends = self._section("moves"), self._column("moves.at").tolist()
        paths = [names[begin:end] for begin, end in pairwise(ends)]
        yield from zip(self._column("moves.class"), paths[::2], paths[1::2], strict=True)

    @cached_property
    def new_paths(self) -> dict[int, int]:
        """Dictionary from each row with a second path (rename, link) to the id of this path."""
        return dict(zip(self._column("new_path.rows"), self._column("new_path"), strict=True))

    def rows_cut(self, sha256: str) -> list[int]:
        """Return the rows of events with a path that was too long to be recorded whole.

        sha256: the digest of the whole path.
        """
        return [row for digest, row in self._list("cuts") if digest == sha256]

    @cached_property
    def cut_rows(self) -> frozenset[int]:
        """All rows of events with a path that was too long to be recorded whole."""
        return frozenset(row for _, row in self._list("cuts"))

    def numbers(self, name: str) -> Iterator[tuple[int, int]]:
        """Yield (row, number) for each event that has a number in the column *name* (one of NUMBERS)."""
        if name not in NUMBERS:
            raise KeyError(name)
        yield from zip(self._column(f"{name}.rows"), self._column(name), strict=True)

    @cached_property
    def repeats(self) -> dict[int, int]:
        """Dictionary from each row that stands for several requests to the number of these requests."""
        return dict(self.numbers("repeats"))

    def hours(self) -> Iterator[Hour]:
        """Yield sums over the events of each hour, one for each class (same caller, decision and note)."""
        flat = self._column("hours")
        count = len(flat) // len(Hour._fields)
        columns = [flat[at * count : (at + 1) * count] for at in range(len(Hour._fields))]
        return map(Hour._make, zip(*columns, strict=True))

    @cached_property
    def in_order(self) -> bool:
        """True if no row has an earlier time than the row before."""
        times = self.times.tolist()
        return all(map(int.__le__, times, times[1:]))

    def period(self) -> tuple[int, int] | None:
        """Return the earliest and the latest time of the index's events (ns), or None without events."""
        hours = list(self.hours())
        if not hours:
            return None
        return min(self.times), max(self.times)

    def rows_between(self, since_ns: int | None, until_ns: int | None) -> tuple[int, int] | None:
        """Return the first row of a period, and the row after the period's last row.

        since_ns, until_ns: the period (None: no limit). Return None if the times of rows are not in order.
        """
        if not self.in_order:
            return None
        low = 0 if since_ns is None else bisect_left(self.times, since_ns)
        return low, self.rows if until_ns is None else bisect_left(self.times, until_ns)

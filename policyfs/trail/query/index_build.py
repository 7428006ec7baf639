"""The builder of an index, a table of the events in one file of the trail (segment) (pure).

The same lines always make the same bytes. The builder cuts an event's line into parts, for example the fields
of the caller and the fields of the decision. The same parts come again and again, so the builder parses equal
parts only once. A line of another form is parsed as a whole.
"""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, NamedTuple

from policyfs.trail.lines.event import Cut, Event
from policyfs.trail.lines.record import BadLine, Fields, Place, Record, parse_line, parse_time
from policyfs.trail.query.index_body import digests_of
from policyfs.trail.query.terms import hidden_of, size_of

FORMAT: Final = "policyfs-index-3"
MAGIC: Final = b'{"format":"policyfs-index-3"'
NUMBERS: Final = ("size", "bytes_read", "bytes_written", "hidden", "repeats")
"""The numbers in events for which an index has a column. An event without the number takes no room there."""

_HEAD: Final = b'{"type":"event","seq":'
_NOWHERE: Final = Place("", "", 0)
_MEMO: Final = 300_000
_MOST: Final = (1 << 63) - 1
"""The largest number in a column of an index."""
_SCAN: Final = json.JSONDecoder().raw_decode
_PLAIN: Final = frozenset(b'"\\')


class _Split(NamedTuple):
    """The parts of an event's line.

    second, nanoseconds: the time. caller: the fields from mount to syscall, without pid. path: the fields of
    the paths. verdict: the fields from decision to policy. details: all further fields.
    """

    second: bytes
    nanoseconds: int
    caller: bytes
    path: bytes
    verdict: bytes
    details: bytes


def split_line(raw: bytes) -> _Split | None:
    """Cut an event's line (without newline) into parts. Return None if the line has another form."""
    if not raw.startswith(_HEAD) or raw[-76:-66] != b',"chain":"':
        return None
    time = raw.find(b',"time":"', 22, 60)
    begin = time + 40
    pid = raw.find(b',"pid":', begin)
    exe = raw.find(b',"exe":"', pid)
    path = raw.find(b',"path":"', exe)
    decision = raw.find(b',"decision":"', path)
    policy = raw.find(b',"policy":"', decision)
    end = raw.find(b'"', policy + 11) + 1
    if time < 0 or pid < 0 or exe < 0 or path < 0 or decision < 0 or policy < 0 or end <= 0:
        return None
    if raw[begin - 2 : begin] != b'Z"' or not raw[time + 29 : time + 38].isdigit():
        return None
    return _Split(
        raw[time + 9 : time + 28], int(raw[time + 29 : time + 38]), raw[begin:pid] + raw[exe:path],
        raw[path:decision], raw[decision:end], raw[end:-76],
    )  # fmt: skip


def common_of(event: Event) -> Event:
    """Return a copy of an event without the fields that differ from event to event, such as time and path.

    All events with the same copy are of one class in the index.
    """
    return event._replace(
        time_ns=0, pid=0, path=b"", new_path=None, redacted=(), handle=None, bytes_read=None,
        bytes_written=None, size_before=None, size_after=None, mtime_before_ns=None, mtime_after_ns=None,
        repeats=0, since_ns=None, path_cut=None, new_path_cut=None, redacted_ranges=0, redacted_bytes=0,
        rules_left_out=0,
    )  # fmt: skip


class IndexBuilder:
    """The builder of the index of one segment (file of the trail).

    The caller adds the lines of the segment in order, and then calls finish().
    """

    def __init__(self) -> None:
        self._times = array("q")
        self._classes = array("I")
        self._paths = array("I")
        self._offsets = array("Q")
        self._new_paths: list[tuple[int, int]] = []
        self._numbers: dict[str, tuple[array[int], array[int]]] = {
            name: (array("I"), array("q")) for name in NUMBERS
        }
        self._cuts: list[tuple[str, int]] = []
        self._own: list[list[object]] = []
        self._bad: list[list[object]] = []
        self._class_ids: dict[Event, int] = {}
        self._class_memo: dict[tuple[bytes, bytes, str, str], int] = {}
        self._path_ids: dict[bytes, int] = {}
        self._path_memo: dict[bytes, int] = {}
        self._seconds: dict[bytes, int] = {}
        self._hours: dict[tuple[int, int], list[int]] = {}
        self._line = 0

    def add(self, raw: bytes, offset: int) -> None:
        """Add the next line, with its newline. offset: the position of its first byte in the segment."""
        self._line += 1
        line = raw[:-1] if raw.endswith(b"\n") else raw
        parts = split_line(line)
        if parts is None or not self._add_parts(parts, line, offset):
            self._add_whole(line, offset)

    def _add_parts(self, parts: _Split, line: bytes, offset: int) -> bool:
        """Add an event by the parts of its line. Return False if the line must be parsed as a whole."""
        path_id = self._path_memo.get(parts.path)
        if path_id is None:
            path_id = self._plain_path(parts.path)
            if path_id < 0:
                return False
        details: Fields = {}
        if parts.details:
            try:
                details = _SCAN(f"{{{parts.details[1:].decode()}}}")[0]
            except (ValueError, StopIteration):
                return False
        note, folded = details.get("note", ""), details.get("folded", "")
        if not isinstance(note, str) or not isinstance(folded, str):
            return False
        key = (parts.caller, parts.verdict, note, folded)
        class_id = self._class_memo.get(key)
        if class_id is None:
            record = parse_line(line, _NOWHERE)
            if not isinstance(record, Record) or record.event is None:
                return False
            class_id = self._class(record.event)
            if len(self._class_memo) > _MEMO:
                self._class_memo.clear()
            self._class_memo[key] = class_id
        second = self._seconds.get(parts.second)
        if second is None:
            try:
                second = parse_time(f"{parts.second.decode()}.000000000Z")
            except ValueError:
                return False
            self._seconds = {parts.second: second}
        try:
            numbers = _numbers(details)
        except (TypeError, ValueError, LookupError):
            return False
        self._row(second + parts.nanoseconds, class_id, path_id, offset, numbers)
        return True

    def _plain_path(self, text: bytes) -> int:
        """Return the id of the path in the path part of a line.

        Return -1 if the path has escapes, or if further fields follow. Then the line is parsed as a whole.
        """
        value = text[9:-1]
        if text[-1:] != b'"' or not _PLAIN.isdisjoint(value):
            return -1
        path_id = self._path(value)
        if len(self._path_memo) > _MEMO:
            self._path_memo.clear()
        self._path_memo[text] = path_id
        return path_id

    def _add_whole(self, line: bytes, offset: int) -> None:
        record = parse_line(line, _NOWHERE)
        if isinstance(record, BadLine):
            self._bad.append([self._line, record.why])
            return
        event = record.event
        if event is None:
            self._own.append([self._line, record.kind, record.seq, record.time_ns, offset])
            return
        row = len(self._times)
        numbers = {
            "size": size_of(event), "bytes_read": event.bytes_read, "bytes_written": event.bytes_written,
            "hidden": hidden_of(event), "repeats": event.repeats or None,
        }  # fmt: skip
        self._row(record.time_ns, self._class(event), self._path(event.path), offset, numbers)
        if event.new_path is not None:
            self._new_paths.append((row, self._path(event.new_path)))
        for cut in (event.path_cut, event.new_path_cut):
            if isinstance(cut, Cut):
                self._cuts.append((cut.sha256, row))

    def _path(self, path: bytes) -> int:
        return self._path_ids.setdefault(path, len(self._path_ids))

    def _class(self, event: Event) -> int:
        return self._class_ids.setdefault(common_of(event), len(self._class_ids))

    def _row(
        self, time_ns: int, class_id: int, path_id: int, offset: int, numbers: dict[str, int | None]
    ) -> None:
        row = len(self._times)
        self._times.append(time_ns)
        self._classes.append(class_id)
        self._paths.append(path_id)
        self._offsets.append(offset)
        key = (time_ns // 3_600_000_000_000, class_id)
        hour = self._hours.get(key)
        if hour is None:
            hour = self._hours[key] = [0] * 5
        weight = numbers.get("repeats") or 1
        hour[0] += weight
        for name, number in numbers.items():
            if number is not None:
                rows, values = self._numbers[name]
                rows.append(row)
                values.append(_bounded(number))
        hour[1] += numbers.get("bytes_read") or 0
        hour[2] += numbers.get("bytes_written") or 0
        if numbers.get("hidden") is not None:
            hour[3] += weight
            hour[4] += numbers["hidden"] or 0

    def finish(self, segment: str, size: int, sha256: str) -> bytes:
        """Return the bytes of the index.

        segment: the name of the segment. size, sha256: the size and the digest of the indexed bytes.
        """
        sections = [
            ("classes", "json", _json([_stored(event) for event in self._class_ids])),
            ("own", "json", _json(self._own)),
            ("bad", "json", _json(self._bad)),
            ("cuts", "json", _json(self._cuts)),
            *self._path_sections(),
            ("time", "q", self._times.tobytes()),
            ("class", "I", self._classes.tobytes()),
            ("offset", "Q", self._offsets.tobytes()),
        ]
        for name, (rows, values) in self._numbers.items():
            sections += [(f"{name}.rows", "I", rows.tobytes()), (name, "q", values.tobytes())]
        hours = sorted(self._hours.items())
        columns = zip(*((*key, *sums) for key, sums in hours), strict=True) if hours else [()] * 7
        flat = array("q", [_bounded(number) for column in columns for number in column])
        sections.append(("hours", "q", flat.tobytes()))
        about = {"segment": segment, "size": size, "sha256": sha256, "lines": self._line}
        return _file(sections, about | {"rows": len(self._times)})

    def _path_sections(self) -> list[tuple[str, str, bytes]]:
        paths = sorted(self._path_ids)
        new_ids = array("I", bytes(4 * len(paths)))
        for new, path in enumerate(paths):
            new_ids[self._path_ids[path]] = new
        column = array("I", map(new_ids.__getitem__, self._paths))
        pairs = [(new_ids[path], row) for row, path in self._new_paths]
        by_path = [*zip(column, range(len(column)), strict=True), *pairs]
        by_path = sorted(set(by_path)) if pairs else sorted(by_path)
        counts = array("I", bytes(4 * len(paths)))
        for path_id, _ in by_path:
            counts[path_id] += 1
        starts = array("I", accumulate(counts, initial=0))
        ends = array("I", accumulate((len(path) + 1 for path in paths), initial=0))
        second = sorted((row, path) for path, row in pairs)
        moved = [paths[path_id] for row, new in second for path_id in (column[row], new)]
        return [
            ("paths", "B", b"".join(path + b"\0" for path in paths)),
            ("paths.at", "I", ends.tobytes()),
            ("path", "I", column.tobytes()),
            ("postings.at", "I", starts.tobytes()),
            ("postings", "I", array("I", [row for _, row in by_path]).tobytes()),
            ("new_path.rows", "I", array("I", [row for row, _ in second]).tobytes()),
            ("new_path", "I", array("I", [path for _, path in second]).tobytes()),
            ("moves.class", "I", array("I", [self._classes[row] for row, _ in second]).tobytes()),
            ("moves.at", "I", array("I", accumulate(map(len, moved), initial=0)).tobytes()),
            ("moves", "B", b"".join(moved)),
        ]


def _bounded(number: int) -> int:
    """Return the number, or the next number that a column can hold.

    An app chooses the sizes of its files. So it can make a sum of hidden bytes as large as it wants.
    """
    return max(-_MOST - 1, min(number, _MOST))


def _numbers(details: Fields) -> dict[str, int | None]:
    out: dict[str, int | None] = {}
    for name in ("bytes_read", "bytes_written", "repeats"):
        value = details.get(name)
        if isinstance(value, int):
            out[name] = value or (None if name == "repeats" else 0)
    size = details.get("size_after", details.get("size_before"))
    if isinstance(size, int):
        out["size"] = size
    ranges = details.get("redacted")
    if isinstance(ranges, list) and ranges:
        told = details.get("redacted_bytes")
        out["hidden"] = told if isinstance(told, int) and told else sum(int(one[1]) for one in ranges)
    return out


def _stored(event: Event) -> list[object]:
    return [value for name, value in event._asdict().items() if name != "path"]


def loaded(values: list[object]) -> Event:
    """Return the event that stands for a class in an index. values: its fields, as _stored() returns them."""
    at = Event._fields.index("path")
    fields = [tuple(value) if isinstance(value, list) else value for value in values]
    return Event._make([*fields[:at], b"", *fields[at:]])


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _file(sections: Iterable[tuple[str, str, bytes]], about: dict[str, object]) -> bytes:
    """Return the bytes of an index: the head (a line of JSON), the blocks' digests, and the sections."""
    places, parts, at = {}, [], 0
    for name, kind, data in sections:
        places[name] = [kind, at, len(data)]
        padding = bytes(-len(data) % 8)
        parts += [data, padding]
        at += len(data) + len(padding)
    body = b"".join(parts)
    table = digests_of(body)
    checked = {"body": len(body), "digests": hashlib.sha256(table).hexdigest()}
    head = _json({"format": FORMAT, "order": sys.byteorder, **about, **checked, "sections": places})
    return b"".join((head, b" " * (-(len(head) + 1) % 8), b"\n", table, body))

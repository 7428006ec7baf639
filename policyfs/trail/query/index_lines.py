"""The values of a trail's lines for an index, a table of the events in one segment (pure).

A line is cut into parts, for example the fields of the caller and of the decision, which come again and
again: equal parts are parsed only once. A line of another form is parsed as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from policyfs.trail.lines.event import Event
from policyfs.trail.lines.record import BadLine, Place, Record, parse_line, parse_time
from policyfs.trail.query.terms import hidden_of

EVENT_COLUMNS: Final = (
    "line", "offset", "seq", "time", "class", "path", "new_path", "pid", "handle", "bytes_read",
    "bytes_written", "size_before", "size_after", "hidden", "repeats",
)  # fmt: skip
"""The columns of the table `event`. line: from 1. offset: in bytes. time: ns since 1970. class, path,
new_path: ids. hidden: bytes. repeats: NULL for a single event."""

OTHER_COLUMNS: Final = ("line", "offset", "seq", "time", "kind", "why")
"""The columns of `other`, for lines that are no events. why: of no valid record; then all others are NULL."""

_Row = tuple[int | None, ...]

_HEAD: Final = b'{"type":"event","seq":'
_NOWHERE: Final = Place("", "", 0)
_MEMO: Final = 300_000
_MOST: Final = (1 << 63) - 1
"""The largest number in a column."""
_SCAN: Final = json.JSONDecoder().raw_decode
_PLAIN: Final = frozenset(b'"\\')
_NUMBERS: Final = ("handle", "bytes_read", "bytes_written", "size_before", "size_after")
_DETAILS: Final[dict[str, type]] = {
    **dict.fromkeys((*_NUMBERS, "mtime_before_ns", "mtime_after_ns"), int), "redacted": list, "note": str
}  # fmt: skip
"""The fields behind the policy that most events have. An event with other ones is parsed as a whole."""

_Parts = tuple[int, bytes, int, int, bytes, bytes, bytes, bytes]


def split_line(raw: bytes) -> _Parts | None:
    """Cut an event's line (without newline) into parts. Return None if the line has another form.

    The parts are: seq; the time as text until the second, and the nanoseconds; pid; the fields from mount to
    syscall, without pid; the fields of the paths; the fields from decision to policy; all further fields.
    """
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
    seq, nanoseconds, number = raw[22:time], raw[time + 29 : time + 38], raw[pid + 7 : exe]
    if raw[begin - 2 : begin] != b'Z"' or not (seq.isdigit() and nanoseconds.isdigit() and number.isdigit()):
        return None
    if len(seq) > 18 or len(number) > 18:
        return None
    return (
        int(seq), raw[time + 9 : time + 28], int(nanoseconds), int(number), raw[begin:pid] + raw[exe:path],
        raw[path:decision], raw[decision:end], raw[end:-76],
    )  # fmt: skip


def common_of(event: Event) -> Event:
    """Return a copy without the fields that differ from event to event: events with the same copy are of one
    class."""
    return event._replace(
        time_ns=0, pid=0, path=b"", new_path=None, redacted=(), handle=None, bytes_read=None,
        bytes_written=None, size_before=None, size_after=None, mtime_before_ns=None, mtime_after_ns=None,
        repeats=0, since_ns=None, path_cut=None, new_path_cut=None, redacted_ranges=0, redacted_bytes=0,
        rules_left_out=0,
    )  # fmt: skip


class IndexLines:
    """The values of the lines of one segment for the tables of an index. classes, paths: ids of the shared
    fields of events, and of paths. others: rows of OTHER_COLUMNS. cuts: SHA-256 and line of each path too
    long to be recorded whole. count: all lines."""

    def __init__(self) -> None:
        self.classes: dict[Event, int] = {}
        self.paths: dict[bytes, int] = {}
        self.others: list[tuple[int | str | None, ...]] = []
        self.cuts: list[tuple[str, int]] = []
        self.count = 0
        self._class_memo: dict[tuple[bytes, bytes, str], int] = {}
        self._path_memo: dict[bytes, int] = {}
        self._second = (b"", 0)

    def rows(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[_Row]:
        """Yield a row of EVENT_COLUMNS for each event. lines: pairs of offset and line, in order."""
        for offset, raw in lines:
            self.count += 1
            line = raw[:-1] if raw.endswith(b"\n") else raw
            parts = split_line(line)
            row = None if parts is None else self._by_parts(parts, line, offset)
            row = row or self._whole(line, offset)
            if row:
                yield row

    def _by_parts(self, parts: _Parts, line: bytes, offset: int) -> _Row | None:
        """Return an event's row by the parts of its line, or None if the line must be parsed as a whole."""
        seq, second, nanoseconds, pid, caller, path, verdict, more = parts
        path_id = self._path_memo.get(path)
        if path_id is None:
            path_id = self._plain_path(path)
        details: dict[str, Any] = {}
        hidden = None
        try:
            if more:
                details = _SCAN(f"{{{more[1:].decode()}}}")[0]
                for name, value in details.items():
                    kind = type(value)
                    if kind is not _DETAILS.get(name) or (kind is int and not -_MOST <= value <= _MOST):
                        return None
                hidden = _hidden(details.get("redacted", []))
            if path_id is None:
                return None
            second_ns = self._second[1] if self._second[0] == second else self._new_second(second)
        except (ValueError, StopIteration):
            return None
        note = details.get("note", "")
        class_id = self._class_memo.get((caller, verdict, note))
        if class_id is None:
            record = parse_line(line, _NOWHERE)
            if not isinstance(record, Record) or record.event is None:
                return None
            class_id = self._class(record.event)
            if len(self._class_memo) > _MEMO:
                self._class_memo.clear()
            self._class_memo[caller, verdict, note] = class_id
        return (
            self.count, offset, seq, second_ns + nanoseconds, class_id, path_id, None, pid,
            *map(details.get, _NUMBERS), hidden, None,
        )  # fmt: skip

    def _new_second(self, text: bytes) -> int:
        self._second = text, parse_time(f"{text.decode()}.000000000Z")
        return self._second[1]

    def _plain_path(self, text: bytes) -> int | None:
        """Return the id of a path without escapes or further fields behind it, or None."""
        value = text[9:-1]
        if text[-1:] != b'"' or not _PLAIN.isdisjoint(value):
            return None
        path_id = self._path(value)
        if len(self._path_memo) > _MEMO:
            self._path_memo.clear()
        self._path_memo[text] = path_id
        return path_id

    def _whole(self, line: bytes, offset: int) -> _Row | None:
        record = parse_line(line, _NOWHERE)
        if isinstance(record, BadLine):
            self.others.append((self.count, None, None, None, None, record.why))
            return None
        event = record.event
        if event is None:
            self.others.append((self.count, offset, _bounded(record.seq), record.time_ns, record.kind, None))
            return None
        self.cuts += [(cut.sha256, self.count) for cut in (event.path_cut, event.new_path_cut) if cut]
        new_path = None if event.new_path is None else self._path(event.new_path)
        numbers = [getattr(event, name) for name in _NUMBERS]
        last = [event.pid, *numbers, hidden_of(event), event.repeats or None]
        return (
            self.count, offset, _bounded(record.seq), record.time_ns, self._class(event),
            self._path(event.path), new_path, *map(_bounded, last),
        )  # fmt: skip

    def _path(self, path: bytes) -> int:
        return self.paths.setdefault(path, len(self.paths))

    def _class(self, event: Event) -> int:
        return self.classes.setdefault(common_of(event), len(self.classes))


def _bounded(number: int | None) -> int | None:
    """Return the next number that a column can hold: an app chooses the sizes of its files."""
    return None if number is None else max(-_MOST, min(number, _MOST))


def _hidden(ranges: list[Any]) -> int | None:
    """Return the number of bytes in a list of ranges, or None without ranges. Raises ValueError."""
    if not ranges:
        return None
    hidden = 0
    for one in ranges:
        if type(one) is not list or len(one) != 2 or not type(one[0]) is type(one[1]) is int:
            raise ValueError("not a list of ranges")
        hidden += one[1]
    return _bounded(hidden)

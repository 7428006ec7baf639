"""The parser of a trail's lines (pure). It accepts any bytes, and raises no exception: what is no record is a
`BadLine`, with the reason. Digests are not checked (`policyfs audit verify` does)."""

from __future__ import annotations

import base64
import binascii
import calendar
import errno
import json
import re
from typing import Final, NamedTuple

from policyfs.trail.lines.event import Cut, Event

_TIME: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{9})Z")
_LAST_YEAR: Final = 2261
"""The last year of which all times fit into 64 bits, as ns since 1970. An index stores times in this form."""
_HEADER: Final = re.compile(rb'\{"type":"header","seq":([0-9]{1,18}),')
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_ID: Final = re.compile(r"((?:[^/]+/)?[0-9a-zA-Z_.-]+):([0-9]{1,18})")
_ID_PREFIX: Final = 8

CLOCK_STEP_NS: Final = 2_000_000_000
"""If the clock goes back by more than this time (ns), the journal writes a ``clock`` record."""

Fields = dict[str, object]


class WrongFieldError(ValueError):
    """Error for a field of a line that is missing or of the wrong type."""


class Place(NamedTuple):
    """The place of a line: the hash chain (its directory), the file, and the position in it, from 1."""

    mount_id: str
    segment: str
    line: int


class Record(NamedTuple):
    """One parsed line. kind: its type (``event``, ``header``, ``gap``). seq: its number. event: if kind is
    ``event``."""

    place: Place
    kind: str
    seq: int
    time_ns: int
    fields: Fields
    event: Event | None

    @property
    def id(self) -> str:
        """Return the id for `policyfs audit show`: the first 8 characters of the mount's id, and seq
        (``3f1c9a0b:2``); before them ``MACHINE/`` if the trails of several are read."""
        return f"{short_name(self.place.mount_id)}:{self.seq}"


class BadLine(NamedTuple):
    """A line in a file of the trail that is not a valid record. why: the reason."""

    place: Place
    why: str


def short_name(chain: str) -> str:
    """Return the name of a hash chain as in ids: the first 8 characters of the mount's id, and the machine's
    name before them, if there is one."""
    machine, slash, mount_id = chain.rpartition("/")
    return f"{machine}{slash}{mount_id[:_ID_PREFIX]}"


def parse_id(text: str) -> tuple[str, int]:
    """Parse a record's id. Return the beginning of the mount's id, and seq. Raises ValueError for people."""
    match = _ID.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an event id: an id looks like 0123abcd:42")
    return match[1], int(match[2])


def parse_time(text: str) -> int:
    """Parse a time such as ``2026-03-01T08:15:00.000000001Z``. Return ns since 1970. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"time {text[:40]!r} is not of the form 2026-03-01T08:15:00.000000000Z")
    year, month, day, hour, minute, second, rest = map(int, match.groups())
    if not (1 <= year <= _LAST_YEAR and 1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(f"no such date: {text[:40]!r}")
    return calendar.timegm((year, month, day, hour, minute, second)) * 1_000_000_000 + rest


def parse_line(raw: bytes, place: Place) -> Record | BadLine:
    """Parse one line of the trail, with or without its newline. place: the line's place, for the result."""
    try:
        fields = json.loads(raw.decode("utf-8"))  # not another encoding, which json.loads() detects in bytes
        if not isinstance(fields, dict) or not raw.startswith(b"{"):
            return BadLine(place, "not a JSON object")
        kind, seq = _text(fields, "type"), _whole(fields, "seq")
        time_ns = parse_time(_text(fields, "time"))
        event = event_of(fields, time_ns) if kind == "event" else None
    except (ValueError, RecursionError) as exc:
        return BadLine(place, f"{exc}"[:200] or type(exc).__name__)
    return Record(place, kind, seq, time_ns, fields, event)


def header_of(raw: bytes) -> tuple[int, str] | None:
    """Return number and previous digest of a header, the first line of each segment; None for other lines."""
    found = _HEADER.match(raw)
    if found is None:
        return None
    record = parse_line(raw, Place("", "", 1))
    previous = record.fields.get("previous") if isinstance(record, Record) else None
    return (int(found[1]), previous) if isinstance(previous, str) and _DIGEST.fullmatch(previous) else None


def event_of(fields: Fields, time_ns: int) -> Event:
    """Return the event of a parsed line, with its time. Raises ValueError with the name of a wrong field."""
    return Event(
        time_ns=time_ns,
        mount=_text(fields, "mount"),
        policy_generation=_whole(fields, "generation"),
        policy_digest=_text(fields, "policy"),
        app=_text(fields, "app"),
        uid=_id(fields, "uid"),
        gid=_id(fields, "gid"),
        pid=_whole(fields, "pid"),
        exe=_text(fields, "exe"),
        operation=_text(fields, "operation"),
        syscall=_text(fields, "syscall"),
        path=_path(fields, "path"),
        decision=_text(fields, "decision"),
        errno=errno_of(_text(fields, "errno", "")),
        rules=_texts(fields, "rules"),
        new_path=_path(fields, "new_path") if "new_path" in fields else None,
        kind=_text(fields, "kind") if "kind" in fields else None,
        io=_text(fields, "io", ""),
        view=_text(fields, "view", ""),
        redacted=_ranges(fields, "redacted"),
        handle=_maybe_whole(fields, "handle"),
        bytes_read=_maybe_whole(fields, "bytes_read"),
        bytes_written=_maybe_whole(fields, "bytes_written"),
        size_before=_maybe_whole(fields, "size_before"),
        size_after=_maybe_whole(fields, "size_after"),
        mtime_before_ns=_maybe_whole(fields, "mtime_before_ns"),
        mtime_after_ns=_maybe_whole(fields, "mtime_after_ns"),
        would_deny=_texts(fields, "would_deny"),
        would_allow=_texts(fields, "would_allow"),
        note=_text(fields, "note", ""),
        repeats=_maybe_whole(fields, "repeats") or 0,
        since_ns=parse_time(_text(fields, "since")) if "since" in fields else None,
        folded=_text(fields, "folded", ""),
        path_cut=_cut(fields, "path_cut"),
        new_path_cut=_cut(fields, "new_path_cut"),
        redacted_ranges=_maybe_whole(fields, "redacted_ranges") or 0,
        redacted_bytes=_maybe_whole(fields, "redacted_bytes") or 0,
        rules_left_out=_maybe_whole(fields, "rules_left_out") or 0,
    )


def _id(fields: Fields, name: str) -> int:
    return -1 if fields.get(name, 0) is None else _whole(fields, name)


def _text(fields: Fields, name: str, default: str | None = None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise WrongFieldError(f"field {name!r} is missing or not text")
    return value


def _whole(fields: Fields, name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongFieldError(f"field {name!r} is missing or not a whole number")
    return value


def _maybe_whole(fields: Fields, name: str) -> int | None:
    return _whole(fields, name) if name in fields else None


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    value = fields.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise WrongFieldError(f"field {name!r} is not a list of texts")
    return tuple(value)


def _ranges(fields: Fields, name: str) -> tuple[tuple[int, int], ...]:
    value = fields.get(name, [])
    ranges = []
    for item in value if isinstance(value, list) else [None]:
        if not (isinstance(item, list) and len(item) == 2 and all(type(n) is int for n in item)):
            raise WrongFieldError(f"field {name!r} is not a list of [offset, length]")
        ranges.append((item[0], item[1]))
    return tuple(ranges)


def _cut(fields: Fields, name: str) -> Cut | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise WrongFieldError(f"field {name!r} is not an object")
    numbers = (_whole(value, "head"), _whole(value, "tail"), _whole(value, "bytes"))
    return Cut(*numbers, _text(value, "sha256"))


def _path(fields: Fields, name: str) -> bytes:
    exact = fields.get(name + "_b64")
    if exact is None:
        return _text(fields, name).encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(_text(fields, name + "_b64"), validate=True)
    except binascii.Error as exc:
        raise ValueError(f"field '{name}_b64' is not base64") from exc


def errno_of(name: str) -> int:
    """Return the number of an errno such as ``EACCES``; 0 for an empty text. Raises ValueError."""
    if not name:
        return 0
    if name in _CODES:
        return _CODES[name]
    number = name.removeprefix("errno ")
    if number.isdecimal() and len(number) < 10:
        return int(number)
    raise ValueError(f"errno {name[:40]!r} is not known")


_CODES: Final = {name: code for code, name in errno.errorcode.items()}

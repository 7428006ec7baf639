"""A fast formatter of events, and of the journal's own records, as JSON lines of the trail (pure).

The lines are harmless even if ``cat`` prints them on a terminal: every character that is not printable is
written as a ``\\uXXXX`` escape (controls, newlines, bidirectional overrides, zero-width and default-ignorable
characters, lone surrogates). A JSON parser returns the original text. This module makes the body of a line, a
JSON object without its closing brace. `chain.seal` appends the digest as the last field, and the brace.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final, TypeVar

from policyfs.errors import errno_name
from policyfs.trail.lines.event import Cut, Event

_Text = TypeVar("_Text", str, tuple[str, str])

_CALLERS: Final = 256
_REQUESTS: Final = 1024
_MEMO_CHARS: Final = 1024
"""Limits of remembered parts of lines: their numbers, and their length. So the memory of LineFormatter is at
most some 5 MiB."""
_NS: Final = 1_000_000_000

_CALLER: Final = itemgetter(*map(Event._fields.index, ("mount", "app", "uid", "gid", "pid", "exe")))
"""The fields about the caller: remembered for a few callers only, because most processes end soon."""
_REQUEST: Final = itemgetter(*map(Event._fields.index, (
    "operation", "syscall", "decision", "errno", "rules", "kind", "io", "view", "would_deny", "would_allow",
    "policy_generation", "policy_digest",
)))  # fmt: skip
"""The fields about the request and its decision, which requests of many processes share."""
_DETAILS: Final = slice(Event._fields.index("redacted"), Event._fields.index("mtime_after_ns") + 1)
"""The range of the fields of Event from `redacted` to `mtime_after_ns`."""
_RARE: Final = slice(Event._fields.index("note"), None)
_NONE_RARE: Final = tuple(Event._field_defaults[name] for name in Event._fields[_RARE])
"""_RARE: the range of the fields of Event from `note` on. _NONE_RARE: their values in most events."""

RANGES_LIMIT: Final = 256
"""The limit of redacted ranges in a line, so that no file can make the line too long."""

LINE_BYTES: Final = 48 * 1024
"""The limit of bytes of a line, digest and newline included. The limits of the fields add up to 42 KiB: 2
paths of 1,024 bytes, escaped and in base64 (15), 256 ranges (10.5), the mountpoint (4), lists of rules (4),
exe and note (2), other texts (3.5), numbers, names and digests (3)."""

INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that terminals do not draw, although str.isprintable() is True for them."""


def is_plain(text: str) -> bool:
    """Return True if a terminal shows each character of this text as itself."""
    return text.isprintable() and (text.isascii() or INVISIBLE.search(text) is None)


def quote(text: str) -> str:
    """Return the text as a JSON string in which every character is visible and harmless on a terminal."""
    if is_plain(text):
        if "\\" in text or '"' in text:
            text = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    # json.dumps also escapes harmless letters beyond ASCII. But json.dumps is fast C code: with Python code,
    # a long path of control characters could cost the daemon milliseconds.
    return json.dumps(text)


def iso_time(time_ns: int) -> str:
    """Return the exact time in the form ``2026-03-01T08:15:00.000000001Z``. time_ns: ns since 1970."""
    seconds, rest = divmod(time_ns, _NS)
    return f"{_whole_second(seconds)}{rest:09d}Z"


def _whole_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.")


def _path_field(name: str, path: bytes, cut: Cut | None) -> str:
    try:
        text = f',"{name}":{quote(path.decode())}'
    except UnicodeDecodeError:
        shown = quote(path.decode("utf-8", "backslashreplace"))
        exact = base64.b64encode(path).decode("ascii")
        text = f',"{name}":{shown},"{name}_b64":"{exact}"'
    if cut is None:
        return text
    told = f'"head":{cut.head},"tail":{cut.tail},"bytes":{cut.size},"sha256":"{cut.sha256}"'
    return f'{text},"{name}_cut":{{{told}}}'


def _list(values: tuple[str, ...]) -> str:
    return "[" + ",".join(map(quote, values)) + "]"


def _short(text: str, limit: int) -> str:
    """Return the text as a JSON string of at most *limit* bytes: of a longer text, beginning and end."""
    quoted = quote(text)
    keep = limit
    while len(quoted.encode()) > limit:
        keep = keep * 2 // 3
        quoted = quote(f"{text[: keep // 2]}\u2026{text[-(keep // 2) :]}")
    return quoted


class LineFormatter:
    """A formatter of the trail's lines, which remembers parts that many lines share: 3 µs for an event. Not
    thread-safe."""

    def __init__(self) -> None:
        self._callers: dict[tuple[object, ...], str] = {}
        self._requests: dict[tuple[object, ...], tuple[str, str]] = {}
        self._second = -1
        self._second_text = ""

    def event(self, event: Event, seq: int) -> bytes:
        """Return the body of an event's line (all bytes before the digest). seq: the number of the line."""
        return numbered(self.unnumbered(event), seq)

    def unnumbered(self, event: Event) -> bytes:
        """Return an event's line (a result of bounds.bounded()) as UTF-8, without digest, type and number.
        numbered() adds type and number."""
        seconds, rest = divmod(event.time_ns, _NS)
        if seconds != self._second:
            self._second_text = _whole_second(seconds)
            self._second = seconds
        who = _CALLER(event)
        caller = self._callers.get(who)
        if caller is None:
            caller = _caller_text(event)
            _remember(self._callers, _CALLERS, who, caller, len(caller))
        request = _REQUEST(event)
        parts = self._requests.get(request)
        if parts is None:
            parts = _request_text(event), _verdict_text(event)
            _remember(self._requests, _REQUESTS, request, parts, max(map(len, parts)))
        path = _path_field("path", event.path, event.path_cut)
        if event.new_path is not None:
            path += _path_field("new_path", event.new_path, event.new_path_cut)
        return (
            f',"time":"{self._second_text}{rest:09d}Z"{caller}{parts[0]}{path}{parts[1]}{_details(event)}'
        ).encode()

    def record(self, kind: str, seq: int, time_ns: int, fields: dict[str, object]) -> bytes:
        """Return the line of one of the journal's own records (header, gap, ...), without its digest."""
        head = {"type": kind, "seq": seq, "time": iso_time(time_ns)}
        return json.dumps(head | fields, separators=(",", ":"))[:-1].encode("ascii")


def numbered(unnumbered: bytes, seq: int) -> bytes:
    """Return an event's line without its digest. unnumbered: the result of LineFormatter.unnumbered()."""
    return b'{"type":"event","seq":%d%b' % (seq, unnumbered)


def _remember(
    memo: dict[tuple[object, ...], _Text], most: int, key: tuple[object, ...], text: _Text, size: int
) -> None:
    if size > _MEMO_CHARS:
        return
    if len(memo) >= most:
        memo.clear()
    memo[key] = text


def _id(number: int) -> int | str:
    return "null" if number < 0 else number


def _caller_text(event: Event) -> str:
    return (
        f',"mount":{_short(event.mount, 4096)},"app":{_short(event.app, 512)},"uid":{_id(event.uid)}'
        f',"gid":{_id(event.gid)},"pid":{event.pid},"exe":{_short(event.exe, 1024)}'
    )


def _request_text(event: Event) -> str:
    return f',"operation":{_short(event.operation, 512)},"syscall":{_short(event.syscall, 512)}'


def _verdict_text(event: Event) -> str:
    parts = [f',"decision":{quote(event.decision)}']
    if event.errno:
        parts.append(f',"errno":{quote(errno_name(event.errno))}')
    parts.append(f',"rules":{_list(event.rules)}')
    if event.would_deny:
        parts.append(f',"would_deny":{_list(event.would_deny)}')
    if event.would_allow:
        parts.append(f',"would_allow":{_list(event.would_allow)}')
    for name, value in (("kind", event.kind), ("io", event.io), ("view", event.view)):
        if value:
            parts.append(f',"{name}":{_short(value, 512)}')
    parts.append(f',"generation":{event.policy_generation},"policy":{_short(event.policy_digest, 512)}')
    return "".join(parts)


def _details(event: Event) -> str:
    """Return the JSON of an event's fields that most events lack, such as sizes. Leave out empty fields."""
    details: Any = event[_DETAILS]
    redacted, handle, read, written, size, size_after, mtime, mtime_after = details
    text = ""
    if redacted:
        ranges = ",".join(f"[{offset},{length}]" for offset, length in redacted)
        text = f',"redacted":[{ranges}]'
        if event.redacted_ranges:
            text += f',"redacted_ranges":{event.redacted_ranges},"redacted_bytes":{event.redacted_bytes}'
    if handle is not None:
        text += f',"handle":{handle}'
    if read is not None:
        text += f',"bytes_read":{read}'
    if written is not None:
        text += f',"bytes_written":{written}'
    if size is not None:
        text += f',"size_before":{size}'
    if size_after is not None:
        text += f',"size_after":{size_after}'
    if mtime is not None:
        text += f',"mtime_before_ns":{mtime}'
    if mtime_after is not None:
        text += f',"mtime_after_ns":{mtime_after}'
    return text + _rare(event) if event[_RARE] != _NONE_RARE else text


def _rare(event: Event) -> str:
    parts: list[str] = []
    if event.rules_left_out:
        parts.append(f',"rules_left_out":{event.rules_left_out}')
    if event.note:
        parts.append(f',"note":{_short(event.note, 1024)}')
    if event.folded:
        parts.append(f',"folded":{_short(event.folded, 32)}')
    if event.repeats:
        parts.append(f',"repeats":{event.repeats}')
    if event.since_ns is not None:
        parts.append(f',"since":"{iso_time(event.since_ns)}"')
    return "".join(parts)

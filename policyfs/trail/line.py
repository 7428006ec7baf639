"""Events and the journal's own records as JSON line bodies, quickly and harmlessly (pure).

The text of a line is made so that even ``cat`` on a trail does no harm: whatever is not
printable (controls, newlines, bidirectional overrides, zero-width and default-ignorable
characters, lone surrogates) stands as a ``\\uXXXX`` escape. The JSON is the same to a parser.
Bodies lack the closing brace: `chain.seal` appends the digest as the last field.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import Final

from policyfs.errors import errno_name
from policyfs.trail.event import Event

_MEMO_LIMIT: Final = 4096
_NS: Final = 1_000_000_000

RANGES_LIMIT: Final = 256
"""So many redacted ranges a line lists; a file made to have more cannot make lines endless."""

INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Printable by category, yet drawn as nothing: what str.isprintable() does not know about."""


def is_plain(text: str) -> bool:
    """True if a terminal shows this text as it is, each character visible."""
    return text.isprintable() and (text.isascii() or INVISIBLE.search(text) is None)


def quote(text: str) -> str:
    """The text as a JSON string in which every character is visible and harmless."""
    if is_plain(text):
        if "\\" in text or '"' in text:
            text = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    # Escapes harmless letters beyond ASCII too, but in C: a long path made of controls must not
    # cost the daemon milliseconds.
    return json.dumps(text)


def iso_time(time_ns: int) -> str:
    """Nanoseconds since 1970 as ``2026-03-01T08:15:00.000000001Z``, exact."""
    seconds, rest = divmod(time_ns, _NS)
    return f"{_whole_second(seconds)}{rest:09d}Z"


def _whole_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.")


def _path_field(name: str, path: bytes) -> str:
    try:
        return f',"{name}":{quote(path.decode())}'
    except UnicodeDecodeError:
        shown = quote(path.decode("utf-8", "backslashreplace"))
        exact = base64.b64encode(path).decode("ascii")
        return f',"{name}":{shown},"{name}_b64":"{exact}"'


def _list(values: tuple[str, ...]) -> str:
    return "[" + ",".join(map(quote, values)) + "]"


class LineFormatter:
    """Makes the body of an event's line (about 5 µs); remembers the parts that repeat.

    Not thread-safe: the journal calls it under its own lock.
    """

    def __init__(self) -> None:
        self._callers: dict[tuple[object, ...], str] = {}
        self._verdicts: dict[tuple[object, ...], str] = {}
        self._second = -1
        self._second_text = ""

    def event(self, event: Event, seq: int) -> bytes:
        """The body of an event's line, without the chain digest, as UTF-8."""
        seconds, rest = divmod(event.time_ns, _NS)
        if seconds != self._second:
            self._second_text = _whole_second(seconds)
            self._second = seconds
        path = _path_field("path", event.path)
        if event.new_path is not None:
            path += _path_field("new_path", event.new_path)
        return (
            f'{{"type":"event","seq":{seq},"time":"{self._second_text}{rest:09d}Z"'
            f"{self._caller(event)}{path}{self._verdict(event)}{_details(event)}"
        ).encode()

    def record(self, kind: str, seq: int, time_ns: int, fields: dict[str, object]) -> bytes:
        """The body of one of the journal's own records (header, gap, ...), as ASCII."""
        head = {"type": kind, "seq": seq, "time": iso_time(time_ns)}
        return json.dumps(head | fields, separators=(",", ":"))[:-1].encode("ascii")

    def _caller(self, event: Event) -> str:
        key = (
            event.mount,
            event.app,
            event.uid,
            event.gid,
            event.pid,
            event.exe,
            event.operation,
            event.syscall,
        )
        text = self._callers.get(key)
        if text is None:
            text = (
                f',"mount":{quote(event.mount)},"app":{quote(event.app)},"uid":{event.uid}'
                f',"gid":{event.gid},"pid":{event.pid},"exe":{quote(event.exe)}'
                f',"operation":{quote(event.operation)},"syscall":{quote(event.syscall)}'
            )
            _remember(self._callers, key, text)
        return text

    def _verdict(self, event: Event) -> str:
        key = (
            event.decision,
            event.errno,
            event.rules,
            event.kind,
            event.io,
            event.view,
            event.would_deny,
            event.would_allow,
            event.policy_generation,
            event.policy_digest,
        )
        text = self._verdicts.get(key)
        if text is None:
            text = _verdict_text(event)
            _remember(self._verdicts, key, text)
        return text


def _remember(memo: dict[tuple[object, ...], str], key: tuple[object, ...], text: str) -> None:
    if len(memo) >= _MEMO_LIMIT:
        memo.clear()
    memo[key] = text


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
            parts.append(f',"{name}":{quote(value)}')
    parts.append(f',"generation":{event.policy_generation},"policy":{quote(event.policy_digest)}')
    return "".join(parts)


def _details(event: Event) -> str:
    """The fields that most events lack: only those that are set appear in the line."""
    parts: list[str] = []
    if event.redacted:
        ranges = ",".join(f"[{offset},{length}]" for offset, length in event.redacted[:RANGES_LIMIT])
        parts.append(f',"redacted":[{ranges}]')
        if len(event.redacted) > RANGES_LIMIT:
            parts.append(f',"redacted_ranges":{len(event.redacted)}')
            parts.append(f',"redacted_bytes":{sum(length for _, length in event.redacted)}')
    if event.handle is not None:
        parts.append(f',"handle":{event.handle}')
    for name, value in (
        ("bytes_read", event.bytes_read),
        ("bytes_written", event.bytes_written),
        ("size_before", event.size_before),
        ("size_after", event.size_after),
        ("mtime_before_ns", event.mtime_before_ns),
        ("mtime_after_ns", event.mtime_after_ns),
    ):
        if value is not None:
            parts.append(f',"{name}":{value}')
    if event.note:
        parts.append(f',"note":{quote(event.note)}')
    if event.repeats:
        parts.append(f',"repeats":{event.repeats}')
    if event.since_ns is not None:
        parts.append(f',"since":"{iso_time(event.since_ns)}"')
    return "".join(parts)

"""Bounds of an event: limits of its texts, lists and paths, so that no app can make a line too long (pure).

An event within the bounds is recorded exactly. A path that is too long is recorded as its beginning (head), a
mark, its end (tail), its length and its digest. So two different paths always have different records. Lists
and texts that are too long are cut, and the number of omitted rules and ranges is recorded.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Final

from policyfs.trail.lines.event import Cut, Event
from policyfs.trail.lines.line import RANGES_LIMIT, is_plain

PATH_BYTES: Final = 1024
"""Paths up to this length in bytes are recorded exactly."""

HEAD_BYTES: Final = 704
TAIL_BYTES: Final = 256
"""The limits, in bytes, of the recorded beginning and end of a longer path, each cut at a slash if it has
one. Even a last name of 255 bytes fits into the tail."""

MARK: Final = "\u2026".encode()
"""The mark between beginning and end of a long path; after a slash if it was cut between two names."""

TEXT_CHARS: Final = 1024
"""The limit of characters of an event's fields `exe` and `note`."""

RECORD_BYTES: Final = 44 * 1024
"""The limit of bytes of a record about the journal itself, without number, time and digest of its line."""

RULES_CHARS: Final = 2048
"""The limit of characters of all ids in an event's list `rules`; `would_deny` and `would_allow` have half."""


def cut_path(path: bytes) -> tuple[bytes, Cut | None]:
    """Return the path as it is recorded, and a Cut (lengths and digest) if it is longer than PATH_BYTES."""
    if len(path) <= PATH_BYTES:
        return path, None
    end = path.rfind(b"/", 1, HEAD_BYTES + 1)
    head, mark = (path[:end], b"/" + MARK) if end > 0 else (path[:HEAD_BYTES], MARK)
    begin = path.find(b"/", len(path) - TAIL_BYTES)
    tail = path[begin:] if begin >= 0 else path[-TAIL_BYTES:]
    return head + mark + tail, Cut(len(head), len(tail), len(path), hashlib.sha256(path).hexdigest())


def cut_text(text: str, chars: int = TEXT_CHARS) -> str:
    """Return the text. If it has more than *chars* characters, return only its beginning and its end."""
    if len(text) <= chars:
        return text
    half = chars // 2 - 1
    return f"{text[:half]}\u2026{text[-half:]}"


def bounded_fields(fields: dict[str, object]) -> dict[str, object]:
    """Return the fields of a record about the journal itself, cut to one line: first the texts in long
    fields; then each long field becomes a text, the beginning and the end of its JSON."""
    share = RECORD_BYTES // max(1, len(fields)) // 3  # a quotation mark in JSON takes two bytes in a line
    whole = {name: value for name, value in fields.items() if len(json.dumps(value)) <= share}
    for chars in (TEXT_CHARS, TEXT_CHARS // 8, TEXT_CHARS // 64):
        if len(json.dumps(fields)) <= RECORD_BYTES:
            return fields
        fields = {name: _cut_value(value, chars) for name, value in fields.items()} | whole
    if len(json.dumps(fields)) <= RECORD_BYTES:
        return fields
    return {name: cut_text(json.dumps(value), share - len(name)) for name, value in fields.items()} | whole


def _cut_value(value: object, chars: int) -> object:
    if isinstance(value, str):
        return cut_text(value, chars)
    if isinstance(value, dict):
        return {name: _cut_value(part, chars) for name, part in value.items()}
    return value


def _cut_ids(ids: tuple[str, ...], room: int) -> tuple[str, ...]:
    kept = 0
    for name in ids:
        room -= len(name) + 3
        if room < 0:
            break
        kept += 1
    return ids[:kept]


def bounded(event: Event) -> Event:
    """Return the event itself if its texts, lists and paths are short enough, else a copy with cut fields."""
    if (
        len(event.path) <= PATH_BYTES
        and (event.new_path is None or len(event.new_path) <= PATH_BYTES)
        and len(event.exe) <= TEXT_CHARS
        and len(event.note) <= TEXT_CHARS
        and len(event.redacted) <= RANGES_LIMIT
        and _chars(event.rules) <= RULES_CHARS
        and _chars(event.would_deny) <= RULES_CHARS // 2
        and _chars(event.would_allow) <= RULES_CHARS // 2
    ):
        return event
    return _bound(event)


@functools.lru_cache(maxsize=512)  # many events have the same rules
def _chars(ids: tuple[str, ...]) -> int:
    return sum(len(name) + 3 for name in ids)


def _bound(event: Event) -> Event:
    path, path_cut = cut_path(event.path)
    new_path, new_cut = (None, None) if event.new_path is None else cut_path(event.new_path)
    rules = _cut_ids(event.rules, RULES_CHARS)
    would_deny = _cut_ids(event.would_deny, RULES_CHARS // 2)
    would_allow = _cut_ids(event.would_allow, RULES_CHARS // 2)
    left_out = sum(map(len, (event.rules, event.would_deny, event.would_allow)))
    left_out -= len(rules) + len(would_deny) + len(would_allow)
    event = event._replace(
        path=path,
        path_cut=path_cut or event.path_cut,
        new_path=new_path,
        new_path_cut=new_cut or event.new_path_cut,
        exe=cut_text(event.exe),
        note=cut_text(event.note),
        rules=rules,
        would_deny=would_deny,
        would_allow=would_allow,
        rules_left_out=event.rules_left_out + left_out,
    )
    if len(event.redacted) <= RANGES_LIMIT:
        return event
    return event._replace(
        redacted=event.redacted[:RANGES_LIMIT],
        redacted_ranges=len(event.redacted),
        redacted_bytes=sum(length for _, length in event.redacted),
    )


_EVENT_MEMORY: Final = 1024
_RANGE_MEMORY: Final = 136
"""The memory in bytes, rounded up: of an event without its texts, and of one redacted range."""


def memory_bytes(event: Event) -> int:
    """Return an upper bound of an event's memory, in bytes. event: a result of bounded()."""
    size = _EVENT_MEMORY + len(event.path) + 4 * (len(event.exe) + len(event.note))
    if event.new_path is not None:
        size += len(event.new_path)
    return size + _RANGE_MEMORY * len(event.redacted)


_TEXTS: Final = 512
"""The texts whose length as JSON is remembered: at most a few hundred KiB."""
_LINE_FIXED: Final = 480
"""The bytes of the names of fields, the times and the digests in every line, rounded up."""
_NUMBER: Final = 40
"""An upper bound of the bytes of a number in a line, with the name of its field."""
_WORST: Final = 12
"""The most bytes that one character of a text takes in a line, as an escape such as ``\\ud83d\\ude00``."""
_WORST_BYTE: Final = 8
"""The same for one byte of a path that is not UTF-8: an escape, and the whole path as base64."""


def line_bytes(event: Event) -> int:
    """Return an upper bound of the bytes of an event's line. event: a result of bounded()."""
    size = _LINE_FIXED + _path_bytes(event.path)
    if event.new_path is not None:
        size += _path_bytes(event.new_path) + 40
    size += _text_bytes(event.mount) + _text_bytes(event.app) + _text_bytes(event.exe)
    size += _text_bytes(event.syscall) + _text_bytes(event.view) + _text_bytes(event.kind or "")
    size += _text_bytes(event.note) + _ids_bytes(event.rules)
    if event.would_deny or event.would_allow:
        size += _ids_bytes(event.would_deny) + _ids_bytes(event.would_allow)
    if event.path_cut:
        size += 160
    if event.new_path_cut:
        size += 160
    numbers = (event.handle, event.bytes_read, event.bytes_written, event.size_before, event.size_after,
               event.mtime_before_ns, event.mtime_after_ns, event.since_ns)  # fmt: skip
    size += _NUMBER * (len(numbers) - numbers.count(None))
    if event.redacted:
        size += 20 + 2 * _NUMBER * bool(event.redacted_ranges)
        size += sum(len(f"{offset}{length}") + 4 for offset, length in event.redacted)
    return size


# The texts of events repeat: names of apps, programs and rules.


@functools.lru_cache(maxsize=_TEXTS)
def _text_bytes(text: str) -> int:
    if text.isascii() and text.isprintable():
        return len(text) + text.count("\\") + text.count('"') + 3
    return _WORST * len(text) + 3


@functools.lru_cache(maxsize=_TEXTS)
def _ids_bytes(ids: tuple[str, ...]) -> int:
    return sum(map(_text_bytes, ids))


def _path_bytes(path: bytes) -> int:
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return _WORST_BYTE * len(path) + 20
    if is_plain(text):
        return len(path) + text.count("\\") + text.count('"')
    return _WORST * len(text)

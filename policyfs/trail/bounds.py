"""Bounds of an event: its line and its memory stay small for any name that an app chooses (pure).

An event within the bounds is recorded exactly. A longer path is recorded as its head, a mark and its tail,
with its length and its digest. So two different paths always have different records, and the head is a real
directory above the path. Lists and texts that are too long are cut. The number of omitted items is recorded.
"""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Final

from policyfs.trail.event import Cut, Event
from policyfs.trail.line import RANGES_LIMIT, is_plain

PATH_BYTES: Final = 1024
"""Paths up to this length are recorded exactly."""

HEAD_BYTES: Final = 704
TAIL_BYTES: Final = 256
"""The limit of bytes of the head, and of the tail, of a longer path. A name of 255 bytes fits.

Head and tail are cut at a slash if they have one."""

MARK: Final = "\u2026".encode()
"""The mark between head and tail: ``/…`` for omitted segments, ``…`` within a segment."""

TEXT_CHARS: Final = 1024
"""The limit of characters of `exe` and `note`."""

RECORD_BYTES: Final = 44 * 1024
"""The limit of bytes of a record that is not an event, without the number, time and digest in its line."""

RULES_CHARS: Final = 2048
"""The limit of characters of all ids of the deciding rules together.

Each other list of rules has half of this limit."""


def cut_path(path: bytes) -> tuple[bytes, Cut | None]:
    """Return the path in the recorded form, and a Cut if the path was longer than PATH_BYTES."""
    if len(path) <= PATH_BYTES:
        return path, None
    end = path.rfind(b"/", 1, HEAD_BYTES + 1)
    head, mark = (path[:end], b"/" + MARK) if end > 0 else (path[:HEAD_BYTES], MARK)
    begin = path.find(b"/", len(path) - TAIL_BYTES)
    tail = path[begin:] if begin >= 0 else path[-TAIL_BYTES:]
    return head + mark + tail, Cut(len(head), len(tail), len(path), hashlib.sha256(path).hexdigest())


def cut_text(text: str, chars: int = TEXT_CHARS) -> str:
    """Return the text, or its beginning and its end if it has more than *chars* characters."""
    if len(text) <= chars:
        return text
    half = chars // 2 - 1
    return f"{text[:half]}\u2026{text[-half:]}"


def bounded_fields(fields: dict[str, object]) -> dict[str, object]:
    """Return the fields of a record that is not an event. Cut long fields, so that its line is not too long.

    First the texts in long fields are cut. If the line is still too long, only the beginning and the end of
    the JSON of these fields stay.
    """
    share = RECORD_BYTES // max(1, len(fields)) // 3  # a quote of JSON in JSON takes two bytes
    whole = {name: value for name, value in fields.items() if len(json.dumps(value)) <= share}
    for chars in (TEXT_CHARS, TEXT_CHARS // 8, TEXT_CHARS // 64):
        if len(json.dumps(fields)) <= RECORD_BYTES:
            return fields
        fields = {name: _cut_value(value, chars) for name, value in fields.items()} | whole
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
    """Return the event itself if it is within the bounds. Otherwise return a cut copy of it."""
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


@functools.lru_cache(maxsize=512)  # the ids of events repeat
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
"""The memory of an event with its numbers, and of one range, in bytes: sys.getsizeof, rounded up."""


def memory_bytes(event: Event) -> int:
    """Return an upper bound of a bounded event's memory, in bytes."""
    size = _EVENT_MEMORY + len(event.path) + 4 * (len(event.exe) + len(event.note))
    if event.new_path is not None:
        size += len(event.new_path)
    return size + _RANGE_MEMORY * len(event.redacted)


_TEXTS: Final = 512
"""The limit of texts for which the length as JSON is remembered.

They take at most a few hundred KiB, because texts are bounded.
"""
_LINE_FIXED: Final = 480
"""The bytes of the keys, times and digests in every line, rounded up."""
_NUMBER: Final = 40
"""The bytes of a number and its key."""
_WORST: Final = 12
"""The most bytes that one character takes in a line: an escape of two surrogates."""
_WORST_BYTE: Final = 8
"""The most bytes that one byte of a path that is not UTF-8 takes in a line.

These are its escape and its share of the base64 text.
"""


def line_bytes(event: Event) -> int:
    """Return an upper bound of the bytes of a bounded event's line. Most lines are a bit shorter."""
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

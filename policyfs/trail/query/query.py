"""Parsers of times and path globs that people type, and a merge of several hash chains by time (pure)."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from policyfs.trail.lines.bounds import PATH_BYTES
from policyfs.trail.lines.record import BadLine, Record

_SPAN: Final = re.compile(r"(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")
_SPAN_UNITS: Final = ("weeks", "days", "hours", "minutes", "seconds")

_CHAR: Final = (
    rb"(?>[\x00-\x2e\x30-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}"
    rb"|\xf4[\x80-\x8f][\x80-\xbf]{2}|[\x80-\xff])"
)
"""A pattern for one UTF-8 character but the slash, or one byte that is not UTF-8; never for a part of one."""


def parse_when(text: str, now: datetime, zone: tzinfo | None = None) -> int:
    """Parse a time that a person typed. Return ns since 1970. Raises ValueError with a message for people.

    Forms: ``10m``, ``2h``, ``1d12h``, ``3w`` (ago), ``now``, ``today``, ``yesterday`` (first moment), ISO
    8601 such as ``2026-03-01``, ``2026-03-01T08:15``, ``...Z``, ``...+01:00``, and ``@SECONDS`` since 1970.
    now: with a zone. zone: of days, and of times without a zone (None: the machine's).
    """
    word = text.strip()
    try:
        if word == "now":
            return _ns(now)
        if word in {"today", "yesterday"}:
            day = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
            return _ns(_in_zone(day - timedelta(days=word == "yesterday"), zone))
        if word.startswith("@") and word[1:].isdecimal():
            return _ns(datetime.fromtimestamp(int(word[1:]), UTC))
        span = _SPAN.fullmatch(word)
        if word and span is not None:
            amounts = zip(_SPAN_UNITS, span.groups(), strict=True)
            return _ns(now - timedelta(**{unit: int(n) for unit, n in amounts if n}))
        moment = datetime.fromisoformat(word)
        return _ns(moment if moment.tzinfo else _in_zone(moment, zone))
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{text!r} is not a time: write 10m, 2h, 1d, today, yesterday, "
            "2026-03-01, 2026-03-01T08:15 or @1772352000"
        ) from None


def _in_zone(moment: datetime, zone: tzinfo | None) -> datetime:
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


def _ns(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def compile_glob(text: str) -> re.Pattern[bytes]:
    """Compile a path glob of the policy language to a pattern for whole paths (bytes).

    The syntax: ``*`` and ``?`` within one name of the path, ``**`` for any number of names, ``/P/***`` for
    /P and all below, ``{a,b}`` for a or b, ``\\`` to quote. A glob that does not begin with a slash matches
    at any depth. Raises ValueError with a message for people.
    """
    if not text.startswith("/"):
        text = "/**/" + text
    if len(text) > 1 and text.endswith("/"):
        raise ValueError(f"glob {text!r} ends in a slash: write {text}*** for all below as well")
    if text.endswith("/***"):
        return re.compile(_segments(text[:-4]) + b"(?:/.*)?", re.DOTALL)
    return re.compile(_segments(text), re.DOTALL)


def literal_digest(text: str) -> str:
    """Return the SHA-256 (hex) of a glob that is one path without wildcards, too long to be recorded whole;
    else ""."""
    path = re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL).encode("utf-8", "surrogateescape")
    if not text.startswith("/") or re.search(r"(?<!\\)(?:\\\\)*[*?{]", text) or len(path) <= PATH_BYTES:
        return ""
    return hashlib.sha256(path).hexdigest()


def _segments(text: str) -> bytes:
    if text == "/":
        return b"/"
    parts = text.split("/")[1:] if text else []
    out = b""
    for index, part in enumerate(parts):
        if part == "**":
            out += b"(?:/[^/]+)+" if index == len(parts) - 1 else b"(?:/[^/]+)*"
        elif "**" in part:
            raise ValueError(f"glob {text!r}: ** must stand alone between two slashes, and *** at the end")
        else:
            out += b"/" + _segment(part, text)
    return out


def _segment(part: str, whole: str) -> bytes:
    out, depth, index = b"", 0, 0
    many = _CHAR + b"*" if "?" in part else rb"[^/]*"  # a * before a ? must not end within a character
    while index < len(part):
        char = part[index]
        if char == "\\":
            index += 1
            if index == len(part):
                raise ValueError(f"glob {whole!r} ends in a backslash")
            out += re.escape(part[index].encode("utf-8", "surrogateescape"))
        elif char == "*":
            out += many
        elif char == "?":
            out += _CHAR
        elif char == "{":
            depth += 1
            out += b"(?:"
        elif char == "}" and depth:
            depth -= 1
            out += b")"
        elif char == "," and depth:
            out += b"|"
        elif char == "[":
            raise ValueError(f"glob {whole!r}: write \\[ for a bracket, {{a,b}} for alternatives")
        else:
            out += re.escape(char.encode("utf-8", "surrogateescape"))
        index += 1
    if depth:
        raise ValueError(f"glob {whole!r} has a brace without its closing brace")
    return out


def merge(streams: Iterable[Iterable[Record | BadLine]]) -> Iterator[Record | BadLine]:
    """Yield the parsed lines of several hash chains by time. Those of one chain keep their order, even if a
    time goes back."""
    keyed = [_with_time(index, stream) for index, stream in enumerate(streams)]
    for _, _, _, item in heapq.merge(*keyed, key=lambda entry: entry[:3]):
        yield item


def _with_time(
    index: int, stream: Iterable[Record | BadLine]
) -> Iterator[tuple[int, int, int, Record | BadLine]]:
    latest_ns = 0
    for order, item in enumerate(stream):
        if isinstance(item, Record):
            latest_ns = max(latest_ns, item.time_ns)
        yield latest_ns, index, order, item

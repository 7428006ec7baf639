"""Queries of a trail: which records, of which time, in which order (pure)."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from policyfs.trail.bounds import PATH_BYTES
from policyfs.trail.event import Cut, Event
from policyfs.trail.line import iso_time, quote
from policyfs.trail.record import BadLine, Record

_SPAN: Final = re.compile(r"(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")
_SPAN_UNITS: Final = ("weeks", "days", "hours", "minutes", "seconds")
_HEAD: Final = re.compile(rb'\{"type":"event","seq":\d+,"time":"([0-9T:.Z-]{30})"')

_CHAR: Final = (
    rb"(?:[\x00-\x2e\x30-\x7f]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}"
    rb"|[\xf0-\xf4][\x80-\xbf]{3}|[\x80-\xff])"
)
"""One UTF-8 character, or one byte that is none; never a slash."""


def parse_when(text: str, now: datetime, zone: tzinfo | None = None) -> int:
    """Parse a time as people write it, as ns since 1970.

    ``10m``, ``2h``, ``1d12h``, ``3w``: that long before now. ``now``, ``today``,
    ``yesterday``: the day's first moment. ISO 8601 (``2026-03-01``, ``2026-03-01T08:15``,
    ``...Z``, ``...+01:00``). ``@SECONDS``: since 1970. now must have a time zone. zone is the
    one for days and for times without one, None for the machine's. Raises ValueError with a
    message for people.
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
            f"{text!r} is no time: write 10m, 2h, 1d, today, yesterday, "
            "2026-03-01, 2026-03-01T08:15 or @1772352000"
        ) from None


def _in_zone(moment: datetime, zone: tzinfo | None) -> datetime:
    return moment.astimezone() if zone is None else moment.replace(tzinfo=zone)


def _ns(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def compile_glob(text: str) -> re.Pattern[bytes]:
    """Compile a path glob of the policy language to a pattern over whole paths (bytes).

    ``*`` and ``?`` within a segment, ``**`` as a whole segment, ``/P/***`` for /P and all below,
    ``{a,b}``, ``\\`` to quote. A glob that does not begin with a slash holds at any depth.
    Raises ValueError with a message for people.
    """
    if not text.startswith("/"):
        text = "/**/" + text
    if len(text) > 1 and text.endswith("/"):
        raise ValueError(f"glob {text!r} ends in a slash: write {text}*** for all below as well")
    if text.endswith("/***"):
        return re.compile(_segments(text[:-4]) + b"(?:/.*)?", re.DOTALL)
    return re.compile(_segments(text), re.DOTALL)


def literal_digest(text: str) -> str:
    """Return the sha256 (hex) of a glob's path, if it stands for a single path that is too long to be
    recorded whole; else empty.
    """
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
            raise ValueError(f"glob {text!r}: ** stands only as a whole segment, *** only at the end")
        else:
            out += b"/" + _segment(part, text)
    return out


def _segment(part: str, whole: str) -> bytes:
    out, depth, index = b"", 0, 0
    while index < len(part):
        char = part[index]
        if char == "\\":
            index += 1
            if index == len(part):
                raise ValueError(f"glob {whole!r} ends in a backslash")
            out += re.escape(part[index].encode("utf-8", "surrogateescape"))
        elif char == "*":
            out += rb"[^/]*"
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
        raise ValueError(f"glob {whole!r} has an open brace")
    return out


@dataclass(frozen=True, slots=True)
class Filter:
    """A selection of events; an empty set and None select all.

    since_ns is inclusive, until_ns exclusive (ns since 1970). rules: any of them decided, or
    would have. path: a pattern from `compile_glob`, over either path of the request. A path that was
    cut is matched as recorded, with ``…`` for its omitted part. path_sha256: the
    digest of a path that was cut, from `literal_digest`; an event with this digest matches, too.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    apps: frozenset[str] = frozenset()
    uids: frozenset[int] = frozenset()
    operations: frozenset[str] = frozenset()
    decisions: frozenset[str] = frozenset()
    rules: frozenset[str] = frozenset()
    path: re.Pattern[bytes] | None = None
    path_sha256: str = ""

    def covers(self, time_ns: int) -> bool:
        """True if the time lies in the selected period."""
        if self.since_ns is not None and time_ns < self.since_ns:
            return False
        return self.until_ns is None or time_ns < self.until_ns

    def matches(self, event: Event) -> bool:
        """True if the event is selected."""
        return (
            self.covers(event.time_ns)
            and (not self.apps or event.app in self.apps)
            and (not self.uids or event.uid in self.uids)
            and (not self.operations or event.operation in self.operations)
            and (not self.decisions or event.decision in self.decisions)
            and (not self.rules or self._names_rule(event))
            and (self.path is None or self._on_path(event))
        )

    def _names_rule(self, event: Event) -> bool:
        return not self.rules.isdisjoint((*event.rules, *event.would_deny, *event.would_allow))

    def _on_path(self, event: Event) -> bool:
        if self.path is None or self.path.fullmatch(event.path):
            return True
        if self.path_sha256 and self.path_sha256 in map(_sha256, (event.path_cut, event.new_path_cut)):
            return True
        return event.new_path is not None and self.path.fullmatch(event.new_path) is not None


def _sha256(cut: Cut | None) -> str:
    return "" if cut is None else cut.sha256


class Prefilter:
    """Refuses most lines that a filter will refuse by their bytes, ten times faster than parsing.

    It never refuses a line, as policyfs writes them, that the filter accepts.
    """

    def __init__(self, wanted: Filter) -> None:
        self._since = _time_bytes(wanted.since_ns)
        self._until = _time_bytes(wanted.until_ns)
        self._groups = [
            tuple(sorted(f'"{name}":{text}'.encode() for text in texts))
            for name, texts in (
                ("app", [quote(app) for app in wanted.apps]),
                ("uid", [f"{uid}," for uid in wanted.uids]),
                ("operation", [quote(operation) for operation in wanted.operations]),
                ("decision", [quote(decision) for decision in wanted.decisions]),
            )
            if texts
        ]

    def may_match(self, raw: bytes) -> bool:
        """False if this line is an event that the filter refuses; True if it must be parsed."""
        head = _HEAD.match(raw)
        if head is None:
            return True
        if self._since is not None and head[1] < self._since:
            return False
        if self._until is not None and head[1] >= self._until:
            return False
        return all(any(text in raw for text in group) for group in self._groups)


def _time_bytes(time_ns: int | None) -> bytes | None:
    if time_ns is None:
        return None
    return iso_time(time_ns).encode()


def merge(streams: Iterable[Iterable[Record | BadLine]]) -> Iterator[Record | BadLine]:
    """Merge several chains by time; lines of one chain keep their order whatever its clock did."""
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

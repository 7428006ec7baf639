"""The fields of the query language, and the functions that test events for a query's conditions (pure)."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final, NamedTuple

from policyfs.errors import errno_name
from policyfs.trail.lines.event import DECISIONS, Cut, Event
from policyfs.trail.query.expression import And, Expression, Not, Term, Value
from policyfs.trail.query.parser import QueryError, similar
from policyfs.trail.query.query import compile_glob, literal_digest, parse_when

Test = Callable[[Event], bool]
Texts = Callable[[Event], Iterable[str]]
Number = Callable[[Event], int | None]

_NUMBER: Final = re.compile(r"(\d{1,18})(\.\d{1,6})?([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_NONE: Final = "none"
ERRNOS: Final = frozenset(errno.errorcode.values())


class Column(NamedTuple):
    """One field of the query language, such as ``app``. kind: word, number, path, text or time. texts,
    number: return its values in an event. by_row: False if an index stores it once for a class of events.
    known: all words, if there are few. absent: the word that finds events without it, such as ``none``.
    aliases: other names."""

    name: str
    kind: str
    meaning: str
    texts: Texts | None = None
    number: Number | None = None
    by_row: bool = False
    known: tuple[str, ...] = ()
    absent: str = ""
    aliases: tuple[str, ...] = ()


def size_of(event: Event) -> int | None:
    """Return a recorded size of the event's file in bytes: after the request, else before it, else None."""
    return event.size_before if event.size_after is None else event.size_after


def hidden_of(event: Event) -> int | None:
    """Return the number of bytes that an event hides (the app reads neutral bytes instead), or None."""
    if not event.redacted:
        return None
    return event.redacted_bytes or sum(length for _, length in event.redacted)


def reason_of(event: Event) -> str:
    """Return a text with errno, rules, view and note of an event, for conditions on ``reason``."""
    words = [errno_name(event.errno)] if event.errno else []
    return " ".join([*words, *event.rules, *event.would_deny, event.view, event.note])


def _exe(event: Event) -> Iterable[str]:
    return event.exe, event.exe.rpartition("/")[2]


def _syscall(event: Event) -> Iterable[str]:
    return event.syscall, event.syscall.partition("(")[0]


COLUMNS: Final = (
    Column("app", "word", "the app's name, or `stranger`", lambda e: (e.app,)),
    Column("uid", "number", "the caller's uid", number=lambda e: e.uid),
    Column("gid", "number", "the caller's gid", number=lambda e: e.gid),
    Column("pid", "number", "the caller's pid", number=lambda e: e.pid, by_row=True),
    Column("exe", "word", "the executable: its whole path, or its last name", _exe),
    Column("op", "word", "the operation: `open`, `rename`, ...", lambda e: (e.operation,),
           aliases=("operation",)),
    Column("syscall", "word", "the system call, with or without its flags", _syscall),
    Column("path", "path", "a glob as in policies, for the old or the new path; without a leading `/`, the "
           "glob matches at any depth", by_row=True),
    Column("decision", "word", "`allow`, `deny` or `would_deny`", lambda e: (e.decision,), known=DECISIONS),
    Column("errno", "word", "the caller's error: `EACCES`, ...; `none` for success",
           lambda e: (errno_name(e.errno) if e.errno else _NONE,), known=(*sorted(ERRNOS), _NONE),
           absent=_NONE),
    Column("rule", "word", "a rule that decided, or would have decided",
           lambda e: (*e.rules, *e.would_deny, *e.would_allow), aliases=("rules",)),
    Column("kind", "word", "the content kind: `image/jpeg`, `video/*`", lambda e: (e.kind or _NONE,),
           absent=_NONE),
    Column("io", "word", "how the app gets the bytes: `passthrough` or `mediated`",
           lambda e: (e.io or _NONE,), absent=_NONE),
    Column("view", "word", "the app's view", lambda e: (e.view or _NONE,), absent=_NONE),
    Column("mount", "word", "the mountpoint", lambda e: (e.mount,)),
    Column("policy", "word", "the digest of the policy, or the first digits", lambda e: (e.policy_digest,)),
    Column("generation", "number", "the number of policy loads so far", number=lambda e: e.policy_generation),
    Column("reason", "text", "a part of errno, rules, view and note, in any case", lambda e: (reason_of(e),)),
    Column("size", "number", "the file's size after the request if recorded, else the size before",
           number=size_of, by_row=True),
    Column("bytes_read", "number", "bytes read through the daemon", number=lambda e: e.bytes_read,
           by_row=True),
    Column("bytes_written", "number", "bytes written through the daemon", number=lambda e: e.bytes_written,
           by_row=True),
    Column("hidden", "number", "bytes that the app reads as neutral bytes", number=hidden_of, by_row=True),
    Column("repeats", "number", "the number of requests that a record counts",
           number=lambda e: e.repeats or None, by_row=True),
    Column("handle", "number", "the number of an open and its release", number=lambda e: e.handle,
           by_row=True),
    Column("since", "time", "from this time on", by_row=True),
    Column("until", "time", "before this time", by_row=True),
)  # fmt: skip
BY_NAME: Final = {column.name: column for column in COLUMNS}
NAMES: Final = {name: column.name for column in COLUMNS for name in (column.name, *column.aliases)}
NUMERIC: Final = frozenset(column.name for column in COLUMNS if column.kind == "number")
RECORDED: Final = ("app", "op", "rule")
"""Fields in which a command finds typing errors: the trail or its policies should have a query's words."""
OFTEN_ABSENT: Final = frozenset({"kind", "view", "io", "size", "bytes_read", "bytes_written"})
"""Fields that the daemon records only if it knows them. A query on such a field may miss events."""


def absence(field: str) -> Expression:
    """Return the condition of a query that finds the events without *field*, one of OFTEN_ABSENT."""
    if BY_NAME[field].absent:
        return Term(field, (Value(BY_NAME[field].absent),))
    return Not(Term(field, (Value("0"), Value("")), ".."))


@dataclass(frozen=True, slots=True)
class Clock:
    """The present time, and the time zone of times in a query (None: the machine's zone)."""

    now: datetime
    zone: tzinfo | None = None


class Paths:
    """A test if a glob matches a path of an event; of a path too long to be recorded whole, by the digest."""

    __slots__ = ("pattern", "sha256")

    def __init__(self, glob: str) -> None:
        self.pattern = compile_glob(glob)
        self.sha256 = literal_digest(glob)

    def __call__(self, event: Event) -> bool:
        if self.pattern.fullmatch(event.path) is not None:
            return True
        if self.sha256 and self.sha256 in map(_sha256, (event.path_cut, event.new_path_cut)):
            return True
        return event.new_path is not None and self.pattern.fullmatch(event.new_path) is not None


def _sha256(cut: Cut | None) -> str:
    return "" if cut is None else cut.sha256


class Bounds(NamedTuple):
    """A range of numbers from low to high, both included. None: no limit."""

    low: int | None
    high: int | None

    def holds(self, number: int | None) -> bool:
        """Return True if *number* is in the range; False for None."""
        if number is None or (self.low is not None and number < self.low):
            return False
        return self.high is None or number <= self.high


def compile_term(term: Term, clock: Clock, text: str = "") -> Test:
    """Return a test of an event for one condition. text: the query, for errors. Raises QueryError."""
    column = BY_NAME[term.field]
    if column.kind == "path":
        globs = path_tests(term, text)
        return globs[0] if len(globs) == 1 else lambda event: any(glob(event) for glob in globs)
    if column.kind == "time":
        time_ns = moment(term, clock, text)
        if term.field == "since":
            return lambda event: event.time_ns >= time_ns
        return lambda event: event.time_ns < time_ns
    if column.number is not None:
        number, bounds = column.number, number_bounds(term, text)
        return lambda event: any(bound.holds(number(event)) for bound in bounds)
    return _text_test(column, column.texts or (lambda _: ()), term, text)


def path_tests(term: Term, text: str = "") -> list[Paths]:
    """Return a test of an event's paths for each glob in a condition of a query. Raises QueryError."""
    found = []
    for value in term.values:
        try:
            found.append(Paths(value.text))
        except (ValueError, re.error) as exc:
            raise QueryError(str(exc), text, value.at) from exc
    return found


def moment(term: Term, clock: Clock, text: str = "") -> int:
    """Return the time in a condition on ``since`` or ``until``, in ns since 1970. Raises QueryError."""
    if len(term.values) > 1:
        raise QueryError(f"give {term.field} a single time, not a list", text, term.values[1].at)
    try:
        return parse_when(term.values[0].text, clock.now, clock.zone)
    except ValueError as exc:
        raise QueryError(str(exc), text, term.values[0].at) from exc


def number_bounds(term: Term, text: str = "") -> list[Bounds]:
    """Return the ranges of numbers in a query's condition, such as ``size:>1M``. Raises QueryError."""
    if term.relation == "..":
        low, high = (_number(value, text) if value.text else None for value in term.values)
        if low is not None and high is not None and low > high:
            raise QueryError("this range holds nothing: write the smaller number first", text, term.at)
        return [Bounds(low, high)]
    numbers = [_number(value, text) for value in term.values]
    if term.relation == "=":
        return [Bounds(number, number) for number in numbers]
    number = numbers[0] + {">": 1, "<": -1}.get(term.relation, 0)
    return [Bounds(number, None) if term.relation[0] == ">" else Bounds(None, number)]


def _number(value: Value, text: str) -> int:
    match = _NUMBER.fullmatch(value.text)
    if match is None or (match[2] and not match[3]):
        raise QueryError(f"{value.text!r} is not a number: write 10, 64k, 1.5M or 2G", text, value.at)
    unit = _UNITS[match[3].lower()]
    return int(match[1]) * unit + (int(float(match[2]) * unit) if match[2] else 0)


def _text_test(column: Column, texts: Texts, term: Term, text: str) -> Test:
    if column.kind == "text":
        parts = [value.text.casefold() for value in term.values]
        return lambda event: any(part in one.casefold() for one in texts(event) for part in parts)
    if column.known:
        _check_known(column, term, text)
    exact = frozenset(plain(value) for value in term.values if not is_pattern(value))
    patterns = [value.text for value in term.values if is_pattern(value)]
    if column.name == "policy":
        patterns += [one + "*" for one in exact]
    compiled = [_compiled(column, part) for one in patterns for part in _parts(one)]
    if not compiled:
        return lambda event: not exact.isdisjoint(texts(event))
    return lambda event: any(
        one in exact or any(pattern.fullmatch(one) for pattern in compiled) for one in texts(event)
    )


def _parts(glob: str) -> list[str]:
    whole = re.fullmatch(r"\{([^{}\\]*)\}", glob)
    return whole[1].split(",") if whole else [glob]


def _compiled(column: Column, glob: str) -> re.Pattern[str]:
    """Return a pattern for a glob on *column*. ``*`` and ``?`` stand for characters of a value, so they do
    not match the word for an absent field."""
    is_open = re.search(r"(?<!\\)(?:\\\\)*[*?]", glob) is not None
    without = rf"(?!{column.absent}\Z)" if is_open and column.absent else ""
    return re.compile(without + _pattern(glob), re.DOTALL)


def _pattern(glob: str) -> str:
    """Return a regular expression for a glob for words. Globs have ``*``, ``?``, ``{a,b}`` and backslash."""
    out = []
    for part in re.findall(r"\\.|\{[^{}]*\}|[*?]|.", glob, re.DOTALL):
        if part[0] == "\\" and len(part) == 2:
            out.append(re.escape(part[1]))
        elif part[0] == "{" and len(part) > 1:
            out.append("(?:" + "|".join(map(_pattern, part[1:-1].split(","))) + ")")
        else:
            out.append({"*": ".*", "?": "."}.get(part, re.escape(part)))
    return "".join(out)


def is_pattern(value: Value) -> bool:
    """Return True if a value in a query has wildcards, so that it may match several words."""
    return not value.literal and re.search(r"(?<!\\)(?:\\\\)*[*?{]", value.text) is not None


def plain(value: Value) -> str:
    """Return the word that a value of a query means. value: without wildcards. Backslashes are removed."""
    return value.text if value.literal else re.sub(r"\\(.)", r"\1", value.text, flags=re.DOTALL)


def _check_known(column: Column, term: Term, text: str) -> None:
    lower = {word.lower(): word for word in column.known}
    for value in term.values:
        if is_pattern(value):
            hit = any(map(_compiled(column, value.text).fullmatch, column.known))
        else:
            hit = plain(value) in column.known
        if not hit:
            meant = lower.get(value.text.lower())
            hint = f"write {meant}" if meant else similar(value.text, list(column.known))
            raise QueryError(f"there is no {column.name} {value.text!r}: {hint}", text, value.at)


def compile_tree(tree: Expression, clock: Clock, text: str = "") -> Test:
    """Return a test whether an event matches a query. text: the query, for errors. Raises QueryError."""
    if isinstance(tree, Term):
        return compile_term(tree, clock, text)
    if isinstance(tree, Not):
        inner = compile_tree(tree.part, clock, text)
        return lambda event: not inner(event)
    parts = [compile_tree(part, clock, text) for part in tree.parts]
    if len(parts) == 1:
        return parts[0]
    if isinstance(tree, And):
        return lambda event: all(part(event) for part in parts)
    return lambda event: any(part(event) for part in parts)

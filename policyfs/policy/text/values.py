"""The values that the keys of a policy document accept, each checked alone. (resolve.py does the rest.)"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, NoReturn

from pydantic import (
    BeforeValidator,
    PlainValidator,
)
from pydantic_core import PydanticCustomError

from policyfs.domain import REDACTIONS, WORKER_UIDS, Audit, Op
from policyfs.policy.errors import did_you_mean, listed, quote
from policyfs.policy.globs.paths import GlobError, check_glob
from policyfs.policy.model import Modes, UidRange
from policyfs.policy.text.nodes import Absent, Folded, Unquoted

OPERATIONS: Final[Mapping[str, Op]] = {
    "see": Op.SEE,
    "read": Op.READ,
    "write": Op.WRITE,
    "create": Op.CREATE,
    "delete": Op.DELETE,
    "attr": Op.ATTR,
    "all": Op.ALL,
}
ERRNOS: Final[Mapping[str, int]] = {
    "ENOENT": errno.ENOENT,
    "EACCES": errno.EACCES,
    "EPERM": errno.EPERM,
    "EROFS": errno.EROFS,
}
MODES: Final[Mapping[str, Modes]] = {modes.value: modes for modes in Modes}
AUDITS: Final[Mapping[str, Audit]] = {
    "off": Audit.OFF,
    "best_effort": Audit.BEST_EFFORT,
    "required": Audit.REQUIRED,
}

RESERVED: Final = frozenset({"any", "stranger", "self", "none"})
"""Words that have a special meaning in the place of an app's name."""

MAX_UID: Final = 2**32 - 2
"""The largest uid or gid. The kernel uses 2**32 - 1 for "no id"."""

MOST_CHANGES: Final = 100_000
"""The largest number of changes in a limit: the daemon remembers the counted files, 200 bytes for each."""

_APP_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RANGE: Final = re.compile(r"([0-9]{1,12})-([0-9]{1,12})")
_KIND: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)")
_NEEDS_QUOTES: Final = frozenset("*?[]{}\\")

EXAMPLE_INSTANT: Final = "2030-01-31T18:00:00Z"
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WITHOUT_ZONE: Final = re.compile(rf"{_DATE.pattern}T\d{{2}}:\d{{2}}(?::\d{{2}})?", re.ASCII)
_INSTANT: Final = re.compile(rf"{_WITHOUT_ZONE.pattern}(?:Z|[+-]\d{{2}}:\d{{2}})", re.ASCII)
INSTANT_PATTERN: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})$"
"""A date and time with its zone, for the schema that editors use."""
AGE_PATTERN: Final = "^[1-9][0-9]{0,6}[mhdw]$"
_AGE: Final = re.compile(r"([1-9][0-9]{0,6})([mhdw])", re.ASCII)
_UNITS_S: Final[Mapping[str, int]] = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_S: Final = 3650 * 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_ASKED_FOR: Final[Mapping[str, str]] = {
    "list": "see",
    "stat": "see",
    "lookup": "see",
    "open": "read",
    "exec": "read",
    "execute": "read",
    "append": "write",
    "truncate": "write",
    "modify": "write",
    "mkdir": "create",
    "unlink": "delete",
    "remove": "delete",
    "chmod": "attr",
    "chown": "attr",
}
_MISNAMED: Final[Mapping[str, str]] = {
    "image/jpg": "image/jpeg",
    "image/tif": "image/tiff",
    "image/svg": "image/svg+xml",
    "audio/mp3": "audio/mpeg",
    "audio/wav": "audio/x-wav",
    "video/mov": "video/quicktime",
    "video/avi": "video/x-msvideo",
    "video/mkv": "video/x-matroska",
    "text/srt": "application/x-subrip",
}
"""Kinds that people write, but libmagic never reports, with the right ones."""


OWNER_IS_AN_APP: Final = (
    "the owner of a file is the app that created it, not a uid: write self (the calling app), none (no app),"
    " or the name of an app"
)
"""The help text for a uid in the place of an ``owner``."""


def refuse(message: str, help_: str, offset: int | None = None) -> NoReturn:
    """Raise an error about a value. offset: the index of the wrong character; None: all of it is wrong."""
    detail: dict[str, object] = {"message": message, "help": help_}
    if offset is not None:
        detail["offset"] = offset
    raise PydanticCustomError("policy", "{message}", detail)


def what(value: object) -> str:
    """Return the name of a value's type in the words of YAML, such as "a list"."""
    if value is Absent.NULL:
        return "no value"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return f"the number {value:g}" if abs(value) < 1e6 else "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"


def text(value: object) -> str:
    """Return the value if it is text. Otherwise raise an error."""
    if isinstance(value, str):
        return str(value)
    if value is Absent.NULL:
        refuse("has no value", "write a value, or remove the key")
    help_ = "put it in quotes" if isinstance(value, int | float) else "write one text here"
    refuse(f"must be text, not {what(value)}", help_)


def _calling_app(value: object) -> str:
    """Check a name in ``app`` of ``who``. A number gets a special error: it is probably a uid."""
    if isinstance(value, int) and not isinstance(value, bool):
        refuse(f"must be the name of an app, not the number {value}", app_for_uid(value))
    return text(value)


def _owning_app(value: object) -> str:
    """Check a name in ``owner``. A number gets a special error: it is probably the uid of a file's owner."""
    if isinstance(value, int) and not isinstance(value, bool):
        refuse(f"must be the name of an app, not the number {value}", OWNER_IS_AN_APP)
    return text(value)


def app_for_uid(uid: object) -> str:
    """Return the help text for a uid in the place of an app's name."""
    return f"write the name of the app that has this uid, or who: {{uid: {uid}}}"


def name(value: object) -> str:
    """Check the name of a set, a path set, a grant or a rule."""
    word = text(value)
    if not _NAME.fullmatch(word):
        help_ = "use at most 100 letters, digits, dots, dashes and underscores; begin with a letter or digit"
        refuse(f"{quote(word)} is not a name", help_)
    return word


def app_name(value: object) -> str:
    """Check the name of an app. Refuse reserved words."""
    word = text(value)
    if word in RESERVED:
        help_ = f"choose another name; reserved are {listed(RESERVED)}"
        refuse(f"{quote(word)} is reserved and cannot name an app", help_)
    if not _APP_NAME.fullmatch(word):
        help_ = (
            "use at most 100 lower-case letters, digits, dots, dashes and underscores;"
            " begin with a letter or digit"
        )
        refuse(f"{quote(word)} is not a name for an app", help_)
    return word


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        refuse(f"must be true or false, not {what(value)}", "write true or false, unquoted")
    return value


def _operation(value: object) -> str:
    word = text(value)
    if word not in OPERATIONS:
        meant = _ASKED_FOR.get(word)
        hint = f"this request is part of {meant}; " if meant else did_you_mean(word, OPERATIONS)
        if len(word.split()) > 1 and set(word.split()) <= OPERATIONS.keys():
            hint = f"write [{', '.join(word.split())}]; "
        refuse(f"unknown operation {quote(word)}", f"{hint}operations: {', '.join(OPERATIONS)}")
    return word


CHOICES: Final[dict[Callable[[object], str], tuple[str, ...]]] = {}
"""The words that each function of _one_of accepts, for the schema that editors use."""


def _one_of(words: Mapping[str, object]) -> Callable[[object], str]:
    listed_words = ", ".join(words)
    advice = f"write one of: {listed_words}" if len(words) > 1 else f"write {listed_words}, or remove the key"

    def check(value: object) -> str:
        if not isinstance(value, str) and value is not Absent.NULL:
            refuse(f"must be a word, not {what(value)}", advice)
        word = text(value)
        if word not in words:
            hint = did_you_mean(word.upper() if word.upper() in words else word, words)
            refuse(f"{quote(word)} is not known here", hint + advice)
        return word

    CHOICES[check] = tuple(words)
    return check


def _kind(value: object) -> str:
    word = text(value)
    if word.startswith("@"):
        return "@" + name(word[1:])
    if word in _MISNAMED:
        refuse(f"no file ever has the kind {word}", f"did you mean {_MISNAMED[word]}?")
    if not _KIND.fullmatch(word):
        if _KIND.fullmatch(word.lower()):
            refuse(f"{quote(word)} is not in lower case", f"write {word.lower()}")
        refuse(
            f"{quote(word)} is not a content kind",
            'write a MIME type (image/jpeg), all of a type (image/*), or a set ("@photos")',
        )
    return word


def _glob(value: object) -> str:
    word = text(value)
    if isinstance(value, Folded):
        refuse("an unquoted path runs over several lines", "write one path in quotes")
    if isinstance(value, Unquoted) and _NEEDS_QUOTES.intersection(word):
        refuse("the glob has no quotes", f"YAML would misread some globs: write {quote(word)}")
    if word.startswith("@"):
        return "@" + name(word[1:])
    try:
        check_glob(word)
    except GlobError as fault:
        refuse(fault.message, fault.help, min(fault.offset, max(0, len(word) - 1)))
    return word


def _one_id(value: object, kind: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(f"must be a number, not {what(value)}", f"write the {kind} as a plain number")
    if not 0 <= value <= MAX_UID:
        refuse(f"{str(value)[:20]} is not a {kind}", f"a {kind} is a number from 0 to {MAX_UID}")
    return value


def _gid(value: object) -> int:
    return _one_id(value, "gid")


def _uids(value: object) -> UidRange:
    if not isinstance(value, str):
        if isinstance(value, int) and not isinstance(value, bool):
            return (_one_id(value, "uid"), value)
        refuse(f"must be a uid or a range, not {what(value)}", 'write 10010, or "10100-10199"')
    ends = _RANGE.fullmatch(value)
    if ends is None:
        help_ = 'write a number, or a range such as "10100-10199"; names of users are not accepted'
        if value.isascii() and value.isdigit():
            help_ = f"write {value} without quotes"
        refuse(f"{quote(value)} is not a uid or a range of uids", help_)
    first, last = (_one_id(int(end), "uid") for end in ends.groups())
    if first > last:
        refuse(f"range {quote(value)} ends before it starts", f'write "{last}-{first}"')
    return (first, last)


def _app_uids(value: object) -> UidRange:
    first, last = _uids(value)
    if first < WORKER_UIDS.stop and last >= WORKER_UIDS.start:
        refuse(
            f"uids {WORKER_UIDS.start}-{WORKER_UIDS.stop - 1} belong to the workers of policyfs",
            "remove these uids: no app may have one of these uids",
        )
    return first, last


def _words(value: object) -> str:
    told = text(value)
    if not told.strip():
        refuse("has no words", "write in a few words what a reviewer should know")
    return told


def _changes(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_CHANGES:
        return value
    refuse(f"must be a number from 1 to {MOST_CHANGES:,}, not {what(value)}", "write a number of files")


def instant(value: object) -> int:
    """Parse a date, a time and a zone (strict ISO 8601). Return ns since 1970."""
    help_ = f"write the date, the time and the zone, such as {EXAMPLE_INSTANT} or 2030-01-31T19:00+01:00"
    told = text(value) if isinstance(value, str) or value is Absent.NULL else None
    found = None if told is None else _INSTANT.fullmatch(told)
    if found is None:
        if told is not None and _WITHOUT_ZONE.fullmatch(told):
            refuse(f"{quote(told)} has no time zone", help_)
        if told is not None and _DATE.fullmatch(told):
            refuse(f"{quote(told)} is a date without a time", help_)
        refuse(f"{quote(str(value))} is not a date and time", help_)
    try:
        moment = datetime.fromisoformat(found[0]).astimezone(UTC)  # OverflowError: not a year from 1 to 9999
        return int((moment - _EPOCH).total_seconds()) * 1_000_000_000
    except (ValueError, OverflowError):
        refuse(f"{quote(found[0])} is not a valid date and time", help_)


def age(value: object) -> int:
    """Parse a time span such as ``30d``. Return seconds."""
    help_ = "write a number and m, h, d or w, such as 30d, up to 3650d"
    told = text(value) if isinstance(value, str) or value is Absent.NULL else str(value)
    found = _AGE.fullmatch(told)
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST_S:
        refuse(f"{quote(told)} is not a time span", help_)
    return seconds


def _several(value: object) -> object:
    """Return a list, or a single value, as a tuple. Refuse an empty list."""
    if isinstance(value, list):
        if not value:
            refuse("the list is empty", "write at least one item, or remove the key")
        return tuple(value)
    if isinstance(value, tuple):
        return value
    if isinstance(value, dict):
        help_ = "write [a, b] for a list; put a glob with braces in quotes"
        refuse("must be a value or a list, not a mapping", help_)
    return (value,)


def _maybe_none(value: object) -> object:
    return () if value == [] else _several(value)


def _blocks(value: object) -> object:
    if isinstance(value, list):
        if not value:
            refuse("the list is empty", "write at least one block, or remove the key")
        return tuple(value)
    return (value,)


def merged(ranges: Iterable[UidRange]) -> tuple[UidRange, ...]:
    """Join ranges that overlap or touch. Return the same uids in ascending ranges."""
    out: list[UidRange] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


Text = Annotated[str, PlainValidator(text)]
Name = Annotated[str, PlainValidator(name)]
Words = Annotated[str, PlainValidator(_words)]
Instant = Annotated[int, PlainValidator(instant)]
Age = Annotated[int, PlainValidator(age)]
Changes = Annotated[int, PlainValidator(_changes)]
Truth = Annotated[bool, PlainValidator(_truth)]
Operation = Annotated[str, PlainValidator(_operation)]
Kind = Annotated[str, PlainValidator(_kind)]
Glob = Annotated[str, PlainValidator(_glob)]
Uids = Annotated[UidRange, PlainValidator(_uids)]
AppUids = Annotated[UidRange, PlainValidator(_app_uids)]
AppGid = Annotated[int, PlainValidator(_gid)]
ErrnoName = Annotated[str, PlainValidator(_one_of(ERRNOS))]
AuditName = Annotated[str, PlainValidator(_one_of(AUDITS))]
Redaction = Annotated[str, PlainValidator(_one_of(dict.fromkeys(sorted(REDACTIONS))))]
OnUnknown = Annotated[str, PlainValidator(_one_of({"zero": None, "allow": None, "deny": None}))]
OnRefused = Annotated[str, PlainValidator(_one_of({"drop": None, "quarantine": None}))]
OnUnkept = Annotated[str, PlainValidator(_one_of({"deny": None, "record": None}))]
Mode = Annotated[str, PlainValidator(_one_of({"monitor": None}))]
ModesName = Annotated[str, PlainValidator(_one_of(MODES))]
MovesName = Annotated[str, PlainValidator(_one_of({"free": None}))]
Kinds = Annotated[tuple[Kind, ...], BeforeValidator(_several)]
Globs = Annotated[tuple[Glob, ...], BeforeValidator(_several)]
CallingApps = Annotated[tuple[Annotated[str, PlainValidator(_calling_app)], ...], BeforeValidator(_several)]
OwningApps = Annotated[tuple[Annotated[str, PlainValidator(_owning_app)], ...], BeforeValidator(_several)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_several)]

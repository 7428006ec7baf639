"""Frozen types for the terms of policyfs.

Layer 0: all layers import this module; it imports none. docs/architecture.md ("Words") defines the terms. All
values are immutable and hashable, so that they can be keys in tables of remembered decisions.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple


class Op(enum.IntFlag):
    """The six operations of the policy language; a request needs a set of them."""

    SEE = 1
    READ = 2
    WRITE = 4
    CREATE = 8
    DELETE = 16
    ATTR = 32
    ALL = 63


WORKER_UIDS: Final = range(2_100_000_000, 2_100_065_536)
"""Uids and gids of the worker processes that read the content of files. No app may have one of these uids.
The range is above the ids that systemd gives to users, services and containers (up to 1879048191,
UIDS-GIDS.md). It is also above the ids that SSSD gives to accounts (up to 2000200000)."""


class FileType(enum.Enum):
    """The type of a file-system object, as far as rules distinguish types. SPECIAL: a fifo, a socket or a
    device."""

    REGULAR = "regular"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    SPECIAL = "special"

    __hash__ = object.__hash__  # each look-up of a decision hashes a FileType; Enum's __hash__ is slow


KIND_DIRECTORY: Final = "inode/directory"
KIND_SYMLINK: Final = "inode/symlink"
KIND_SPECIAL: Final = "inode/special"
KIND_EMPTY: Final = "inode/x-empty"
FIXED_KINDS: Final = {
    FileType.DIRECTORY: KIND_DIRECTORY,
    FileType.SYMLINK: KIND_SYMLINK,
    FileType.SPECIAL: KIND_SPECIAL,
}
"""A dictionary from each file type except REGULAR to its content kind. The type alone determines this
kind."""

OWNER_NONE: Final = "none"
"""The owner of a file that no app owns. No app may have this name."""


class Facts(NamedTuple):
    """The known facts of a file at the time of a decision. A field with ``None`` is unknown.

    kind: the content kind, a MIME type (``image/jpeg``). owner: an app's name or OWNER_NONE. free_of: words
    of REDACTIONS. The file was searched, and has no data of these words.
    """

    kind: str | None = None
    owner: str | None = None
    free_of: frozenset[str] = frozenset()


NO_FACTS: Final = Facts()


class Need(enum.IntFlag):
    """A set of facts (kind, owner) that an answer may depend on."""

    NOTHING = 0
    KIND = 1
    OWNER = 2


class Audit(enum.IntEnum):
    """The level at which an event is recorded on the trail. If several levels apply to one event, the highest
    counts."""

    OFF = 0
    BEST_EFFORT = 1
    REQUIRED = 2


Lane = str | int | tuple[str, int | None] | None
"""The key of a lane (a group of callers that may share workers and the bytes of files): an app's name, or a
stranger's uid. If the policy may treat an app's uids differently, the key is a pair of the name and the uid.
Callers of one lane with the same view of a file may see the same bytes of the file."""


def in_turn(lane: Hashable) -> Hashable:
    """Return the key by which lanes take turns: the app's name, or a stranger's uid. All uids of an app have
    the same key. So an app with many uids gets no more turns than an app with one uid."""
    return lane[0] if isinstance(lane, tuple) else lane


@dataclass(frozen=True, slots=True)
class Principal:
    """The app or the stranger for which a request is decided.

    key: an int. One engine (compiled policy) gives the same answers to all callers with the same key.
    app: the app's name, or None for a stranger. uid: the caller's uid; None if it is not known. uids_differ:
    True if the policy may give the app other answers under another uid.
    """

    key: int
    app: str | None
    uid: int | None
    uids_differ: bool = False

    @property
    def lane(self) -> Lane:
        """Return the key of this principal's lane (see Lane)."""
        if self.app is None:
            return self.uid
        return (self.app, self.uid) if self.uids_differ else self.app

    @property
    def label(self) -> str:
        """Return the name shown to people: the name of the app, or ``stranger``."""
        return self.app if self.app is not None else "stranger"


_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Keep(NamedTuple):
    """A requirement to keep what a change would lose. age_s: the shortest time in seconds. strict: True if
    the change is refused where nothing can be kept; False if it is only put on record."""

    age_s: int
    strict: bool

    @property
    def age(self) -> str:
        """The time as a policy has it, such as ``30d``."""
        unit_s, unit = next(one for one in _UNITS if not self.age_s % one[0])
        return f"{self.age_s // unit_s}{unit}"

    @property
    def words(self) -> str:
        """The requirement in words for people."""
        else_ = "" if self.strict else ", if it can be"
        return f"what is removed or overwritten is kept for {self.age}{else_}"


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """One rule that had an effect on a decision.

    effect: ``allow``, ``deny``, ``redact``, ``content`` or ``keep``. op: the operation on which the rule had
    this effect. certain: False if the rule matched only because a fact was unknown. monitor: True if the
    effect was only recorded.
    """

    rule: str
    effect: str
    op: Op
    certain: bool = True
    monitor: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one request: allow or deny, obligations, and the rules that made it.

    errno: 0 if and only if the request is allowed. redact: words; data of these words must be hidden in the
    bytes that the app reads. It is empty if every redact rule lists the file's kind in raw_types (kinds that
    stay unchanged). content: content requirements; a written file must meet all of them. Each requirement is
    a set of patterns, and the file must match one pattern of the set. A pattern is a kind such as
    ``image/jpeg`` or ``image/*``, or a result of ban() or cleaning(). If a set has such a result, files of
    the kinds in the set need no search. redact and content are empty in a denial. bare: True for a directory
    that is seen only because a path below it may be seen, or because it is the root. would_deny, would_allow:
    ids of rules that would deny or allow the request, but are only recorded; would_deny can also have
    tally.NO_ALLOW. quarantine: True if a file that fails the content requirements is kept for the
    administrator. monitored_content: content requirements (rule, kinds) that are checked but not enforced. If
    a written file does not meet one, the trail records the rule as ``would_deny``. keep: None if nothing
    needs to be kept of what the request removes or overwrites.
    """

    allowed: bool
    errno: int
    rules: tuple[RuleMatch, ...] = ()
    audit: Audit = Audit.BEST_EFFORT
    redact: frozenset[str] = frozenset()
    content: tuple[frozenset[str], ...] = ()
    bare: bool = False
    would_deny: tuple[str, ...] = ()
    would_allow: tuple[str, ...] = ()
    monitored_content: tuple[tuple[str, frozenset[str]], ...] = ()
    quarantine: bool = False
    keep: Keep | None = None

    @property
    def in_draft(self) -> bool:
        """True if the bytes that the app writes go to a draft: the whole file is checked once complete."""
        return self.quarantine or bool(banned(self.content))


_BAN: Final = "no "
_CLEAN: Final = "clean "


def ban(words: frozenset[str]) -> str:
    """Return a content pattern that matches files without data of these words, such as ``no location, time``.
    If DENY_UNKNOWN is among the words, policyfs must also understand every part of the file."""
    return _BAN + ", ".join(sorted(words))


def banned(content: Iterable[frozenset[str]]) -> frozenset[str]:
    """Return the words that content requirements forbid in a file (the words in their ban() patterns). The
    result also has the words of cleaning() patterns, each with ``clean`` before it."""
    patterns = [pattern for kinds in content for pattern in kinds]
    forbidden = [text.removeprefix(_BAN) for text in patterns if text.startswith(_BAN)]
    to_go = [text.removeprefix(_CLEAN) for text in patterns if text.startswith(_CLEAN)]
    words = frozenset(word for text in forbidden for word in text.split(", "))
    return words | {_CLEAN + word for text in to_go for word in text.split(", ")}


def cleaning(words: frozenset[str]) -> str:
    """Return a content pattern that matches files cleaned of these words, such as ``clean location, time``. A
    file is cleaned of a word if every part that may hold data of the word was removed."""
    return _CLEAN + ", ".join(sorted(words))


def to_clean(words: Iterable[str]) -> frozenset[str]:
    """Return the words whose data must be removed from a file before it is stored. words: a result of
    banned()."""
    return frozenset(word.removeprefix(_CLEAN) for word in words if word.startswith(_CLEAN))


def only_forbidden(words: Iterable[str], cleaned_of: frozenset[str]) -> frozenset[str]:
    """Return the words that still forbid a file after it was cleaned. words: a result of banned(). A word in
    *cleaned_of* no longer forbids the file. DENY_UNKNOWN forbids a file only together with another word."""
    left = frozenset(word for word in words if not word.startswith(_CLEAN)) - cleaned_of
    return left if left - {DENY_UNKNOWN} else frozenset()


def kinds_only(content: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Return the content requirements that list only kinds (and have no pattern of ban() or cleaning())."""
    return tuple(kinds for kinds in content if not banned((kinds,)))


@dataclass(frozen=True, slots=True)
class View:
    """The form in which an app sees a regular file's bytes.

    The obligations that can apply to the app determine the view. key: a small int, unique within one engine
    (compiled policy); 0 is the raw view. Two apps have different keys if they could ever get different bytes
    or checks. redact, checked and bans: the obligations that can apply. Facts decide which of them apply now.
    bans: words; written bytes must contain no data of these words.
    """

    key: int
    redact: frozenset[str]
    checked: bool
    bans: frozenset[str] = frozenset()

    @property
    def raw(self) -> bool:
        """True if no obligation (redaction or check) can ever apply in this view."""
        return not self.redact and not self.checked

    @property
    def label(self) -> str:
        """Return the name shown to people, e.g. ``checked+redacted(location)``."""
        parts = ["checked"] if self.checked else []
        if self.redact:
            parts.append(f"redacted({','.join(sorted(self.redact))})")
        return "+".join(parts) or "raw"


RAW_VIEW: Final = View(0, frozenset(), False)


REDACTIONS: Final = frozenset({"location", "device", "time", "people", "all-metadata"})
"""The words of a policy: sorts of data that policyfs can find in files. redact/core/categories.py defines
each word."""

_EVERYTHING: Final = "all-metadata"


def hides_at_least(words: frozenset[str], others: frozenset[str]) -> bool:
    """Return True if redaction of *words* hides all data that redaction of *others* hides."""
    return _spread(words) >= _spread(others)


def _spread(words: frozenset[str]) -> frozenset[str]:
    return words | REDACTIONS if _EVERYTHING in words else words


DENY_UNKNOWN: Final = "on_unknown: deny"
"""A special member of a set of words. It means: policyfs refuses a file with a part that policyfs cannot
understand. The sets of several rules are united, so the strictest rule wins."""

TO_TELL: Final = "found to tell"
"""A special member of a set of words. It means: policyfs only searches a file for data of the words, and
hides nothing. If there is such data, policyfs refuses the file. If policyfs cannot understand a part of the
file, the rules in redact/verdict.py apply: usually policyfs searches the bytes of the part. If DENY_UNKNOWN
is a member, too, policyfs refuses a file with such a part."""

UNNAMED: Final = "unnamed"
"""A special member of a set of words. It means: the plan does not name the parts that it removes."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes that replace the bytes at an offset of a file. A patch never changes the file's size.

    The new bytes are either given as data, or as a number of zeros. (A video's position track needs megabytes
    of zeros.)
    """

    offset: int
    data: bytes = b""
    zeros: int = 0

    @property
    def size(self) -> int:
        """Return the number of replaced bytes."""
        return len(self.data) or self.zeros

    @property
    def end(self) -> int:
        """Return the offset of the first byte after the replaced bytes."""
        return self.offset + self.size

    def part(self, start: int, end: int) -> bytes:
        """Return the new bytes for the range [start, end) of the file. It must be within the patch."""
        if self.data:
            return self.data[start - self.offset : end - self.offset]
        return bytes(end - start)

    def shifted(self, by: int) -> Patch:
        """Return the same patch at an offset that is higher by *by* bytes."""
        return Patch(self.offset + by, self.data, self.zeros)


class Ranges(NamedTuple):
    """The ranges of a file in which an app reads neutral bytes. first: the offset and the size, in bytes, of
    the first ranges (trail/lines/line.py limits their number). number, total_bytes: of all ranges."""

    first: tuple[tuple[int, int], ...] = ()
    number: int = 0
    total_bytes: int = 0


NO_RANGES: Final = Ranges()

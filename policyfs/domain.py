"""Frozen types for the words of policyfs. Layer 0: every layer imports it, and it imports none.

docs/architecture.md ("Words") defines the words themselves. All values are immutable and hashable, so that
they can be keys of remembered decisions.
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
"""Uids and gids of the sniffing workers; no app may have one. They are above the ids that systemd gives to
users, services and containers (up to 1879048191, UIDS-GIDS.md), and SSSD to accounts (up to 2000200000)."""


class FileType(enum.Enum):
    """The type of an inode, as far as policy cares. SPECIAL: a fifo, a socket or a device."""

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
"""Kinds of inodes that are not regular files: their type decides, not their content."""

OWNER_NONE: Final = "none"
"""The owner of a file that no app owns (reserved, never an app's name)."""


class Facts(NamedTuple):
    """The known facts of a file at decision time; ``None`` in a field means unknown.

    kind: content kind, a MIME type (``image/jpeg``). owner: an app's name or OWNER_NONE. free_of: words
    of REDACTIONS that were searched for in the file without any finding.
    """

    kind: str | None = None
    owner: str | None = None
    free_of: frozenset[str] = frozenset()


NO_FACTS: Final = Facts()


class Need(enum.IntFlag):
    """The facts that an answer may depend on."""

    NOTHING = 0
    KIND = 1
    OWNER = 2


class Audit(enum.IntEnum):
    """The strength with which an event must be recorded; the strongest of several wins."""

    OFF = 0
    BEST_EFFORT = 1
    REQUIRED = 2


Lane = str | int | tuple[str, int | None] | None
"""A key of callers that share bytes: an app's name, with the uid if the policy tells its uids apart, or a
stranger's uid. Callers of one lane with the same view of a file may see the same bytes of it."""


def in_turn(lane: Hashable) -> Hashable:
    """Return the key under which a lane takes turns with others: the app's name, or a stranger's uid.

    So an app with many uids gets no more turns than an app with one uid.
    """
    return lane[0] if isinstance(lane, tuple) else lane


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, as far as the rules can tell callers apart.

    key: small int; two callers with one key get the same answers from one engine, always. app: the app's
    name, or None for a stranger. uid: the caller's uid; None if it is not known. uids_differ: True if the
    policy may give the app other answers under another uid.
    """

    key: int
    app: str | None
    uid: int | None
    uids_differ: bool = False

    @property
    def lane(self) -> Lane:
        """Return the key of this principal's own sniffing workers, and of its own nodes of a file."""
        if self.app is None:
            return self.uid
        return (self.app, self.uid) if self.uids_differ else self.app

    @property
    def label(self) -> str:
        """Return the name shown to people: the app's, or ``stranger``."""
        return self.app if self.app is not None else "stranger"


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """One rule that counted in a decision: its id, its effect, and the reason.

    effect: ``allow``, ``deny``, ``redact`` or ``content``. op: the operation it counted for.
    certain: False if it matched because a fact was unknown. monitor: True if it was only recorded.
    """

    rule: str
    effect: str
    op: Op
    certain: bool = True
    monitor: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one request: allow or deny, obligations, and the rules that made it.

    errno is 0 exactly when allowed. redact: words for data that must not be readable in the bytes (empty if
    every redact rule lists the kind in raw_types). content: content requirements; a written file must meet
    all of them. Each requirement is a set of patterns, and the file must match one of these: kinds such as
    ``image/jpeg`` or ``image/*``, or the pattern that ban() or cleaning() returns. Beside that pattern, the
    kinds are those of files that pass without a search. redact and content are empty in a denial. bare: a
    directory seen only because a path below it may be seen. quarantine: a file that fails the content
    requirements is kept for the administrator. monitored_content: (rule, kinds) of content requirements that
    are checked but only recorded, as ``would_deny``, when a written file fails them.
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

    @property
    def in_draft(self) -> bool:
        """True if written bytes are put aside as a draft and checked as a whole when it is complete."""
        return self.quarantine or bool(banned(self.content))


_BAN: Final = "no "
_CLEAN: Final = "clean "


def ban(words: frozenset[str]) -> str:
    """Return the content pattern for files without data of these words: ``no location, time``.

    With DENY_UNKNOWN among the words, every part of the files must also be understood.
    """
    return _BAN + ", ".join(sorted(words))


def banned(content: Iterable[frozenset[str]]) -> frozenset[str]:
    """Return all words that the bans among some content requirements name.

    It also returns the words of cleaning patterns, each with ``clean`` before it.
    """
    patterns = [pattern for kinds in content for pattern in kinds]
    forbidden = [text.removeprefix(_BAN) for text in patterns if text.startswith(_BAN)]
    to_go = [text.removeprefix(_CLEAN) for text in patterns if text.startswith(_CLEAN)]
    words = frozenset(word for text in forbidden for word in text.split(", "))
    return words | {_CLEAN + word for text in to_go for word in text.split(", ")}


def cleaning(words: frozenset[str]) -> str:
    """Return the content pattern for files that were cleaned of these words: ``clean location, time``.

    Cleaned: every part that may hold their data was removed.
    """
    return _CLEAN + ", ".join(sorted(words))


def to_clean(words: Iterable[str]) -> frozenset[str]:
    """Return the words of a result of banned() whose data must be removed by cleaning."""
    return frozenset(word.removeprefix(_CLEAN) for word in words if word.startswith(_CLEAN))


def only_forbidden(words: Iterable[str], cleaned_of: frozenset[str]) -> frozenset[str]:
    """Return the words of a result of banned() that still forbid a file after it was cleaned.

    A word that the file was cleaned of no longer counts. DENY_UNKNOWN counts only beside another word.
    """
    left = frozenset(word for word in words if not word.startswith(_CLEAN)) - cleaned_of
    return left if left - {DENY_UNKNOWN} else frozenset()


def kinds_only(content: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """Return the content requirements that have only kinds, without those that ban or clean data."""
    return tuple(kinds for kinds in content if not banned((kinds,)))


@dataclass(frozen=True, slots=True)
class View:
    """One presentation of a regular file's bytes, named by an app's possible obligations on it.

    key: small int, unique within one engine: two apps have different keys if they could ever get
    different bytes or checks; 0 is the raw view. redact, checked and bans (words whose data must not be in
    written bytes) name the possible obligations; facts decide which hold now.
    """

    key: int
    redact: frozenset[str]
    checked: bool
    bans: frozenset[str] = frozenset()

    @property
    def raw(self) -> bool:
        """True if no obligation can ever apply in this view."""
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
"""The words for data that a policy can hide in files; redact/core/categories.py defines each."""

_EVERYTHING: Final = "all-metadata"


def hides_at_least(words: frozenset[str], others: frozenset[str]) -> bool:
    """True if redaction of these words hides all that redaction of the others hides."""
    return _spread(words) >= _spread(others)


def _spread(words: frozenset[str]) -> frozenset[str]:
    return words | REDACTIONS if _EVERYTHING in words else words


DENY_UNKNOWN: Final = "on_unknown: deny"
"""A special member of a set of words. It means: a file with a part that cannot be understood is refused. The
sets of several rules are united, so the strictest rule wins."""

TO_TELL: Final = "found to tell"
"""A special member of a set of words. It means: a file is searched for data before it is stored. A part that
cannot be understood then counts only if a search of its bytes finds something, or if DENY_UNKNOWN is a
member, too."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Replacement bytes at an offset of a file (bytes); never changes the file's size.

    The replacement is either data or a number of zeros. (A video's position track needs megabytes of zeros.)
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
        """Return the offset behind the last replaced byte."""
        return self.offset + self.size

    def part(self, start: int, end: int) -> bytes:
        """Return the replacement for [start, end) of the file. This range must be within the patch."""
        if self.data:
            return self.data[start - self.offset : end - self.offset]
        return bytes(end - start)

    def shifted(self, by: int) -> Patch:
        """Return the same patch, *by* bytes further on."""
        return Patch(self.offset + by, self.data, self.zeros)

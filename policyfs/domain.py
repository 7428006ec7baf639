"""The words of policyfs as frozen types: layer 0, imported by every layer, importing none.

The words themselves are defined in docs/architecture.md ("Words"). Everything here is
immutable and hashable, so that decisions can be memoised on it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
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
"""Uids and gids of the sniffing workers; no app may have one. Beyond what systemd gives to users,
services and containers (up to 1879048191, UIDS-GIDS.md) and SSSD to accounts (up to 2000200000)."""


class FileType(enum.Enum):
    """What an inode is, as far as policy cares. SPECIAL: a fifo, a socket or a device."""

    REGULAR = "regular"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    SPECIAL = "special"


KIND_DIRECTORY: Final = "inode/directory"
KIND_SYMLINK: Final = "inode/symlink"
KIND_SPECIAL: Final = "inode/special"
KIND_EMPTY: Final = "inode/x-empty"
FIXED_KINDS: Final = {
    FileType.DIRECTORY: KIND_DIRECTORY,
    FileType.SYMLINK: KIND_SYMLINK,
    FileType.SPECIAL: KIND_SPECIAL,
}
"""Kinds of what has no bytes of its own, whatever is in it."""

OWNER_NONE: Final = "none"
"""The owner of a file that no app owns (reserved, never an app's name)."""


class Facts(NamedTuple):
    """What is known of a file at decision time; ``None`` in a field means unknown.

    kind: content kind, a MIME type (``image/jpeg``). owner: an app's name or OWNER_NONE. free_of: words
    of REDACTIONS that nothing in the file tells anything of; only those that somebody looked for.
    """

    kind: str | None = None
    owner: str | None = None
    free_of: frozenset[str] = frozenset()


NO_FACTS: Final = Facts()


class Need(enum.IntFlag):
    """The facts that an answer may hang on."""

    NOTHING = 0
    KIND = 1
    OWNER = 2


class Audit(enum.IntEnum):
    """How strongly an event must be recorded; the strongest of several wins."""

    OFF = 0
    BEST_EFFORT = 1
    REQUIRED = 2


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, as the rules can tell callers apart.

    key: small int; two callers with one key get the same answers from one engine, always.
    app: the app's name, or None for a stranger. uid: the caller's uid, where rules may ask
    for it (None for an app mount's principal before the caller is known).
    """

    key: int
    app: str | None
    uid: int | None

    @property
    def lane(self) -> str | int | None:
        """Key of the sniffing workers that serve this principal alone: the app's name, else the uid."""
        return self.app if self.app is not None else self.uid

    @property
    def label(self) -> str:
        """The name shown to people: the app's, or ``stranger``."""
        return self.app if self.app is not None else "stranger"


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """One rule that spoke: its id, its effect, and why it counted.

    effect: ``allow``, ``deny``, ``redact`` or ``content``. op: the operation it spoke on.
    certain is False if it matched because a fact was unknown. monitor: it was only recorded.
    """

    rule: str
    effect: str
    op: Op
    certain: bool = True
    monitor: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one request: allow or deny, obligations, and the rules that made it.

    errno is 0 exactly when allowed. redact: what must not be readable in the bytes (already
    empty where every redact rule lists the kind in raw_types). content: each element is a set
    of kind patterns (``image/*`` allowed) of which what is written must match one, or a ban (see
    ban()) of what it may not tell with the kinds that are let through unread; all elements must be
    met. Both are empty in a denial. bare: a
    directory seen only because something below it may be seen.
    quarantine: what does not meet the content requirements is kept for the administrator.
    monitored_content: (rule, kinds) of content requirements that are checked but only recorded,
    as ``would_deny``, when what is written does not meet them.
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
        """True if what is written is put aside and judged as a whole when it is complete."""
        return self.quarantine or bool(banned(self.content))


_BAN: Final = "no "
_CLEAN: Final = "clean "


def ban(words: frozenset[str]) -> str:
    """The content pattern that a file meets in which nothing was found to tell of these words: ``no location,
    time``. DENY_UNKNOWN among them: nor was anything that is not understood.
    """
    return _BAN + ", ".join(sorted(words))


def banned(content: Iterable[frozenset[str]]) -> frozenset[str]:
    """All words that the bans among some content requirements name; those that files are to be cleaned of
    with ``clean`` before them.
    """
    patterns = [pattern for kinds in content for pattern in kinds]
    forbidden = [text.removeprefix(_BAN) for text in patterns if text.startswith(_BAN)]
    to_go = [text.removeprefix(_CLEAN) for text in patterns if text.startswith(_CLEAN)]
    words = frozenset(word for text in forbidden for word in text.split(", "))
    return words | {_CLEAN + word for text in to_go for word in text.split(", ")}


def cleaning(words: frozenset[str]) -> str:
    """The content pattern that a file meets from which all that may tell of these words was taken out:
    ``clean location, time``.
    """
    return _CLEAN + ", ".join(sorted(words))


def to_clean(words: Iterable[str]) -> frozenset[str]:
    """Of what banned() answers, the words that files are cleaned of."""
    return frozenset(word.removeprefix(_CLEAN) for word in words if word.startswith(_CLEAN))


def only_forbidden(words: Iterable[str], cleaned_of: frozenset[str]) -> frozenset[str]:
    """Of what banned() answers, the words that a file is refused for which was cleaned of some; DENY_UNKNOWN
    among them only if there are any. What was cleaned of a word tells nothing of it.
    """
    left = frozenset(word for word in words if not word.startswith(_CLEAN)) - cleaned_of
    return left if left - {DENY_UNKNOWN} else frozenset()


def kinds_only(content: Iterable[frozenset[str]]) -> tuple[frozenset[str], ...]:
    """The content requirements that are about kinds alone: beside a ban stand the kinds it lets through."""
    return tuple(kinds for kinds in content if not banned((kinds,)))


@dataclass(frozen=True, slots=True)
class View:
    """One presentation of a regular file's bytes, named by the obligations an app may have on it.

    key: small int, unique within one engine: two apps whose answers could ever differ in bytes
    or checks have different keys, 0 is the raw view. redact, checked and bans (words that what is
    written may tell nothing of) say what obligations are possible (facts decide what holds now).
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
        """The name shown to people, e.g. ``checked+redacted(location)``."""
        parts = ["checked"] if self.checked else []
        if self.redact:
            parts.append(f"redacted({','.join(sorted(self.redact))})")
        return "+".join(parts) or "raw"


RAW_VIEW: Final = View(0, frozenset(), False)


REDACTIONS: Final = frozenset({"location", "device", "time", "people", "all-metadata"})
"""The words for what a policy can hide in files; redact/core/categories.py says what each covers."""

DENY_UNKNOWN: Final = "on_unknown: deny"
"""Stands among the words where a rule refuses files in which something cannot be understood. As a
member of the set it adds up over rules as the words do: the strictest wins."""

TO_TELL: Final = "found to tell"
"""Stands among the words where a file is looked through before it is stored: what cannot be understood in
it counts only if a search of it finds something, or if DENY_UNKNOWN stands there, too."""

REDACTABLE_KINDS: Final = frozenset(
    {
        "image/jpeg",
        "image/png",
        "image/tiff",
        "image/x-canon-cr2",
        "image/x-olympus-orf",
        "image/x-panasonic-rw2",
        "image/vnd.microsoft.icon",
        "image/bmp",
        "image/x-fuji-raf",
        "audio/amr",
        "audio/x-aiff",
        "video/x-msvideo",
        "audio/x-wav",
        "application/ogg",
        "video/ogg",
        "audio/ogg",
        "audio/flac",
        "audio/mp4",
        "audio/x-m4a",
        "video/3gpp",
        "video/3gpp2",
        "video/mp4",
        "video/quicktime",
        "video/x-m4v",
        "application/pdf",
        "application/rdf+xml",
        "application/x-location+json",
        "video/x-matroska",
        "video/webm",
        "audio/x-matroska",
        "audio/webm",
        "image/webp",
        "image/gif",
        "audio/mpeg",
        "audio/aac",
        "image/heic",
        "image/heic-sequence",
        "image/heif",
        "image/heif-sequence",
        "image/avif",
        "image/x-canon-cr3",
        "image/jxl",
        "image/jp2",
        "image/jpx",
        "image/jph",
        "image/x-jp2-codestream",
    }
)
"""Content kinds that redact/registry.py has a locator for; ``raw_types`` must not name them."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Replacement bytes at an offset of a file (bytes); never changes the file's size.

    Either data, or so many zeros instead: a video's position track is megabytes of them.
    """

    offset: int
    data: bytes = b""
    zeros: int = 0

    @property
    def size(self) -> int:
        """How many bytes are replaced."""
        return len(self.data) or self.zeros

    @property
    def end(self) -> int:
        """One past the last byte that is replaced."""
        return self.offset + self.size

    def part(self, start: int, end: int) -> bytes:
        """The replacement for [start, end) of the file, which lies within the patch."""
        if self.data:
            return self.data[start - self.offset : end - self.offset]
        return bytes(end - start)

    def shifted(self, by: int) -> Patch:
        """The same bytes, so many bytes further on."""
        return Patch(self.offset + by, self.data, self.zeros)

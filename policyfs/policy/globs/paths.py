"""Parser of globs (patterns of paths). Its errors name the wrong character.

The grammar is that of docs/policy-language.md ("paths", below "Rules"). Alternatives in braces become
variants of a segment. Names are text decoded from UTF-8 with ``surrogateescape``: ``?`` stands for one UTF-8
character or one invalid byte.
"""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass, field
from typing import Final

MAX_VARIANTS: Final = 256
"""Maximum number of variants of one segment. ``{a,b}{c,d}`` has four."""
MAX_DEPTH: Final = 32
"""Maximum depth of braces inside braces. ``{a,{b,c}}`` has the depth 2."""
MAX_GLOB: Final = 4096
"""Maximum number of characters of a glob, as of a path in a system call (PATH_MAX)."""
MAX_NAME: Final = 255
"""Maximum length of the shortest name of a variant. The work of a search grows with its square."""


class GlobError(ValueError):
    """The error for a glob that cannot be parsed. offset: the index of the wrong character in the glob."""

    def __init__(self, message: str, advice: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.help = advice
        self.offset = offset


class Wild(enum.Enum):
    """A token of a glob that is not a literal character: a wildcard or a capture (``{app}``, ``{uid}``)."""

    ONE = "?"
    RUN = "*"
    APP = "{app}"
    UID = "{uid}"


CAPTURES: Final = {"app": Wild.APP, "uid": Wild.UID}

Token = str | Wild
"""A token of a glob: one literal character, a wildcard or a capture."""

Variant = tuple[Token, ...]


class End(enum.Enum):
    """The ending of a glob: it matches the path of the segments before it, the paths below, or both."""

    HERE = ""
    BELOW = "**"
    HERE_AND_BELOW = "***"


@dataclass(frozen=True, slots=True)
class Segment:
    """A pattern of one name in a path. deep: True for ``**`` between segments, which has no variants. plain:
    the text if all tokens are literal."""

    variants: tuple[Variant, ...]
    deep: bool = False
    plain: str = field(default="", compare=False)


DEEP: Final = Segment((), deep=True)


@dataclass(frozen=True, slots=True)
class Glob:
    """A parsed glob. captures: ``app``, ``uid``, both or none."""

    text: str
    segments: tuple[Segment, ...]
    end: End
    captures: frozenset[str]


_FORBIDDEN: Final = re.compile("[\0\ud800-\udfff]")
_PLAIN: Final = re.compile(r"[^*?\[\]{}\\]+")
"""A segment in which every character stands for itself."""
_SOUND: Final = re.compile(
    # matches globs without backslashes, braces, captures and faults
    "(?:/(?:[*][*]|(?![.][.]?(?:/|\\Z))(?:[^*?\\[\\]{}\\\\/\0\ud800-\udfff]|[?]|[*](?![*]))+))+(?:/[*]{3})?"
)


_REMEMBERED: Final = 1 << 15
"""Maximum number of remembered globs of about 1 KiB: for some 20,000 rules."""

_NO_CAPTURES: Final[frozenset[str]] = frozenset()


def check_glob(text: str) -> None:
    """Raise GlobError if the glob cannot be parsed."""
    if len(text) > MAX_NAME or not _SOUND.fullmatch(text):  # most globs need no further check
        parse_glob(text)


@functools.lru_cache(maxsize=_REMEMBERED)  # reloads and lint parse the same globs many times
def parse_glob(text: str) -> Glob:
    """Parse one glob. Raise GlobError."""
    if len(text) > MAX_GLOB:
        raise GlobError(f"the glob has more than {MAX_GLOB:,} characters", "write a shorter glob", MAX_GLOB)
    sound = _SOUND.fullmatch(text)
    if not sound:
        _check_whole(text)
    if text == "/":
        return Glob(text, (), End.HERE, _NO_CAPTURES)
    segments: list[Segment] = []
    end = End.HERE
    quick = sound and len(text) <= MAX_NAME
    pieces = [(0, piece) for piece in text[1:].split("/")] if quick else _split(text)
    for number, (offset, piece) in enumerate(pieces):
        last = number == len(pieces) - 1
        if piece == "***":
            if not last:
                raise GlobError(
                    "'***' is permitted only at the end of a glob",
                    "write '**' for any directories in between",
                    offset,
                )
            end = End.HERE_AND_BELOW
        elif piece == "**" and last:
            end = End.BELOW
        elif piece == "**":
            segments.append(DEEP)
        elif _PLAIN.fullmatch(piece):
            segments.append(Segment((tuple(piece),), plain=piece))
        else:
            segments.append(_SegmentReader(piece, offset).read())
        if len(piece) > MAX_NAME:
            _check_name(segments[-1], offset)
    captures = _NO_CAPTURES
    if not sound:
        captures = frozenset(
            name
            for name, capture in CAPTURES.items()
            if capture.value in text
            and any(capture in variant for segment in segments for variant in segment.variants)
        )
    return Glob(text, tuple(segments), end, captures)


def _check_name(segment: Segment, offset: int) -> None:
    for variant in segment.variants:
        if sum(token is not Wild.RUN for token in variant) > MAX_NAME:
            message = f"this part of the glob matches only names of more than {MAX_NAME} characters"
            raise GlobError(message, "shorten it: files have no such names", offset)


def _absolute(text: str) -> str:
    if not text:
        return "write a path from the root of the mount, such as '/DCIM/**'"
    if text.startswith("**"):
        return f"write '/{text}': the path begins at the root of the mount"
    return f"write '/{text}' for a path from the root of the mount, '/**/{text}' for any depth"


def _check_whole(text: str) -> None:
    forbidden = _FORBIDDEN.search(text)
    if forbidden is not None:
        code = f"U+{ord(forbidden[0]):04X}"
        if forbidden[0] == "\0":
            what, hint = f"NUL ({code})", "remove the character: no file name contains it"
        else:
            what, hint = code, "write names as UTF-8 text; '?' matches a byte that is not UTF-8"
        raise GlobError(f"a glob must not contain {what}", hint, forbidden.start())
    if not text.startswith("/"):
        raise GlobError("a path glob starts with '/'", _absolute(text), 0)
    if len(text) > 1 and text.endswith("/") and not text.endswith("\\/"):
        raise GlobError(
            "a glob does not end in '/'",
            f"write '{text.rstrip('/') or '/'}' for the directory itself, "
            f"'{text.rstrip('/')}/**' for all below it, '/***' at the end for both",
            len(text) - 1,
        )


def _split(text: str) -> list[tuple[int, str]]:
    """Return the index and the text of each segment. Raise GlobError, also for a slash after a backslash."""
    pieces: list[tuple[int, str]] = []
    start = 1
    at = 1
    while at <= len(text):
        if "\\" not in text:
            at = text.find("/", start)
            at = len(text) if at < 0 else at
        if at == len(text) or text[at] == "/":
            piece = text[start:at]
            if not piece:
                raise GlobError("an empty name between two slashes", "remove one '/'", start)
            if piece in (".", ".."):
                raise GlobError(f"'{piece}' is not a name", "a path in a policy has no '.' or '..'", start)
            pieces.append((start, piece))
            start = at + 1
        elif text[at] == "\\" and at + 1 < len(text):
            at += 1
            if text[at] == "/":
                raise GlobError("a '\\' before a '/' has no meaning", "remove the '\\'", at - 1)
        at += 1
    return pieces


class _SegmentReader:
    """Reader of one segment of a glob. ``at``: the next character; in _token, the last one read."""

    def __init__(self, piece: str, offset: int) -> None:
        self.piece = piece
        self.offset = offset
        self.at = 0
        self.depth = 0

    def read(self) -> Segment:
        rows = self._row(inside=False)
        kept = tuple(dict.fromkeys(_squeeze(row) for row in rows if row))
        if not kept:
            message = "this part of the glob matches only an empty name"
            raise self._error(message, "remove the part and one '/'", 0)
        return Segment(kept)

    def _error(self, message: str, advice: str, at: int) -> GlobError:
        return GlobError(message, advice, self.offset + at)

    def _row(self, *, inside: bool) -> list[Variant]:
        rows: list[Variant] = [()]
        while self.at < len(self.piece):
            char = self.piece[self.at]
            if inside and char in ",}":
                break
            if char == "{":
                rows = self._product(rows, self._braces())
                continue
            token = self._token(char)
            rows = [(*row, token) for row in rows]
            self.at += 1
        return rows

    def _token(self, char: str) -> Token:
        if char == "\\":
            self.at += 1
            if self.at == len(self.piece):
                raise self._error(
                    "a '\\' without a character after it",
                    "write '\\\\' for a backslash in a name",
                    self.at - 1,
                )
            return self.piece[self.at]
        if char == "*":
            if self.piece.startswith("**", self.at):
                raise self._error(
                    "'**' does not stand alone between slashes",
                    "write '**' alone, as in '/a/**' or '/a/**/b'; within a name write '*'",
                    self.at,
                )
            return Wild.RUN
        if char == "?":
            return Wild.ONE
        if char == "[":
            raise self._error(
                "'[' has no meaning in a glob",
                "write '{a,b}' for alternatives, '\\[' for the character itself",
                self.at,
            )
        if char == "}":
            raise self._error("a '}' without its '{'", "write '\\}' for the character", self.at)
        return char

    def _braces(self) -> list[Variant]:
        start = self.at
        for name, token in CAPTURES.items():
            if self.piece.startswith("{" + name + "}", start):
                self.at += len(name) + 2
                return [(token,)]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(
                f"more than {MAX_DEPTH} braces inside each other", "write several globs in a list", start
            )
        self.at += 1
        rows: list[Variant] = []
        commas = 0
        while True:
            rows.extend(self._row(inside=True))
            if self.at >= len(self.piece):
                raise self._error(
                    "a '{' without its '}'",
                    "close the brace before the next '/', or write '\\{' for the character",
                    start,
                )
            self.at += 1
            if self.piece[self.at - 1] == "}":
                break
            commas += 1
        self.depth -= 1
        if not commas:
            inner = self.piece[start : self.at]
            raise self._error(
                f"'{inner}' has no meaning in a glob",
                "write {app} or {uid}, or alternatives with a comma: '{a,b}'",
                start,
            )
        return rows

    def _product(self, left: list[Variant], right: list[Variant]) -> list[Variant]:
        if len(left) * len(right) > MAX_VARIANTS:
            raise self._error(
                f"the alternatives in braces make more than {MAX_VARIANTS} names",
                "write several globs in a list",
                self.at - 1,
            )
        return [a + b for a in left for b in right]


def _squeeze(row: Variant) -> Variant:
    """Return the row with one ``*`` for several in sequence (which come from alternatives)."""
    kept: list[Token] = []
    for token in row:
        if token is Wild.RUN and kept and kept[-1] is Wild.RUN:
            continue
        kept.append(token)
    return tuple(kept)

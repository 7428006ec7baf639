"""Matching of one name against many patterns at once, in time linear in the name's length.

One integer has a bit for each position between tokens of all patterns. A position is live if the characters
so far can have reached it; a few operations on the integer move all live positions by one character.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from policyfs.policy.globs.paths import CAPTURES, Token, Variant, Wild

UID_LIMIT: Final = (1 << 32) - 1
"""The number of possible uids. This number itself is not a uid: the kernel uses (uid_t)-1 for "no uid"."""

_UID_DIGITS: Final = 10
_DIGITS: Final = frozenset("0123456789")
_DIGIT_RUN: Final = re.compile("[0-9]+")
_CAPTURES: Final = frozenset(CAPTURES.values())

_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TO_LOWER: Final = str.maketrans(_UPPER, _UPPER.lower())


def ascii_lower(text: str) -> str:
    """Return the text with its ASCII letters in lower case."""
    return text.translate(_TO_LOWER)


def text_of(name: bytes) -> str:
    """Decode a name to text: one element for each UTF-8 character, and for each invalid byte."""
    return name.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """Encode the text of a name to bytes. This reverses text_of."""
    return text.encode("utf-8", "surrogateescape")


class Pattern(NamedTuple):
    """A row of tokens (characters and wildcards). folded: True to ignore the case of ASCII letters."""

    tokens: Variant
    folded: bool


def bits_of(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set in *mask*, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _mask(positions: Iterable[int], size: int) -> int:
    data = bytearray(size // 8 + 1)
    for position in positions:
        data[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(data, "little")


def _chars(token: str, *, folded: bool) -> tuple[str, ...]:
    lower = ascii_lower(token)
    if folded and "a" <= lower <= "z":
        return (lower, lower.upper())
    return (token,)


class NameMatcher:
    """Matcher of names for fixed patterns. A position is the bit before a token or at a pattern's end."""

    __slots__ = ("_accepts", "_all", "_any", "_chars", "_ends", "_runs", "_starts")

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        starts: dict[Pattern, int] = {}
        ends: dict[int, Pattern] = {}
        ones: list[int] = []
        runs: list[int] = []
        chars: dict[str, list[int]] = {}
        at = 0
        for pattern in dict.fromkeys(patterns):
            starts[pattern] = at
            for token in pattern.tokens:
                if token is Wild.ONE:
                    ones.append(at)
                elif token is Wild.RUN:
                    runs.append(at)
                elif isinstance(token, str):
                    for char in _chars(token, folded=pattern.folded):
                        chars.setdefault(char, []).append(at)
                at += 1
            ends[at] = pattern
            at += 1
        self._starts: Final[Mapping[Pattern, int]] = starts  # the first position of each pattern
        self._ends: Final[Mapping[int, Pattern]] = ends
        self._any: Final = _mask(ones, at)
        self._runs: Final = _mask(runs, at)
        self._chars: Final[Mapping[str, int]] = {
            char: _mask(positions, at) | self._any for char, positions in chars.items()
        }
        self._accepts: Final = _mask(ends, at)
        self._all: Final = self.start(starts)

    @property
    def alphabet(self) -> Iterable[str]:
        """The characters in the patterns. All other characters have the same effect."""
        return self._chars.keys()

    @property
    def size(self) -> int:
        """The number of positions: the size in bits of a set of live positions."""
        return self._accepts.bit_length()

    def start(self, patterns: Iterable[Pattern]) -> int:
        """Return the live positions before the first character, if only these patterns are tried."""
        live = _mask((self._starts[pattern] for pattern in patterns), self.size)
        return live | ((live & self._runs) << 1)

    def step(self, live: int, char: str) -> int:
        """Return the live positions after one more character."""
        live = ((live & self._chars.get(char, self._any)) << 1) | (live & self._runs)
        return live | ((live & self._runs) << 1)

    def run(self, live: int, text: str) -> int:
        """Return the ends of patterns that are live after the whole text. live: the positions before it."""
        chars, anything, runs = self._chars, self._any, self._runs
        for char in text:
            if not live:
                return 0
            live = ((live & chars.get(char, anything)) << 1) | (live & runs)
            live |= (live & runs) << 1
        return live & self._accepts

    def matching(self, text: str) -> Iterator[Pattern]:
        """Yield all patterns that match the name."""
        return self.accepted(self.run(self._all, text))

    def accepting(self, live: int) -> int:
        """Return the ends of patterns among the live positions."""
        return live & self._accepts

    def accepted(self, live: int) -> Iterator[Pattern]:
        """Yield the patterns whose ends are live."""
        for position in bits_of(live & self._accepts):
            yield self._ends[position]


def matches(pattern: Pattern, text: str) -> bool:
    """Return True if the pattern matches the name. It takes at most the product of both lengths in steps."""
    tokens = pattern.tokens
    if not pattern.folded and not any(isinstance(token, Wild) and token is not Wild.RUN for token in tokens):
        return _literal_parts_in(tokens, text)
    at = seen = 0
    back: tuple[int, int] | None = None
    while seen < len(text):
        token: Token | None = tokens[at] if at < len(tokens) else None
        if token is Wild.RUN:
            back = (at, seen)
            at += 1
        elif token is Wild.ONE or (
            isinstance(token, str) and text[seen] in _chars(token, folded=pattern.folded)
        ):
            at += 1
            seen += 1
        elif back is not None:
            # only the last * takes more characters: more characters for an earlier * could not help
            back = (back[0], back[1] + 1)
            at, seen = back[0] + 1, back[1]
        else:
            return False
    return all(token is Wild.RUN for token in tokens[at:])


def _literal_parts_in(tokens: Variant, text: str) -> bool:
    """Return True if tokens of literal text and ``*`` match, in the time of str.find."""
    parts = "".join("\0" if token is Wild.RUN else str(token) for token in tokens).split("\0")
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    stop = len(text) - len(last)
    if stop < len(first) or not text.startswith(first) or not text.endswith(last):
        return False
    at = len(first)
    for part in parts[1:-1]:
        at = text.find(part, at, stop)
        if at < 0:
            return False
        at += len(part)
    return True


class Bind(NamedTuple):
    """Requirements on a caller, so that captures match the names of a path. app, uid: the only value that
    matches; None: any. names: tokens and names that several values can match."""

    app: str | None
    uid: int | None
    names: frozenset[tuple[Captured, str]] = frozenset()

    def fits(self, app: str, uid: int | None) -> bool:
        """Return True if a caller that is this app, under this uid, meets the requirements."""
        if (self.app is not None and self.app != app) or (self.uid is not None and self.uid != uid):
            return False
        return not self.names or all(
            matches(captured.filled(Bind(app, uid)), text) for captured, text in self.names
        )

    def weaker(self) -> Iterator[Bind]:
        """Yield weaker requirements: the same without some of app, uid and names."""
        apps = {self.app, None}
        uids = {self.uid, None}
        names = {self.names, frozenset()}
        for app in apps:
            for uid in uids:
                for some in names:
                    bind = Bind(app, uid, some)
                    if bind != self:
                        yield bind


FREE: Final = Bind(None, None)


class Captured(NamedTuple):
    """A pattern of names with a capture in it."""

    tokens: Variant
    folded: bool

    def filled(self, bind: Bind) -> Pattern:
        """Return the pattern with the values of *bind* in the place of captures, as far as it has values."""
        tokens: list[Token] = []
        for token in self.tokens:
            if token is Wild.APP and bind.app is not None:
                tokens.extend(bind.app)
            elif token is Wild.UID and bind.uid is not None:
                tokens.extend(str(bind.uid))
            else:
                tokens.append(token)
        return Pattern(tuple(tokens), self.folded)

    def bind(self, text: str, bind: Bind, apps: frozenset[str]) -> Bind | None:
        """Return the requirements so that this pattern matches the name, with those of *bind*; None: nobody.

        apps: the names of all apps. INVARIANT: the result is one Bind, not one for each value: apps choose
        names (one of 255 digits contains 2,500 uids), and must not choose how many callers a path
        distinguishes.
        """
        tokens = self.filled(bind).tokens
        captures = [at for at, token in enumerate(tokens) if token in _CAPTURES]
        if not captures:
            return bind if matches(Pattern(tokens, self.folded), text) else None
        if len(captures) == 1 and Wild.RUN not in tokens:
            return self._only(tokens, captures[0], text, bind, apps)
        open_ended = tuple(Wild.RUN if token in _CAPTURES else token for token in tokens)
        if not matches(Pattern(open_ended, self.folded), text):
            return None
        if Wild.UID in tokens and not any(char in _DIGITS for char in text):
            return None
        if Wild.APP in tokens and not self.apps_in(text, apps):
            return None
        return Bind(bind.app, bind.uid, bind.names | {(self, text)})

    def _only(self, tokens: Variant, at: int, text: str, bind: Bind, apps: frozenset[str]) -> Bind | None:
        """Return the result of bind() for one capture, beside which each token matches one character."""
        stop = len(text) - (len(tokens) - at - 1)
        fixed = (*tokens[:at], *tokens[at + 1 :])
        if stop <= at or not matches(Pattern(fixed, self.folded), text[:at] + text[stop:]):
            return None
        value = text[at:stop]
        if tokens[at] is Wild.UID:
            return Bind(bind.app, int(value), bind.names) if is_uid(value) else None
        app = ascii_lower(value) if self.folded else value
        return Bind(app, bind.uid, bind.names) if app in apps else None

    def apps_in(self, text: str, apps: frozenset[str]) -> list[str]:
        """Return the apps whose names are somewhere in the text."""
        seen = ascii_lower(text) if self.folded else text
        return [app for app in apps if app in seen]


def uids_in(text: str, most: int) -> set[int] | None:
    """Return all uids that are written somewhere in the text; None if there are more than *most*."""
    found: set[int] = set()
    for run in _DIGIT_RUN.finditer(text):
        for start in range(run.start(), run.end()):
            for stop in range(start + 1, min(run.end(), start + _UID_DIGITS) + 1):
                digits = text[start:stop]
                if is_uid(digits):
                    found.add(int(digits))
            if len(found) > most:
                return None
    return found


def is_uid(text: str) -> bool:
    """Return True if the text is a uid as ``{uid}`` writes it: decimal, ASCII, no leading zero."""
    return (
        text.isascii()
        and text.isdigit()
        and len(text) <= _UID_DIGITS
        and (text[0] != "0" or text == "0")
        and int(text) < UID_LIMIT
    )

"""One name against many patterns at once: bit-parallel, linear in the name, no backtracking.

All patterns lie one behind the other in one integer, a bit for each position between tokens. A
character moves every live position of every pattern in a few operations on that integer, so ten
thousand patterns cost little more than ten, there are no states to store, and no pattern can
make matching explode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from policyfs.policy.paths import Token, Variant, Wild

UID_LIMIT: Final = 1 << 32
"""Uids are 32 bits wide; larger numbers in names are no uids."""

_UID_DIGITS: Final = 10

_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TO_LOWER: Final = str.maketrans(_UPPER, _UPPER.lower())


def ascii_lower(text: str) -> str:
    """The text with its ASCII letters in lower case; all other characters as they are."""
    return text.translate(_TO_LOWER)


def text_of(name: bytes) -> str:
    """A name as the matcher wants it: one element for each UTF-8 character or invalid byte."""
    return name.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The inverse of text_of."""
    return text.encode("utf-8", "surrogateescape")


class Pattern(NamedTuple):
    """A row of tokens without captures. folded: ASCII letters match either case."""

    tokens: Variant
    folded: bool


def bits_of(mask: int) -> Iterator[int]:
    """Positions of the set bits, lowest first."""
    base = 0
    while mask:
        word = mask & 0xFFFF_FFFF_FFFF_FFFF
        while word:
            low = word & -word
            yield base + low.bit_length() - 1
            word ^= low
        mask >>= 64
        base += 64


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
    """A fixed set of patterns, laid out once; ``start`` picks those that a run is about."""

    __slots__ = ("_accepts", "_any", "_chars", "_ends", "_runs", "_starts")

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
        self._starts: Final[Mapping[Pattern, int]] = starts
        self._ends: Final[Mapping[int, Pattern]] = ends
        self._any: Final = _mask(ones, at)
        self._runs: Final = _mask(runs, at)
        self._chars: Final[Mapping[str, int]] = {
            char: _mask(positions, at) | self._any for char, positions in chars.items()
        }
        self._accepts: Final = _mask(ends, at)

    @property
    def alphabet(self) -> Iterable[str]:
        """The characters that patterns name; all others are alike."""
        return self._chars.keys()

    def start(self, patterns: Iterable[Pattern]) -> int:
        """The live positions before the first character, for these of the patterns."""
        live = 0
        for pattern in patterns:
            live |= 1 << self._starts[pattern]
        return live | ((live & self._runs) << 1)

    def step(self, live: int, char: str) -> int:
        """The live positions after one more character."""
        live = ((live & self._chars.get(char, self._any)) << 1) | (live & self._runs)
        return live | ((live & self._runs) << 1)

    def run(self, live: int, text: str) -> int:
        """The accepting positions that are live after the whole text."""
        chars, anything, runs = self._chars, self._any, self._runs
        for char in text:
            if not live:
                return 0
            live = ((live & chars.get(char, anything)) << 1) | (live & runs)
            live |= (live & runs) << 1
        return live & self._accepts

    def accepting(self, live: int) -> int:
        """The accepting ones of live positions."""
        return live & self._accepts

    def accepted(self, live: int) -> Iterator[Pattern]:
        """The patterns whose accepting position is among the live ones."""
        for position in bits_of(live & self._accepts):
            yield self._ends[position]


def matches(pattern: Pattern, text: str) -> bool:
    """One pattern against one name; worst case the product of their lengths."""
    tokens = pattern.tokens
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
            # only the last run need give way: an earlier one could gain nothing by it
            back = (back[0], back[1] + 1)
            at, seen = back[0] + 1, back[1]
        else:
            return False
    return all(token is Wild.RUN for token in tokens[at:])


class Bind(NamedTuple):
    """What a caller must be for a capture to have matched; None asks nothing."""

    app: str | None
    uid: int | None


FREE: Final = Bind(None, None)


class Captured(NamedTuple):
    """A row of tokens with captures in it."""

    tokens: Variant
    folded: bool

    def filled(self, bind: Bind) -> Pattern:
        """The pattern with the captures that ``bind`` sets replaced by its values."""
        tokens: list[Token] = []
        for token in self.tokens:
            if token is Wild.APP and bind.app is not None:
                tokens.extend(bind.app)
            elif token is Wild.UID and bind.uid is not None:
                tokens.extend(str(bind.uid))
            else:
                tokens.append(token)
        return Pattern(tuple(tokens), self.folded)

    def binds(self, text: str, bind: Bind, apps: frozenset[str]) -> Iterator[Bind]:
        """Every caller, within ``bind``, for whom the name matches."""
        app_open = Wild.APP in self.tokens and bind.app is None
        uid_open = Wild.UID in self.tokens and bind.uid is None
        for app in self._apps_in(text, apps) if app_open else (bind.app,):
            for uid in self._uids_in(text) if uid_open else (bind.uid,):
                full = Bind(app, uid)
                if matches(self.filled(full), text):
                    yield full

    def _apps_in(self, text: str, apps: frozenset[str]) -> Iterator[str]:
        seen = ascii_lower(text) if self.folded else text
        if len(self.tokens) == 1:
            if seen in apps:
                yield seen
            return
        for app in sorted(apps):
            if app in seen:
                yield app

    def _uids_in(self, text: str) -> Iterator[int]:
        if len(self.tokens) == 1:
            if is_uid(text):
                yield int(text)
            return
        found = {
            text[start:stop]
            for start in range(len(text))
            for stop in range(start + 1, min(len(text), start + _UID_DIGITS) + 1)
        }
        for digits in sorted(found):
            if is_uid(digits):
                yield int(digits)


def is_uid(text: str) -> bool:
    """True if the text is a uid as ``{uid}`` writes it: decimal, ASCII, no leading zero."""
    return (
        text.isascii()
        and text.isdigit()
        and len(text) <= _UID_DIGITS
        and (text[0] != "0" or text == "0")
        and int(text) < UID_LIMIT
    )

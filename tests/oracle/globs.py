"""Match paths against globs, and find sample names for every way in which a set of globs can match."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

ANY, ONE, FRESH = object(), object(), "\u04e8"
"""`*`, `?`, and a character that no glob contains."""


@dataclass(frozen=True)
class Glob:
    """A glob as written, with the caller's names for `{app}` and `{uid}` (None for a stranger)."""

    text: str
    ignore_case: bool = False
    app: str | None = None
    uid: int | None = None


def _split(text: str) -> list[str]:
    """Cut a glob into segments at its slashes (braces contain none)."""
    segments, current, escaped = [], "", False
    for char in text[1:]:
        if char == "/" and not escaped:
            segments.append(current)
            current = ""
            continue
        escaped = char == "\\" and not escaped
        current += char
    return [*segments, current] if text != "/" else []


def _alternatives(text: str, glob: Glob) -> list[list[object]] | None:
    """Expand the braces of a segment: sequences of characters, ANY and ONE; None if it matches no path."""

    def sequence(at: int, ends: str) -> tuple[list[list[object]], int]:
        found: list[list[object]] = [[]]
        while at < len(text) and text[at] not in ends:
            char = text[at]
            if char == "\\":
                choices: list[list[object]] = [[text[at + 1]]]
                at += 2
            elif text.startswith(("{app}", "{uid}"), at):
                name = glob.app if text.startswith("{app}", at) else glob.uid
                choices = [] if name is None or glob.app is None else [list(str(name))]
                at += 5
            elif char == "{":
                choices = []
                while text[at] != "}":
                    more, at = sequence(at + 1, ",}")
                    choices += more
                at += 1
            else:
                choices = [[ANY if char == "*" else ONE if char == "?" else char]]
                at += 1
            found = [before + after for before in found for after in choices]
        return found, at

    return sequence(0, "")[0] or None


@dataclass(frozen=True)
class Segment:
    """One segment of a glob: sequences of characters, ANY and ONE, of which a name must match one."""

    sequences: tuple[tuple[object, ...], ...]
    ignore_case: bool

    def start(self) -> frozenset[tuple[int, int]]:
        return self._skip({(number, 0) for number in range(len(self.sequences))})

    def _skip(self, places: set[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """Add the places that are reached without a character: a star may match none."""
        todo = list(places)
        while todo:
            number, at = todo.pop()
            items = self.sequences[number]
            if at < len(items) and items[at] is ANY and (number, at + 1) not in places:
                places.add((number, at + 1))
                todo.append((number, at + 1))
        return frozenset(places)

    def step(self, places: frozenset[tuple[int, int]], char: str) -> frozenset[tuple[int, int]]:
        after = set()
        for number, at in places:
            items = self.sequences[number]
            if at == len(items):
                continue
            item = items[at]
            if item is ANY:
                after.add((number, at))
            elif item is ONE or item == char or (self.ignore_case and _same_letter(str(item), char)):
                after.add((number, at + 1))
        return self._skip(after)

    def accepts(self, places: frozenset[tuple[int, int]]) -> bool:
        return any(at == len(self.sequences[number]) for number, at in places)

    @property
    def letters(self) -> set[str]:
        found = {str(item) for items in self.sequences for item in items if isinstance(item, str)}
        return found | ({char.swapcase() for char in found if char.isascii()} if self.ignore_case else set())


def _same_letter(one: str, other: str) -> bool:
    return one.isascii() and other.isascii() and one.lower() == other.lower()


@cache
def _expression(segment: Segment) -> re.Pattern[str]:
    """Translate a segment into a regular expression over characters (an invalid byte is one)."""
    texts = [
        "".join(".*" if item is ANY else "." if item is ONE else re.escape(str(item)) for item in items)
        for items in segment.sequences
    ]
    flags = re.DOTALL | re.ASCII | (re.IGNORECASE if segment.ignore_case else 0)
    return re.compile("(?:" + "|".join(texts) + r")\Z", flags)


@cache
def segments_of(glob: Glob) -> tuple[Segment | str, ...] | None:
    """Split a glob into segments; None if it matches no path of this caller."""
    found: list[Segment | str] = []
    for text in _split(glob.text):
        if text in ("**", "***"):
            found.append(text)
            continue
        sequences = _alternatives(text, glob)
        if sequences is None:
            return None
        found.append(Segment(tuple(map(tuple, sequences)), glob.ignore_case))
    return tuple(found)


State = frozenset[int]
"""Where one glob may stand after some names: indices of its segments; their number if it matches."""


def _closed(segments: tuple[Segment | str, ...], places: set[int]) -> State:
    for at in sorted(places):
        last = at
        while last < len(segments) and (
            segments[last] == "***" or (segments[last] == "**" and last < len(segments) - 1)
        ):
            last += 1
            places.add(last)
    return frozenset(places)


@cache
def start(glob: Glob) -> State:
    """Return the state of a glob at the root of the mount."""
    segments = segments_of(glob)
    return frozenset() if segments is None else _closed(segments, {0})


@cache
def step(glob: Glob, state: State, name: str) -> State:
    """Return the state of a glob after one more name."""
    segments = segments_of(glob)
    if segments is None:
        return frozenset()
    after: set[int] = set()
    for at in state:
        if at == len(segments):
            continue
        segment = segments[at]
        if isinstance(segment, str):
            after.add(at)
            if at == len(segments) - 1:
                after.add(at + 1)
        elif _expression(segment).match(name):
            after.add(at + 1)
    return _closed(segments, after)


def is_match(glob: Glob, state: State) -> bool:
    """Say whether the glob matches the path that led to this state."""
    segments = segments_of(glob)
    return segments is not None and len(segments) in state


def names_of(path: str) -> list[str]:
    """Split a path into its names."""
    return [name for name in path.split("/") if name]


def matches(glob: Glob, path: str) -> bool:
    """Say whether a glob matches a path (bytes that are not UTF-8 as surrogates)."""
    state = start(glob)
    for name in names_of(path):
        state = step(glob, state, name)
    return is_match(glob, state)


def live(globs: tuple[Glob, ...], states: tuple[State, ...]) -> frozenset[Segment]:
    """Collect the segments that decide what the next name changes."""
    found = set()
    for glob, state in zip(globs, states, strict=True):
        segments = segments_of(glob) or ()
        found |= {segments[at] for at in state if at < len(segments) and isinstance(segments[at], Segment)}
    return frozenset(found)  # type: ignore[arg-type]


@cache
def sample_names(segments: frozenset[Segment]) -> tuple[str, ...]:
    """Return one name for each set of segments that some name matches together."""
    order = sorted(
        segments,
        key=lambda segment: (
            repr(segment.ignore_case),
            [len(s) for s in segment.sequences],
            str(segment.letters),
        ),
    )
    alphabet = [FRESH, *sorted(set().union(*(segment.letters for segment in order)))]
    begin = (tuple(segment.start() for segment in order), 0)
    seen, todo, found = {begin}, [(begin, "")], {}
    for (places, dots), name in todo:
        if name not in ("", ".", ".."):
            key = tuple(segment.accepts(place) for segment, place in zip(order, places, strict=True))
            found.setdefault(key, name)
        for char in alphabet:
            after = tuple(segment.step(place, char) for segment, place in zip(order, places, strict=True))
            now = dots + 1 if char == "." and 0 <= dots < 2 else 3
            if (after, now) not in seen and len(seen) < 20_000:
                seen.add((after, now))
                todo.append(((after, now), name + char))
    return tuple(found.values())

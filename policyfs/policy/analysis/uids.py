"""Sample uids for policies with ``{uid}`` in globs: one uid of each class that the globs distinguish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from policyfs.policy.globs.automaton import Automaton
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.globs.names import NameMatcher, Pattern
from policyfs.policy.globs.paths import Token, Wild

MAX_STATES: Final = 50_000
"""Maximum number of beginnings of numbers to try. With more, TooHardError is raised."""

_DIGITS: Final = "0123456789"
_MOST_DIGITS: Final = 10
_MAX_STARTS: Final = 256

Lives = tuple[int, ...]


def digit_classes(automata: Sequence[Automaton], spans: Sequence[tuple[int, int]]) -> list[tuple[int, Lives]]:
    """Return one uid, and the state of the matcher, for each way in which digits match patterns of names.
    spans: ranges of uids: the first uid, and the number after the last. Raise TooHardError."""
    patterns = {pattern for automaton in automata for pattern in _patterns(automaton)}
    matcher = NameMatcher(sorted(patterns, key=repr))
    starts = _starts(matcher, patterns, alone=all(map(_only_alone, automata)))
    found: dict[Lives, int] = {}
    for length in range(1, _MOST_DIGITS + 1):
        for uid, lives in _numbers(matcher, starts, spans, length):
            found.setdefault(lives, uid)
    return [(uid, lives) for lives, uid in found.items()]


def _numbers(
    matcher: NameMatcher, starts: Lives, spans: Sequence[tuple[int, int]], length: int
) -> Iterator[tuple[int, Lives]]:
    """Yield numbers with *length* digits in the spans: one for each way in which digits match patterns."""
    seen: set[tuple[int, object, Lives]] = set()
    todo: list[tuple[int, int, Lives]] = [(0, 0, starts)]
    for count, value, lives in todo:
        left = length - count
        if left == 0:
            yield value, lives
            continue
        for digit in _DIGITS:
            if digit == "0" and count == 0 and length > 1:
                continue
            size = 10 ** (left - 1)
            low = (value * 10 + int(digit)) * size
            inside = _relation(spans, low, low + size)
            if inside is False:
                continue
            after = tuple(matcher.step(live, digit) for live in lives)
            key = (count + 1, True if inside is True else low, after)
            if key not in seen:
                seen.add(key)
                if len(seen) > MAX_STATES:
                    raise TooHardError
                todo.append((count + 1, value * 10 + int(digit), after))


def _relation(spans: Sequence[tuple[int, int]], low: int, high: int) -> bool | None:
    """True if all numbers from *low* to before *high* are in the spans, False if none is, else None."""
    some = False
    for first, end in spans:
        if first <= low and high <= end:
            return True
        some = some or (first < high and low < end)
    return None if some else False


def _patterns(automaton: Automaton) -> Iterator[Pattern]:
    """Yield the patterns of names with a digit or a ``?``: only these distinguish uids."""
    for node in automaton.nodes:
        every: Iterable[Pattern] = (
            *(Pattern(tuple(name), False) for name in (*node.literals, *node.folded)),
            *node.patterns,
        )
        for pattern in every:
            if any(map(_reads_digits, pattern.tokens)):
                yield pattern


def _reads_digits(token: Token) -> bool:
    return token is Wild.ONE or (isinstance(token, str) and token in _DIGITS)


def _only_alone(automaton: Automaton) -> bool:
    """True if ``{uid}`` is always a whole name in the globs (such as ``/users/{uid}``), never a part."""
    return all(
        captured.tokens == (Wild.UID,)
        for node in automaton.nodes
        for captured in node.captures
        if Wild.UID in captured.tokens
    )


def _starts(matcher: NameMatcher, patterns: set[Pattern], *, alone: bool) -> Lives:
    """Return the states from which digits are read. alone: True if a uid begins where the name does."""
    begin = matcher.start(patterns)
    if alone or not patterns:
        return (begin,)
    size = sum(len(pattern.tokens) + 1 for pattern in patterns)
    if size > _MAX_STARTS:
        raise TooHardError
    return (begin, *(1 << position for position in range(size)))

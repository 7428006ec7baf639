"""Chances of the patterns for places: how often each matches in 100 MB of random bytes.

    python -m tests.redaction.chances
    python -m tests.redaction.chances --count 10000

The second line counts the files of a megabyte with a place, among so many: 4 GB in a quarter of an hour.

A pattern is a sum of sequences of characters, so its chance is a sum of products of those of its characters.
A match counts if the text around it is long enough to be searched. Longer assertions than of one character do
not count: the sum is nearly an upper bound.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from re import _constants as op
from re import _parser as parser
from typing import Final

from policyfs.redact import verdict
from policyfs.redact.core import coordinates
from policyfs.redact.core.block_starts import PLACE_MARKS
from policyfs.redact.core.categories import Tells

BYTES: Final = 100_000_000
_MOST: Final = 24
"""Length of a match in bytes that counts like all longer ones."""
_WIDE_STEP: Final = 16
_CHARS: Final = {
    **{chr(one): (1, 1 / 256) for one in (9, 10, 13, *range(0x20, 0x7F))},
    **{chr(one): (2, 1 / 256**2) for one in range(0x80, 0x800)},
    **{chr(one): (3, _WIDE_STEP / 256**3) for one in range(0x800, 0xD800, _WIDE_STEP)},
}
"""Characters of texts -> their bytes in UTF-8 and their chance; of the longer ones a sample."""
_GOES_ON: Final = sum(chance for _, chance in _CHARS.values())
_CONTROL: Final = 30 / 256
"""Chance of a byte that ends a run of text."""
_WORD: Final = ((op.CATEGORY, op.CATEGORY_WORD),)
_CATEGORIES: Final = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
}
Lengths = Counter
"""Lengths of matches in bytes -> the chance of a match of this length at a byte."""


@cache
def _of_set(items: tuple, ignore_case: bool) -> Lengths:
    found: Lengths = Counter()
    for char, (size, chance) in _CHARS.items():
        forms = {char, char.lower(), char.upper()} if ignore_case else {char}
        held = any(_is_in(form, item) for form in forms if len(form) == 1 for item in items)
        if held != (items[0][0] is op.NEGATE):
            found[size] += chance
    return found


def _is_in(char: str, item: tuple) -> bool:
    name, value = item
    if name is op.RANGE:
        return value[0] <= ord(char) <= value[1]
    if name is op.CATEGORY:
        return re.match(_CATEGORIES[value], char) is not None
    return name is op.LITERAL and ord(char) == value


def _product(one: Lengths, other: Lengths) -> Lengths:
    found: Lengths = Counter()
    for size, chance in one.items():
        for more, also in other.items():
            found[min(_MOST, size + more)] += chance * also
    return found


def _of_sequence(parts, ignore_case: bool, *, after_word: bool = False) -> Lengths:
    """after_word: True behind a word and its border: what begins with a gap has one."""
    found: Lengths = Counter({0: 1.0})
    for number, (name, value) in enumerate(parts):
        found = _product(found, _of_part(name, value, ignore_case, after_word=after_word))
        after_word = name is op.AT and number > 0
    return found


def _of_part(name, value, ignore_case: bool, *, after_word: bool = False) -> Lengths:
    if name is op.BRANCH:
        branches = (_of_sequence(branch, ignore_case, after_word=after_word) for branch in value[1])
        return sum(branches, Counter())
    if name is op.SUBPATTERN:
        ignore_case = (ignore_case or bool(value[1] & re.IGNORECASE)) and not value[2] & re.IGNORECASE
        return _of_sequence(value[3], ignore_case, after_word=after_word)
    if name in {op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT}:
        least, most, repeated = value
        least = max(least, after_word)
        one, times, found = _of_sequence(repeated, ignore_case), Counter({0: 1.0}), Counter()
        for count in range(min(most, least + _MOST) + 1):
            found.update(times if count >= least else {})
            times = _product(times, one)
        return found
    if name is op.AT:
        return Counter({0: 1 - _of_set(_WORD, False).total()})
    if name is op.ASSERT_NOT and len(value[1]) == 1 and value[1][0][0] in {op.IN, op.LITERAL}:
        return Counter({0: 1 - _of_part(*value[1][0], ignore_case).total()})
    if name is op.ASSERT and (value[0] < 0):
        return _of_sequence(value[1], ignore_case)
    if name in {op.ASSERT, op.ASSERT_NOT, op.GROUPREF}:
        return Counter({0: 1.0})
    items = {op.IN: value, op.ANY: [(op.NEGATE, None), (op.LITERAL, 10)]}
    plain = [(op.NEGATE, None), (op.LITERAL, value)] if name is op.NOT_LITERAL else [(op.LITERAL, value)]
    return _of_set(tuple(items.get(name, plain)), ignore_case)


def _around(missing: int) -> float:
    """The chance that at least so many bytes of text are around a match."""
    return _GOES_ON**missing * (1 + missing * (1 - _GOES_ON))


def _is_searched(size: int, least: int) -> float:
    """The chance that a match of this size is in a text of at least *least* bytes, or in a whole run."""
    runs = _CONTROL**2 * sum((n + 1) * _GOES_ON**n for n in range(max(0, 6 - size), max(0, least - size)))
    return _around(max(0, least - size)) + runs


def chance(pattern: re.Pattern[str], least: int = verdict._LEAST_BYTES, *, whole: bool = False) -> float:
    """Matches of a pattern in 100 MB of random bytes: in texts of so many bytes, or whole ones."""
    parts = parser.parse(pattern.pattern, pattern.flags & re.IGNORECASE)
    last = parts[-1]
    if last[0] is op.ASSERT and last[1][0] > 0:  # what a pair is followed by
        parts = [*parts[:-1], *last[1][1]]
    lengths = _of_sequence(parts, bool(pattern.flags & re.IGNORECASE))
    if whole:
        return BYTES * (1 - _GOES_ON) ** 2 * sum(part for size, part in lengths.items() if size >= least)
    return BYTES * sum(part * _is_searched(size, least) for size, part in lengths.items())


def chances() -> Iterator[tuple[str, float]]:
    """Each pattern that random bytes are searched for, and its chance; the last is what does not count."""
    marked = sum(256.0 ** -len(mark) for mark in (*PLACE_MARKS, verdict._OF_AIRCRAFT))
    yield "marks of metadata", BYTES * marked
    for _, pattern in (*coordinates._COORDINATES, *coordinates._WITH_HINTS):
        yield pattern.pattern, chance(pattern)
    for one in ("_PAIR", "_QUERY", "_WITHOUT_SIGNS", "_SEVERAL_MAPS", "_GRID", "_TWO_LINES", "_LINES"):
        yield one, chance(getattr(coordinates, one))
    yield "_BELOW_PLACES", chance(coordinates._BELOW_PLACES, whole=True)
    yield "_MAPS", sum(chance(re.compile(re.escape(one), re.IGNORECASE)) for one in coordinates._MAPS)
    sign = re.compile(r"\d\d\s?[#$]\s?\d[\d.,]{1,11}\s?['#]")  # characters of one byte for those of Latin-1
    yield "degrees in Latin-1", chance(sign, 6)
    yield "_PLACE_NAME", chance(verdict._PLACE_NAME)
    lone = chance(verdict._WEAK) - chance(verdict._WEAK, verdict._SURE_BYTES)
    yield "_WEAK alone", -lone
    yield "two of _WEAK", lone**2 * verdict._NEAR_BYTES / BYTES


def main() -> None:
    """Print the chances, or count the matches in so many megabytes of random bytes."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, metavar="MB", default=0)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    noise = random.Random(given.seed)
    found = 0
    for number in range(given.count):
        data = noise.randbytes(1_000_000)
        if verdict._searched(data, Tells.LOCATION):
            found += 1
            print(f"a place in megabyte {number} ({found} so far)", flush=True)
    if given.count:
        print(f"{found} in {given.count} MB: {100 * found / given.count:.2f} in 100 MB")
        return
    for name, some in sorted(chances(), key=lambda row: -row[1]):
        print(f"{some:8.4f} {name[:100]!r}")
    print(f"{sum(some for _, some in chances()):8.4f} in all")


if __name__ == "__main__":
    main()

"""What files of many kinds are: named parts, one behind the other; and what may befall such a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

Mutator = Callable[[bytes, Random], bytes]
"""Bytes like those given, one to a few accidents later. It never raises, whatever it is given."""

MOST_BYTES = 65_536
"""Of a file that a mutator makes."""
MOST_PARTS = 400
_LEADS = (0, 0, 0, 4, 6, 14, 29, 35, 75)
"""So many bytes that stand before the content of some parts: those of a part cut in two have them twice."""


@dataclass(slots=True)
class Part:
    """A chunk, a segment, an element: what its header says and what it holds."""

    name: bytes
    body: bytes
    lie: int = 0
    """How much longer it says that it is."""


def change(parts: list[Part], names: Sequence[bytes], rng: Random, inside: Mutator) -> None:
    """One accident, in place. names: those that parts of such a file may have."""
    if not parts:
        parts.append(Part(rng.choice(names), b""))
        return
    at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
    part = parts[at]
    cut = rng.randint(0, len(part.body))
    match rng.randint(0, 15):
        case 0 if len(parts) < MOST_PARTS:
            parts.insert(at, replace(parts[other]))
        case 1:
            parts[at], parts[other] = parts[other], part
        case 2:
            del parts[at]
        case 3:
            part.name = rng.choice(names)
        case 4:
            part.body = part.body[:cut]
        case 5:
            part.body += rng.choice((b"\0", bytes(rng.randint(2, 9)), b"abc", b" "))
        case 6:
            part.lie = rng.choice((1, -1, 2, -2, 5, -7, 1000, 0x7FFFFFFF))
        case 7:
            lead = part.body[: rng.choice(_LEADS)]
            parts.insert(at + 1, Part(part.name, lead + part.body[cut:]))
            part.body = part.body[:cut]
        case 8 if part is not parts[other]:
            part.body += parts[other].body
            del parts[other]
        case 9:
            parts.insert(
                at, Part(rng.choice(names), rng.choice((b"", bytes(rng.randint(1, 40)), part.body[cut:])))
            )
        case _:
            part.body = inside(part.body, rng)


def rearrange(words: list[bytes], at: int, rng: Random) -> None:
    """One word goes, changes places with another, or has some others put before it."""
    other = rng.randrange(len(words))
    match rng.randint(0, 2):
        case 0:
            del words[at]
        case 1:
            words[at], words[other] = words[other], words[at]
        case _:
            words[at:at] = words[other : other + rng.randint(1, 6)]


def some(rng: Random) -> range:
    """So many accidents at once: mostly one, rarely four."""
    return range(rng.choice((1, 1, 1, 2, 2, 3, 4)))

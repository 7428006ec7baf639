"""Categories of metadata (sorts of data), and the words of a policy that hide data of these categories.

A rule names words (``require: {redact: [location, device]}``), and each word hides categories. In the tables
of this package each tag, record, property or box has *tells*: the categories of the data that it may hold.
*hide* has all categories that the rule's words hide. A part is removed if ``tells & hide`` is not empty.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from functools import cache
from types import MappingProxyType
from typing import Final


class Tells(enum.Flag):
    """Categories of the data that a part of a file may hold: one flag for each category."""

    LOCATION = enum.auto()
    """The place: coordinates, place names, map links, and digests that would confirm a guess of the place."""
    DEVICE = enum.auto()
    """The device: make, model, serial numbers, lens, software, host name, unique ids."""
    TIME = enum.auto()
    """The time: capture and modification times, time zones, sub-seconds."""
    PEOPLE = enum.auto()
    """People and their words: names, faces, keywords, captions, comments, copyright, artist."""
    OTHER = enum.auto()
    """Other metadata (exposure, edits); only ``all-metadata`` removes it."""

    # Each tag of each photo asks, and Enum's own operators take four times as long.
    def __and__(self, other: Tells) -> Tells:
        return _COMBINED[self._value_ & other._value_]

    def __or__(self, other: Tells) -> Tells:
        return _COMBINED[self._value_ | other._value_]


LOCATION, DEVICE, TIME, PEOPLE, OTHER = Tells
_COMBINED: Final[tuple[Tells, ...]] = tuple(Tells(value) for value in range(1 << len(Tells)))

NOTHING: Final = Tells(0)
"""No category: data needed to show or play the file (sizes, orientation, colour). It is never removed."""
UNKNOWN: Final = Tells.LOCATION | Tells.DEVICE | Tells.TIME | Tells.PEOPLE | Tells.OTHER
"""All categories: unknown metadata may tell anything."""

WORDS: Final = MappingProxyType(
    {
        "location": Tells.LOCATION,
        "device": Tells.DEVICE,
        "time": Tells.TIME,
        "people": Tells.PEOPLE,
        "all-metadata": UNKNOWN,
    }
)
"""A dictionary from the words of a policy (``location``) to the categories that they hide."""


def hidden_by(words: Iterable[str]) -> Tells:
    """Return all categories that these words hide. Raises KeyError for a word that is not in WORDS."""
    hide = NOTHING
    for word in words:
        hide |= WORDS[word]
    return hide


@cache
def in_words(tells: Tells) -> str:
    """Return the names of categories for messages: ``location, time``. The name of OTHER is ``other``."""
    return ", ".join(str(part.name).lower() for part in Tells if part in tells)

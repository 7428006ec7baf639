"""Categories of metadata: the sorts of facts in it, and the words of a policy that remove it.

A rule names words (``require: {redact: [location, device]}``), and each word hides categories. In the tables
of this package each tag, record, property or box has its categories (*tells*). It is hidden if ``tells &
hide`` is not empty.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final


class Tells(enum.Flag):
    """Facts that a piece of metadata may tell; several flags if it may tell several."""

    LOCATION = enum.auto()
    """The place: coordinates, place names, map links, and digests that would confirm a guess."""
    DEVICE = enum.auto()
    """The device: make, model, serial numbers, lens, software, host name, unique ids."""
    TIME = enum.auto()
    """The time: capture and modification times, time zones, sub-seconds."""
    PEOPLE = enum.auto()
    """People and their words: names, faces, keywords, captions, comments, copyright, artist."""
    OTHER = enum.auto()
    """Other metadata (exposure, edits); only ``all-metadata`` removes it."""


NOTHING: Final = Tells(0)
"""Data needed to show or play the file as it is (sizes, orientation, colour): never removed."""
UNKNOWN: Final = Tells.LOCATION | Tells.DEVICE | Tells.TIME | Tells.PEOPLE | Tells.OTHER
"""Categories of unknown metadata: it may tell anything."""

WORDS: Final = MappingProxyType(
    {
        "location": Tells.LOCATION,
        "device": Tells.DEVICE,
        "time": Tells.TIME,
        "people": Tells.PEOPLE,
        "all-metadata": UNKNOWN,
    }
)
"""The words of a policy -> the categories that they hide."""


def hidden_by(words: Iterable[str]) -> Tells:
    """Return all categories that these words hide. Raises KeyError for a word that is not in WORDS."""
    hide = NOTHING
    for word in words:
        hide |= WORDS[word]
    return hide


def in_words(tells: Tells) -> str:
    """Return ``location, time`` for people; ``other`` for metadata of none of the four words."""
    return ", ".join(str(part.name).lower() for part in Tells if part in tells)

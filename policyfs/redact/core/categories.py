"""What a piece of metadata tells, and so which words of a policy take it out.

A rule names words (``require: {redact: [location, device]}``); each tag, record, property or box in
the tables of this package carries what it tells. What is asked for and what is told meet in one
place: ``tells & hide``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from types import MappingProxyType
from typing import Final


class Tells(enum.Flag):
    """What may be learnt from a piece of metadata; several where it may tell several."""

    LOCATION = enum.auto()
    """Where: coordinates, place names, map links, and digests that would confirm a guess."""
    DEVICE = enum.auto()
    """With what: make, model, serial numbers, lens, software, host name, unique ids."""
    TIME = enum.auto()
    """When: capture and modification times, time zones, sub-seconds."""
    PEOPLE = enum.auto()
    """Who and what is said: names, faces, keywords, captions, comments, copyright, artist."""
    OTHER = enum.auto()
    """Metadata that tells none of these (exposure, edits); ``all-metadata`` takes it, too."""


NOTHING: Final = Tells(0)
"""Needed to show or play the file as it is (sizes, orientation, colour): never taken out."""
UNKNOWN: Final = Tells.LOCATION | Tells.DEVICE | Tells.TIME | Tells.PEOPLE | Tells.OTHER
"""What nobody has looked into may tell anything."""

WORDS: Final = MappingProxyType(
    {
        "location": Tells.LOCATION,
        "device": Tells.DEVICE,
        "time": Tells.TIME,
        "people": Tells.PEOPLE,
        "all-metadata": UNKNOWN,
    }
)
"""The words of a policy -> what they hide."""


def hidden_by(words: Iterable[str]) -> Tells:
    """All that these words hide. Raises KeyError for a word that is none of WORDS."""
    hide = NOTHING
    for word in words:
        hide |= WORDS[word]
    return hide


def in_words(tells: Tells) -> str:
    """``location, time`` for people; ``other`` for metadata that tells none of the four."""
    return ", ".join(str(part.name).lower() for part in Tells if part in tells)

"""Rules for tags: the categories of each tag, and the way to examine the tag's value."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells


class How(enum.Enum):
    """Type of a tag's value, which decides how the value is examined."""

    VALUE = "value"
    DIRECTORY = "directory"
    XMP = "XMP"
    IIM = "IPTC"
    IRB = "Photoshop"
    PICTURE = "picture"
    NOTE = "maker note"
    PRIVATE = "DNG private data"
    CITY = "numbers, a city's among them"

    __hash__ = object.__hash__  # each tag is looked up in sets; Enum's __hash__ is slow


class Rule(NamedTuple):
    """One tag: its categories, the type of its value, and the role of the directory that it refers to."""

    tells: Tells
    how: How = How.VALUE
    role: str = ""


Rules = Mapping[int, Rule]
UNNAMED: Final = Rule(UNKNOWN)
"""Rule for a tag that is in no table."""


def whole_tells(rule: Rule) -> Tells:
    """Return the categories of a tag that goes or stays as a whole: of a time zone, the city's, too."""
    return rule.tells | (Tells.LOCATION if rule.how is How.CITY else NOTHING)


def numbers(text: str) -> Iterator[int]:
    """Yield the tags in hexadecimal ``"1 2e"``. No ranges: nobody knows all within. Raises ValueError."""
    return (int(word, 16) for word in text.split())


def rules(*rows: tuple[str, Tells] | tuple[str, Tells, How] | tuple[str, Tells, How, str]) -> Rules:
    """Build a table of rules. A row has tags (in the format of `numbers`) and the fields of their Rule."""
    return MappingProxyType({tag: Rule(*rest) for text, *rest in rows for tag in numbers(text)})

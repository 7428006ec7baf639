"""Recognise values of TIFF tags that say nothing: one byte repeated, a small number, a word like ``Auto``.

What stays because of it stays under every word of a policy (see core/filler.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.filler import is_empty_header, is_uniform, is_word
from policyfs.redact.exif.ifd import Entry, Frame

MOST_NUMBERS: Final = 2
"""Different small numbers in a directory's tags that nobody has named: three could be degrees, minutes and
seconds."""
_MAX_NUMBER: Final = 0xFF
_BYTE_TYPES: Final = frozenset({1, 6, 7})
_TEXT_TYPES: Final = frozenset({*_BYTE_TYPES, 2, 129})
_NUMBER_TYPES: Final = frozenset({1, 3, 4, 6, 7, 8, 9})
"""Field types of TIFF that are whole numbers of at most four bytes."""
_VERSION: Final = re.compile(rb"0[0-9][0-9]0")
"""How makers write the version of a block, as Exif does: 0100, 0210."""
_POINTERS: Final = frozenset({0x014A, 0x8769, 0x8825, 0x927C, 0xA005})
"""Tags that refer to directories, wherever they stand: a small number leads somewhere."""


def is_small_number(kind: int, count: int, room: bytes, order: str) -> bool:
    """Whether a value that stands in its entry (TIFF 6.0) is one whole number below 256 and no more.

    kind: its field type. room: the four (or eight) bytes of the entry. order: "<" or ">".
    """
    if kind in _BYTE_TYPES and 1 < count <= 4:  # a number in the order of its maker
        room, rest = room[:count], room[count:]
        ends = (room[:-1], room[1:])
        return any(not any(part) for part in ends) and not any(rest)
    if count != 1 or kind not in _NUMBER_TYPES:
        return False
    size = 1 if kind in _BYTE_TYPES else 2 if kind in (3, 8) else 4
    number = int.from_bytes(room[:size], "little" if order == "<" else "big")
    return number <= _MAX_NUMBER and not any(room[size:])


def value_says_nothing(kind: int, count: int, value: bytes, order: str) -> bool:
    """Whether the value of a tag that nobody has named says nothing: one byte repeated, one whole number
    below 256, a word that stands for no value.

    value: all its bytes, and those behind it in its entry if it stands there (TIFF 6.0).
    """
    if is_uniform(value) or is_empty_header(value):
        return True
    if kind in _TEXT_TYPES and (is_word(value) or _VERSION.fullmatch(value.rstrip(b"\0"))):
        return True
    return len(value) <= 8 and is_small_number(kind, count, value, order)


def number_in(kind: int, room: bytes) -> int:
    """The small number that stands in an entry, whichever way it is written; 0: none.

    kind: its field type. room: the four (or eight) bytes of the entry.
    """
    core = room.strip(b"\0")
    blank = core[:1] == b"\xff" or (kind in (2, 129) and core[:1] in (b" ", b"-"))
    return core[0] if core and is_uniform(core) and not blank else 0


def are_too_many(numbers: Iterable[int]) -> bool:
    """Whether the small numbers of a directory's unnamed tags (0: none) could tell something together."""
    return len(set(numbers) - {0}) > MOST_NUMBERS


def behind_value(room: bytes, size: int) -> bytes:
    """What stands in an entry behind a value of so many bytes, unless that is zeros or ones."""
    behind = room[size:]
    return behind if behind.strip(b"\0") and behind.strip(b"\xff") else b""


def is_empty(entry: Entry, frame: Frame) -> bool:
    """Whether a tag has no value, and none where one would stand."""
    return entry.count == 0 and entry.tag not in _POINTERS and not any(entry.raw[-frame.offset_bytes :])


def tag_says_nothing(entry: Entry, frame: Frame, tells: Tells, value: bytes) -> bool:
    """Whether a tag that goes by what it tells may stay, since nothing stands in it.

    Of a tag that is known, only in a maker note, and only a text that is not set: a small number could be a
    city's, and zero, too (Pentax' first is Pago Pago).
    """
    behind = behind_value(entry.raw[-frame.offset_bytes :], entry.size) if entry.inline else b""
    if tells == UNKNOWN and entry.tag not in _POINTERS:
        return value_says_nothing(entry.type, entry.count, value + behind, frame.order)
    plain = value.rstrip(b"\0")
    text = frame.note and (entry.type in (2, 129) or (entry.type in _BYTE_TYPES and entry.size > 4))
    return text and is_uniform(plain) and plain[:1] in (b"", b" ", b"-")


def number_of(entry: Entry, frame: Frame) -> int:
    """number_in for an entry of a directory that is read by range."""
    return number_in(entry.type, entry.raw[-frame.offset_bytes :]) if entry.inline else 0

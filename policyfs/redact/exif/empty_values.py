"""Detection of TIFF tag values without information: one repeated byte, a small number, a word like ``Auto``.

Such values are filler (core/filler.py): they may stay in tags that would be removed otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.filler import is_empty_header, is_uniform, is_word
from policyfs.redact.exif.ifd import Entry

MOST_NUMBERS: Final = 2
"""Maximum number of small numbers in a directory's unnamed tags. Three may be degrees, minutes, seconds."""
_MAX_NUMBER: Final = 0xFF
_BYTE_TYPES: Final = frozenset({1, 6, 7})
_TEXT_TYPES: Final = frozenset({*_BYTE_TYPES, 2, 129})
_NUMBER_TYPES: Final = frozenset({1, 3, 4, 6, 7, 8, 9})
"""Field types of TIFF for whole numbers of at most four bytes."""
_VERSION: Final = re.compile(rb"0[0-9][0-9]0")
"""Pattern of a version number in maker notes and in Exif: 0100, 0210."""
_BAROMETER: Final = ("Olympus settings", 0x0901)
_PRESSURE: Final = 0x0900
"""Tags of Olympus: the height in metres and feet, and the pressure. Without a barometer both are zero."""
_GPS_VERSION: Final = re.compile(rb"\x02[\0-\x04][\0\x01]\0\0*")
"""Pattern of GPSVersionID: 2.0.0.0 to 2.4.0.0 (Exif 3.0, 4.6.7)."""
_POINTERS: Final = frozenset({0x014A, 0x8769, 0x8825, 0x927C, 0xA005})
"""Tags that refer to directories: a small number in such a tag is an offset, not an empty value."""


def is_small_number(kind: int, count: int, room: bytes, order: str) -> bool:
    """Return True for one integer below 256 in an entry's value bytes (room). kind: field type. order: < or
    >.
    """
    if kind in _BYTE_TYPES and 1 < count <= 4:  # these bytes may be one number, in either byte order
        room, rest = room[:count], room[count:]
        ends = (room[:-1], room[1:])
        return any(not any(part) for part in ends) and not any(rest)
    if count != 1 or kind not in _NUMBER_TYPES:
        return False
    size = 1 if kind in _BYTE_TYPES else 2 if kind in (3, 8) else 4
    number = int.from_bytes(room[:size], "little" if order == "<" else "big")
    return number <= _MAX_NUMBER and not any(room[size:])


def value_says_nothing(kind: int, count: int, value: bytes, order: str) -> bool:
    """Return True if the value of a tag without a known name contains no information.

    Such a value is one repeated byte, one integer below 256, or a word that stands for no value ("Auto").
    value: all bytes of the value. If the value is stored in its entry (TIFF 6.0), the unused value bytes of
    the entry follow.
    """
    if is_uniform(value) or is_empty_header(value):
        return True
    if kind in _TEXT_TYPES and (is_word(value) or _VERSION.fullmatch(value.rstrip(b"\0"))):
        return True
    return len(value) <= 8 and is_small_number(kind, count, value, order)


def number_in(kind: int, room: bytes) -> int:
    """Return the small number in the value bytes (room) of an entry of any integer type (kind), or 0."""
    core = room.strip(b"\0")
    blank = core[:1] == b"\xff" or (kind in (2, 129) and core[:1] in (b" ", b"-"))
    return core[0] if core and is_uniform(core) and not blank else 0


def are_too_many(numbers: Iterable[int]) -> bool:
    """Return True if a directory's small numbers may be degrees, minutes and seconds. 0 does not count."""
    return len(set(numbers) - {0}) > MOST_NUMBERS


def behind_value(room: bytes, size: int) -> bytes:
    """Return an entry's value bytes behind the first *size*; b"" if they are all 0 or all 0xff."""
    behind = room[size:]
    return behind if behind.strip(b"\0") and behind.strip(b"\xff") else b""


def is_empty(entry: Entry) -> bool:
    """Return True if a tag has no value, and the value bytes of its entry are zeros."""
    return entry.count == 0 and entry.tag not in _POINTERS and not any(entry.room)


def is_version_alone(entries: Sequence[Entry]) -> bool:
    """Return True if a GPS directory has only its version. Cameras without a receiver write it."""
    if len(entries) != 1:
        return False
    (entry,) = entries
    form = (entry.tag, entry.type, entry.count)
    room = entry.raw[entry.start - entry.position :]
    return form == (0, 1, 4) and _GPS_VERSION.fullmatch(room) is not None


def unnamed_says_nothing(entry: Entry, value: bytes) -> bool:
    """Return True if an entry's value and its unused bytes have no information."""
    behind = behind_value(entry.room, entry.size) if entry.inline else b""
    return value_says_nothing(entry.type, entry.count, value + behind, entry.frame.order)


def tag_says_nothing(entry: Entry, tells: Tells, value: bytes) -> bool:
    """Return True if a tag with data to hide may stay, because its value has no information.

    tells: the categories of the tag. A tag with a known name may stay only in a maker note, and only if its
    value is an empty text, or the height of a camera without a barometer. A small number in such a tag may be
    information: Pentax stores the number of a city, and city 0 is Pago Pago.
    """
    if tells == UNKNOWN and entry.tag not in _POINTERS:
        return unnamed_says_nothing(entry, value)
    plain = value.rstrip(b"\0")
    if (entry.directory.role, entry.tag) == _BAROMETER and not plain:
        pressure = [other for other in entry.directory.entries if other.tag == _PRESSURE]
        return not any(other.room.strip(b"\0") for other in pressure)
    text = entry.type in (2, 129) or (entry.type in _BYTE_TYPES and entry.size > 4)
    return entry.frame.note and text and is_uniform(plain) and plain[:1] in (b"", b" ", b"-")


def number_of(entry: Entry) -> int:
    """Return the value of an entry if it is a small number and stored in the entry (number_in), else 0."""
    return number_in(entry.type, entry.room) if entry.inline else 0

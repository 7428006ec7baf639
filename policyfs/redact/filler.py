"""Recognise bytes that fill room and say nothing: padding, one byte repeated, words like ``Auto``.

What stays because of it stays under every word of a policy, so it must be too little to tell anything:
three bytes are fewer than a place, a day or a serial number needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from policyfs.redact.ranges import CHUNK_BYTES, MAX_ZEROS_BYTES, ByteSource, is_blank
from policyfs.redact.tells import UNKNOWN, Tells
from policyfs.redact.text import bytes_tell_place
from policyfs.redact.tiffdirs import Entry, Frame

MOST_BYTES: Final = 3
"""So few bytes beside zeros say nothing, whatever they are."""
MOST_NUMBERS: Final = 2
"""Different small numbers in a directory's tags that nobody has named: three could be degrees, minutes and
seconds."""
MAX_FILLER_BYTES: Final = 1 << 16
"""Longer filler is looked through only for one byte repeated."""
_SHORT_BYTES: Final = 256
_MAX_NUMBER: Final = 0xFF
_BYTE_TYPES: Final = frozenset({1, 6, 7})
_TEXT_TYPES: Final = frozenset({*_BYTE_TYPES, 2, 129})
_NUMBER_TYPES: Final = frozenset({1, 3, 4, 6, 7, 8, 9})
"""Field types of TIFF that are whole numbers of at most four bytes."""

_HEADERS: Final = frozenset(
    {
        b"\0\0\0\x08wide",  # QuickTime: room for a longer header of the box behind it
        b"\0\0\0\x08mdat",
        b"\0\0\0\x08free",
        b"\0\0\0\x08skip",
        b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x10",
        b"\x1c\xea\0\0\0\x08",  # how Microsoft's programs begin the padding of EXIF
    }
)
_WORDS: Final = frozenset(
    b"0 1 {} [] () - -- --- auto manual on off yes no none null nil normal standard default unknown n/a"
    b" undef true false std low high hard soft fine".split()
)
"""What cameras write where they have nothing to say, in any case."""
_CODES: Final = frozenset({b"NO", b"ON"})
"""Written so, words may be codes of a country or a province: Norway, Ontario."""
_MAX_WORD_BYTES: Final = 8
_VERSION: Final = re.compile(rb"0[0-9][0-9]0")
"""How makers write the version of a block, as Exif does: 0100, 0210."""
_PRODUCED: Final = b"IsoMedia File Produced with "
_MAX_PRODUCED_BYTES: Final = 96
_POINTERS: Final = frozenset({0x014A, 0x8769, 0x8825, 0x927C, 0xA005})
"""Tags that refer to directories, wherever they stand: a small number leads somewhere."""


def is_uniform(data: bytes) -> bool:
    """Whether all bytes are the same (of none, too)."""
    return data == data[:1] * len(data)


def is_word(data: bytes) -> bool:
    """Whether bytes are one of the words that stand for no value, with blanks and zeros behind."""
    text = data.rstrip(b"\0 ")
    return not text or (len(text) <= _MAX_WORD_BYTES and text.lower() in _WORDS and text not in _CODES)


def says_nothing(data: bytes) -> bool:
    """Whether bytes that nothing refers to are filler: they may stay under every word.

    One byte repeated, up to three bytes between zeros, a header of an empty box.
    """
    core = data.strip(b"\0")
    return len(core) <= MOST_BYTES or is_uniform(core) or data.rstrip(b"\0") in _HEADERS or data in _HEADERS


def names_a_muxer(data: bytes) -> bool:
    """Whether bytes are the line that writers of MP4 leave in free space. It tells a program, no place."""
    text = data.strip(b"\0")
    short = len(text) <= _MAX_PRODUCED_BYTES and text.startswith(_PRODUCED)
    return short and text.isascii() and text.decode("ascii").isprintable() and not bytes_tell_place(text)


def range_says_nothing(source: ByteSource, start: int, end: int) -> bool:
    """says_nothing for [start, end) of a source; reads no further than it must, and not that much of it
    where it is more than MAX_ZEROS_BYTES: who says so may have written a hole.
    """
    size = end - start
    if size > MAX_ZEROS_BYTES:
        return False
    head = source.read(start, min(size, _SHORT_BYTES))
    core = head.strip(b"\0")
    if len(core) > MOST_BYTES and not is_uniform(core) and head.rstrip(b"\0") not in _HEADERS:
        return False
    return (
        says_nothing(source.read(start, size))
        if size <= MAX_FILLER_BYTES
        else _is_one_run(source, start, end)
    )


def _is_one_run(source: ByteSource, start: int, end: int) -> bool:
    """Whether [start, end) is one byte repeated, or a few bytes, with zeros at most before and behind."""
    byte, ended = b"", False
    for at in range(start, end, CHUNK_BYTES):
        chunk = source.read(at, min(CHUNK_BYTES, end - at))
        if is_blank(chunk):
            ended = bool(byte)
            continue
        core = chunk.strip(b"\0")
        short = len(core) <= MOST_BYTES and not byte
        if ended or not (short or is_uniform(core)) or (byte and chunk[:1] != byte):
            return False
        byte, ended = core[:1], chunk[-1] == 0 or not is_uniform(core)
    return True


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
    if is_uniform(value) or value.rstrip(b"\0") in _HEADERS:
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

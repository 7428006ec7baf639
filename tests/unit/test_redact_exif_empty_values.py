"""Values that say nothing, and values that nearly do."""

from __future__ import annotations

import struct

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.exif.empty_values import (
    MOST_NUMBERS,
    are_too_many,
    behind_value,
    is_empty,
    is_small_number,
    number_in,
    number_of,
    tag_says_nothing,
    unnamed_says_nothing,
    value_says_nothing,
)
from policyfs.redact.exif.ifd import TYPE_SIZES, Directory, Entry, Frame
from policyfs.redact.exif.tags import IMAGE

BYTE, ASCII, SHORT, LONG, UNDEFINED, FLOAT = 1, 2, 3, 4, 7, 11
GPS_IFD = 0x8825


def entry(tag: int, kind: int, count: int, room: bytes, order: str = "<", *, note: bool = False) -> Entry:
    """An entry of a directory, with the value within it or elsewhere."""
    size = TYPE_SIZES[kind] * count
    raw = struct.pack(f"{order}HHI", tag, kind, count) + room
    made = Entry(tag, kind, count, 0, 8, size, raw, inline=size <= 4)
    Directory(0, Frame(order, note=note), IMAGE, raw, [made], chained=False)
    return made


@pytest.mark.parametrize(
    ("kind", "count", "room", "order", "small"),
    [
        (SHORT, 1, b"\xff\0\0\0", "<", True),
        (SHORT, 1, b"\0\xff\0\0", "<", False),  # 65280
        (SHORT, 1, b"\0\xff\0\0", ">", True),
        (SHORT, 1, b"\1\0\0\0", ">", False),
        (SHORT, 1, b"\1\0\2\0", "<", False),  # something is behind it
        (SHORT, 2, b"\1\0\0\0", "<", False),
        (LONG, 1, b"\xff\0\0\0", "<", True),
        (LONG, 1, b"\0\1\0\0", "<", False),
        (BYTE, 1, b"\xff\0\0\0", "<", True),
        (BYTE, 1, b"\xff\1\0\0", "<", False),
        (UNDEFINED, 4, b"\0\0\0\7", "<", True),
        (UNDEFINED, 4, b"\7\0\0\0", ">", True),
        (UNDEFINED, 4, b"\7\0\0\7", "<", False),
        (UNDEFINED, 2, b"\7\0\0\1", "<", False),
        (UNDEFINED, 5, b"\7\0\0\0", "<", False),
        (FLOAT, 1, b"\1\0\0\0", "<", False),
        (ASCII, 1, b"5\0\0\0", "<", False),
        (LONG, 0, bytes(4), "<", False),
    ],
)
def test_one_whole_number_below_256_is_small(
    kind: int, count: int, room: bytes, order: str, small: bool
) -> None:
    assert is_small_number(kind, count, room, order) is small


@pytest.mark.parametrize(
    ("kind", "value", "nothing"),
    [
        (ASCII, b"Auto\0", True),
        (ASCII, b"Oslo\0", False),
        (LONG, b"Auto", False),
        (ASCII, b"0210\0", True),
        (ASCII, b"0215\0", False),
        (LONG, b"\xff" * 40, True),
        (LONG, b"\xff" * 40 + b"\0", False),
        (SHORT, b"\7\0\0\0", True),
        (SHORT, b"\7\0\0\0" + bytes(4), True),
        (SHORT, b"\7\0\0\0" + bytes(5), False),
        (UNDEFINED, b"", True),
    ],
)
def test_values_of_unnamed_tags(kind: int, value: bytes, nothing: bool) -> None:
    assert value_says_nothing(kind, 1, value, "<") is nothing


@pytest.mark.parametrize(
    ("kind", "room", "number"),
    [
        (SHORT, b"\7\0\0\0", 7), (SHORT, b"\0\7\0\0", 7), (UNDEFINED, b"\7\7\7\7", 7), (LONG, bytes(4), 0),
        (LONG, b"\7\1\0\0", 0), (LONG, b"\xff\xff\xff\xff", 0), (ASCII, b"  \0\0", 0), (ASCII, b"-\0\0\0", 0),
        (LONG, b"\x20\0\0\0", 32),
    ],
)  # fmt: skip
def test_the_number_of_an_entry(kind: int, room: bytes, number: int) -> None:
    assert number_in(kind, room) == number
    assert number_of(entry(0xC001, kind, 1, room)) == number


def test_three_different_numbers_could_be_degrees_minutes_and_seconds() -> None:
    assert MOST_NUMBERS == 2
    assert not are_too_many([7, 8, 7, 0, 8])
    assert are_too_many([7, 8, 0, 9])
    assert not are_too_many([])


def test_bytes_behind_a_value() -> None:
    assert behind_value(b"\7abc", 1) == b"abc"
    assert behind_value(b"\7\0\0\0", 1) == b""
    assert behind_value(b"\7\xff\xff\xff", 1) == b""
    assert behind_value(b"\7\0\xff\0", 1) == b"\0\xff\0"
    assert behind_value(b"\7abc", 4) == b""


def test_a_tag_without_a_value_is_empty_unless_it_leads_to_a_directory() -> None:
    assert is_empty(entry(0xC001, LONG, 0, bytes(4)))
    assert not is_empty(entry(0xC001, LONG, 0, b"\0\0\0\1"))
    assert not is_empty(entry(0xC001, LONG, 1, bytes(4)))
    assert not is_empty(entry(GPS_IFD, LONG, 0, bytes(4)))


def test_bytes_behind_an_unnamed_value_count_as_part_of_it() -> None:
    assert unnamed_says_nothing(entry(0xC001, SHORT, 1, b"\7\0\0\0"), b"\7\0")
    assert not unnamed_says_nothing(entry(0xC001, SHORT, 1, b"\7\0ab"), b"\7\0")
    assert unnamed_says_nothing(entry(0xC001, SHORT, 1, b"\7\0\xff\xff"), b"\7\0")


def test_a_known_tag_stays_only_as_an_unset_text_of_a_maker_note() -> None:
    blank = entry(0x0095, ASCII, 4, b"   \0", note=True)
    assert tag_says_nothing(blank, Tells.DEVICE, b"   \0")
    assert not tag_says_nothing(entry(0x0095, ASCII, 4, b"   \0"), Tells.DEVICE, b"   \0")
    assert not tag_says_nothing(entry(0x0095, ASCII, 4, b"aaa\0", note=True), Tells.DEVICE, b"aaa\0")
    city = entry(0x0023, BYTE, 1, bytes(4), note=True)
    assert not tag_says_nothing(city, Tells.LOCATION, b"\0"), "the first city has the number zero"
    assert tag_says_nothing(entry(0x0023, BYTE, 6, bytes(4), note=True), Tells.LOCATION, bytes(6))


@pytest.mark.parametrize(
    ("value", "pressure", "stays"),
    [(bytes(8), 0, True), (bytes(8), 10132, False), (b"\0\0\0\1".ljust(8, b"\0"), 0, False)],
)
def test_the_height_of_an_olympus_without_a_barometer_stays(value: bytes, pressure: int, stays: bool) -> None:
    """At the sea the height is zero, too, but the pressure is not."""
    height = entry(0x0901, 9, 2, bytes(4), note=True)
    other = entry(0x0900, SHORT, 1, struct.pack("<HH", pressure, 0), note=True)
    frame = Frame("<", note=True)
    Directory(0, frame, "Olympus settings", b"", [other, height], chained=False)
    assert tag_says_nothing(height, Tells.LOCATION, value) is stays
    Directory(0, frame, "Olympus equipment", b"", [height], chained=False)
    assert not tag_says_nothing(height, Tells.LOCATION, value)


def test_an_unknown_tag_stays_if_its_value_says_nothing_but_no_pointer_does() -> None:
    assert tag_says_nothing(entry(0xC001, SHORT, 1, b"\7\0\0\0"), UNKNOWN, b"\7\0")
    assert not tag_says_nothing(entry(GPS_IFD, SHORT, 1, b"\7\0\0\0"), UNKNOWN, b"\7\0")
    assert not tag_says_nothing(entry(0xC001, SHORT, 1, b"\7\0\0\0"), Tells.TIME, b"\7\0")

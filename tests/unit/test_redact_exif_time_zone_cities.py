"""Cities in makers' time zones: the city goes, the zone stays, and what is neither goes whole."""

from __future__ import annotations

import struct

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned, Note
from policyfs.redact.exif.time_zone_cities import clean_city

TIME_INFO = 0x0035


def zone(order: str, *, size: int = 16, minutes: int = 60, city: int = 0, saving: int = 0) -> bytes:
    return struct.pack(f"{order}4i", size, minutes, city, saving)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("minutes", [-14 * 60, 0, 330, 14 * 60])
@pytest.mark.parametrize("saving", [0, 60])
def test_the_city_goes_and_the_zone_stays(order: str, minutes: int, saving: int) -> None:
    cleaned = clean_city(TIME_INFO, zone(order, minutes=minutes, city=17, saving=saving), order)
    without = zone(order, minutes=minutes, saving=saving)
    assert cleaned == Cleaned(without, (Note(0, 16, "MakerNote", "city in 0x0035", Tells.LOCATION),))
    assert clean_city(TIME_INFO, without, order) == Cleaned(without)


@pytest.mark.parametrize(
    "value",
    [
        zone("<", minutes=14 * 60 + 1),
        zone("<", minutes=-14 * 60 - 1),
        zone("<", saving=61),
        zone("<", saving=-1),
        zone("<", size=15),
        zone(">", city=17),
        zone("<")[:15] + b"",
        zone("<") + b"\1",
        b"Oslo",
    ],
)
def test_numbers_that_are_no_time_zone_become_zeros(value: bytes) -> None:
    cleaned = clean_city(TIME_INFO, value, "<")
    assert cleaned.data == bytes(len(value))
    assert [note.length for note in cleaned.notes] == [len(value)]


def test_no_value_has_no_city() -> None:
    assert clean_city(TIME_INFO, b"", "<") == Cleaned(b"")

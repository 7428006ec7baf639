"""Named values of ASF: which go under which word, and what is left of the list."""

from __future__ import annotations

import pytest

from policyfs.redact.asf.attributes import EXTENDED, LIBRARY, clean_titles, clean_values, tells_of
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from tests.support.samples import asfs, jpegs
from tests.support.samples.asfs import extended, library, titles, wide
from tests.unit.test_redact_registry import cleaners

FOLK = (b"WM/Genre", 0, wide(b"Folk"))
CITY = (b"City", 0, wide(b"Zirbelstadt"))


def values(data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    cleaned = clean_values(data[24:], EXTENDED, cleaners(hide))
    assert cleaned is not None
    assert bool(cleaned.notes) == (cleaned.data != data[24:])
    return cleaned.data


def test_the_others_move_up():
    assert values(extended(CITY, FOLK, CITY)) == extended(FOLK)[24:].ljust(
        len(extended(CITY, FOLK, CITY)) - 24, b"\0"
    )
    assert values(extended(FOLK)) == extended(FOLK)[24:]
    assert b"F\0o\0l" not in values(extended(CITY, FOLK), Tells.OTHER)
    cleaned = clean_values(library("metadata", CITY, FOLK)[24:], LIBRARY, cleaners())
    assert cleaned is not None
    assert cleaned.data.startswith(library("metadata", FOLK)[24:])


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        *(("AspectRatioX", NOTHING), ("WM/Year", Tells.TIME), ("WM/AlbumTitle", Tells.PEOPLE)),
        *(("WM/GPSLatitude", Tells.LOCATION), ("IsVBR", Tells.OTHER), ("WM/Quince", UNKNOWN)),
    ],
)
def test_names(name, tells):
    assert tells_of(name.removeprefix("WM/")) == tells


@pytest.mark.parametrize("value", [(b"IsVBR", 2, bytes(4)), (b"IsVBR", 9, b""), (b"Quince", 3, bytes(4))])
def test_numbers_stay_if_type_and_name_are_known(value):
    stays = value == (b"IsVBR", 2, bytes(4))
    assert (values(extended(value)) == extended(value)[24:]) == stays


def test_covers():
    plain = (b"WM/Picture", 1, asfs.cover(jpegs.plain()))
    assert values(extended(plain)) == extended(plain)[24:]
    photo = jpegs.photo_with(jpegs.exif("MM"))
    data = extended((b"WM/Picture", 1, asfs.cover(photo)))
    new = values(data)
    assert jpegs.pack("MM", *jpegs.LATITUDE) not in new
    assert wide(b"front") in new
    about = wide(b"at 47.80453, 13.04229")
    data = extended((b"WM/Picture", 1, asfs.cover(jpegs.plain(), b"at 47.80453, 13.04229")))
    assert values(data) == data[24:].replace(about, b" \0" * 21 + b"\0\0")
    for odd in (
        b"",
        b"\3\0\0\0\0x",
        asfs.cover(b"no picture"),
        asfs.cover(photo) + b"x",
    ):
        assert values(extended((b"WM/Picture", 1, odd))).strip(b"\0") == b""


def test_titles_become_zeros():
    data = titles(wide(b"at 47.80453, 13.04229"), wide(b"Rosa"))[24:]
    cleaned = clean_titles(data, cleaners())
    assert cleaned is not None
    assert cleaned.data == data.replace(wide(b"at 47.80453, 13.04229"), bytes(44))
    for odd in (b"", data[:-1], b"\xff\xff" + bytes(9)):
        assert clean_titles(odd, cleaners()) is None


@pytest.mark.parametrize("data", [b"", b"\1\0", b"\1\0\2\0", b"\1\0\2\0ab\0\0\x09\0", extended(FOLK)[24:-1]])
def test_lists_that_are_cut_off(data):
    assert clean_values(data, EXTENDED, cleaners()) is None

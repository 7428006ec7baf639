"""What a named text tells: by its name, and by what it says."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.free_text import MAX_TEXT_BYTES
from policyfs.redact.core.tag_names import (
    NAMES,
    is_blank,
    is_language,
    plain_name,
    tells_of_name,
    tells_time,
    told,
    told_by_named,
)

L, D, T, P, O = Tells.LOCATION, Tells.DEVICE, Tells.TIME, Tells.PEOPLE, Tells.OTHER  # noqa: E741


@pytest.mark.parametrize(
    "name", ["Creation Time", "CREATION_TIME", " creation-time ", "creation.time", "(creation)/[time]"]
)
def test_names_are_compared_without_blanks_and_punctuation(name):
    assert plain_name(name) == "creationtime"
    assert tells_of_name(name) == T


def test_names_of_the_tables_are_written_as_they_are_looked_up():
    for names in NAMES.values():
        for name in names.split():
            assert plain_name(name) == name


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        ("Location", L),
        ("GPSDestLatitude", L),
        ("exif:GPSInfo", L),
        ("exifGPS", L),
        ("Source", P | D),
        ("Software", D),
        ("date:create", T),
        ("icc:description", O),
        ("png:IHDR.width", O),
        ("date", T),
        ("icc", UNKNOWN),
        ("Thumb::MTime", T),
        ("Thumb::Image::Width", O),
        ("Thumb::URI", UNKNOWN),
        ("xmp:Title", P),
        ("replaygain_track_gain", O),
        ("MUSICBRAINZ_RELEASECOUNTRY", L),
        ("MusicBrainz Anything New", O),
        ("comment[1]", P),
        ("CHAPTER001NAME", P),
        ("prompt", P | D),
        ("location:name", L | P),
        ("place:title", L | P),
        ("Description (location)", L | P),
        ("comment location", L | P),
        ("commentCity", L | P),
        ("COMMENT_GPSPOSITION", L | P),
        ("lyricslatitude", L | P),
        ("Chapter (lat)", L | P),
        ("png:City", L),
        ("icc:Location", L),
        ("date:place", L),
        ("png:Title", P),
        ("icc:quince", UNKNOWN),
        ("date:quince", UNKNOWN),
        ("png:IHDR.bit-depth-orig", O),
        ("png:IHDR.width,height", O),
        ("png:IHDR.quince", UNKNOWN),
        ("comment translated", P),
        ("replaygain_track_peak", O),
        ("comment" + "s" * 993, P),
        ("comment" + "s" * 994, L | P),
        ("", UNKNOWN),
        (":", UNKNOWN),
        ("quince", UNKNOWN),
    ],
)
def test_names(name, tells):
    assert tells_of_name(name) == tells


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-17",
        "on 2024:05:17.",
        "1999/1/9",
        "20240517",
        "17.05.2024",
        "Created on: 05/17/2024.",
        "5-31-1999",
        "5 January 2024",
        "5. jan 2024",
        "May 17, 2024",
        "Fri May 17 11:22:33 2024",
    ],
)
def test_dates(text):
    assert tells_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-13-01",
        "2024-05-32",
        "13/17/2024",
        "05/32/2024",
        "105/17/2024",
        "1824-05-17",
        "120240517",
        "202405171",
        "Maybe 17 quinces",
        "2024-05",
    ],
)
def test_what_is_no_date(text):
    assert not tells_time(text)


def test_text_too_long_to_be_searched_may_hold_a_date():
    assert not tells_time("a" * (1 << 20))
    assert tells_time("a" * ((1 << 20) + 1))


@pytest.mark.parametrize(
    ("hide", "tells", "value", "expected"),
    [
        (L | T, P | T, b"quince", T),
        (L | T, P, b"quince", NOTHING),
        (L, P, b"47.80453, 13.04229", L),
        (L, P, "47.80453, 13.04229".encode("utf-16"), L),
        (T, P, b"47.80453, 13.04229", NOTHING),
        (T | L, NOTHING, b"Live, 17 May 2024", T),
        (D, NOTHING, b"Live, 17 May 2024", NOTHING),
        (D, NOTHING, b"made with ezgif", D),
        (L, UNKNOWN, b"", L),
        (L, NOTHING, b"", NOTHING),
    ],
)
def test_told(hide, tells, value, expected):
    assert told(hide, tells, value) & hide == expected


def test_a_text_too_long_tells_all_that_is_hidden():
    assert told(L | T, NOTHING, b"a" * MAX_TEXT_BYTES) == NOTHING
    assert told(L | T, NOTHING, b"a" * (MAX_TEXT_BYTES + 1)) == L | T
    assert told(L | T, NOTHING, bytes(4 * MAX_TEXT_BYTES)) == NOTHING
    assert told(L | T, NOTHING, bytes(4 * MAX_TEXT_BYTES + 1)) == L | T
    assert told_by_named(L, "title", bytes(4 * MAX_TEXT_BYTES + 1)) == L


def test_beyond_the_budget_for_texts_a_text_tells_all_that_is_hidden():
    budget = Budget(0, 0, texts=10)
    assert told(L, NOTHING, b"ten quince", budget) == NOTHING
    assert told(L, NOTHING, b"q", budget) == L
    assert told(L, NOTHING, b"", budget) == NOTHING
    assert told(L, L, b"known by its name", budget) == L


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("title", b"quince", NOTHING),
        ("title", b"<x:xmpmeta>", L),
        ("title", b'  {"a": 1}', L),
        ("title", b"a <?xpacket ?>", L),
        ("prompt", b'{"a": 1}', NOTHING),
        ("exif:ExposureTime", b"1/250", NOTHING),
        ("exif:ExposureTime", b"quince", L),
        ("exif:MakerNote", b"1, 2", L),
        ("exif:OwnSerial", b"12", L),
        ("exif:GPSLatitude", b"47/1, 48/1", L),
        ("exif:Lens", b"1, 2, 3, 4, 5, 6", NOTHING),
        ("exif:Lat", b"47.80453", L),
        ("exif:DestLon", b"13", L),
        ("exif:Flat", b"13", NOTHING),
        ("exif:Unheard", b"1, 2, 3, 4, 5, 6, 7", L),
        ("exif:Unheard", b"1, 2, 3, 4, 5, 6", NOTHING),
    ],
)
def test_told_by_a_named_text(name, value, expected):
    assert told_by_named(L, name, value) & L == expected


@pytest.mark.parametrize(
    ("data", "blank"), [(b"", True), (b" \0\t\r\n", True), (b" \0x", False), (b"\xa0", False)]
)
def test_blank(data, blank):
    assert is_blank(data) is blank


@pytest.mark.parametrize(
    "data", [b"de", b"ger", b"pt-BR", b"zh-Hans-CN", b"zh-yue-Hant-HK", b"es-419", b"de-1996"]
)
def test_a_language_tag(data):
    assert is_language(data)


@pytest.mark.parametrize(
    "data", [b"", b"d", b"Smith", b"John Smith", b"en-x-smith", b"en-smith", b"de\n", b"d\xe9"]
)
def test_no_language_tag(data):
    assert not is_language(data)

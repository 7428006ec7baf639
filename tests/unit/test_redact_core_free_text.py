"""Coordinates in free text, and text that only looks a little like it."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.free_text import (
    MAX_TEXT_BYTES,
    bytes_tell_place,
    decode,
    is_prose,
    tells_place,
    text_among_numbers,
    told_in,
    told_in_text,
)


@pytest.mark.parametrize(
    "text",
    [
        "47.804531, 13.042287",
        "47,804531 13,042287",
        "+47.8045+013.0423/",
        "-33.8568;151.2153",
        '{"latitude": 47.8, "longitude": 13}',
        "lat=47 lon=13",
        "Lat: N47",
        "GPS(13.0422,47.8045,18)",
        "latitude: 47",
        "47°48'16\"N",
        "47 deg 48' 16.31\" N",
        "N 47.80453",
        "N47 48.272 E013 02.537",
        "S 33 51 24, W 70 39 12",
        "47 48.272N 13 02.537E",
        "47-48-16N 013-02-32E",
        "47:48:16 N / 13:02:32 E",
        "4748.272,N,01302.537,E",
        "474816N 0130232E",
        "N474816 E0130232",
        "47.8045N",
        "$GPGGA,092233,4748.27,N,01302.53,E,1,08,0.9,437.2,M,46.9,M,,*47",
        "$GNRMC,1",
        "geo:47.8,13.0",
        "https://www.google.com/maps?q=1",
        "https://maps.app.goo.gl/abc",
        "https://www.openstreetmap.org/#map=18",
        "https://www.waze.com/ul?navigate=yes",
        "https://share.here.com/l/x",
        "https://yandex.ru/maps/?z=1",
        "https://mapy.cz/s/abc",
        "https://example.org/?ll=47.8%2C13.0",
        "https://example.org/?z=1&q=47.8,-13",
        "google.navigation:q=x",
        "8FWR2QR2+9C",
        "2QR2+9C Quittengasse",
    ],
)
def test_tells_a_place(text):
    assert tells_place(text)
    assert bytes_tell_place(text.encode("utf-8"))
    assert bytes_tell_place(text.encode("utf-16-le"))
    assert bytes_tell_place(text.encode("utf-16-be"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a quince on a table",
        "2024:05:17 11:22:33",
        "2024-05-17T11:22:33.123+02:00",
        "24.0-70.0 mm f/2.8",
        "1/250 s at f/5.6, ISO 200",
        "Adobe Photoshop Lightroom Classic 13.4.1 (Windows)",
        "IMG_20240517_112233.jpg",
        "CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90",
        "a latitude of opinions",
        "Rated 5 s 12, crop 10 20 30 e 40 50",
        "12:30:15 show, 13:00:20 end",
        "10 30 noon, 5 12 even",
        "ISBN 978-3-1234-5678-0, +43 662 12345-6789",
        "1-2-3 Ned 4-5-6 Eva",
        "https://there.com/?q=1.5&page=2",
        "(c) Rosa Kamera 2024, all rights kept",
        "xmp.iid:1f1e5bd0-7d6a-4f43-9f3f-1b2c3d4e5f60",
        "0.25 0.5 0.75",
    ],
)
def test_tells_none(text):
    assert not tells_place(text)


@pytest.mark.parametrize("lead", [b"", b"UNICODE\0", b"eng", b"eng\xff\xfe"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["Широта 47.80453 Долгота 13.04229", "47.80453 и 13.04229", "緯度47.80453、経度13.04229"]
)
def test_other_letters_in_utf_16_keep_no_digits_apart(text: str, encoding: str, lead: bytes):
    assert bytes_tell_place(lead + text.encode(encoding))
    assert bytes_tell_place(lead + text.encode(encoding) + b"\0\0")
    assert told_in(text.encode(encoding), UNKNOWN) == Tells.LOCATION


@pytest.mark.parametrize("text", ["Дом 47 за 13", "47.8 и 13.04, 2.1", "Дом 1/250, f/5.6"])
def test_other_letters_in_utf_16_are_no_place(text: str):
    assert not bytes_tell_place(text.encode("utf-16-le"))


def test_two_texts_with_a_zero_between_them_tell_a_place() -> None:
    assert bytes_tell_place(b"47.80453\0 13.04229\0")
    assert bytes_tell_place(b"47.80453\x0013.04229")
    assert not bytes_tell_place(b"47.80453\x001\0002\0003")


def test_a_text_too_long_to_look_through_counts_as_a_place():
    assert tells_place("a" * (MAX_TEXT_BYTES + 1))


def test_latin_1_is_read_where_it_is_no_utf_8():
    assert decode(b"47\xb048'") == "47°48'"


@pytest.mark.parametrize("data", [b"<gpx/>", b'{"a": 1}', b"[1]", b"\1\2\3", b"a\x07b"])
def test_no_prose(data):
    assert not is_prose(data)


@pytest.mark.parametrize("data", [b"", b"hello\n", "größer".encode(), b"a\0b\0", b"caf\xe9"])
def test_prose(data):
    assert is_prose(data)


@pytest.mark.parametrize(
    "text",
    ["2024:05:17 11:22:33", "saved 2024-05-17T11:22", "20240517_112233", "17.05.2024, 11:22",
     "May 17 2024 11:22", "Fri May 17 11:22:33 2024", "at 2024/05/17 1:02", "05/17/2024 11:22",
     "Fri, 17 May 2024 11:22:33 +0200", "17 May 2024 11:22", "17-May-2024 11:22:33", "17. May 2024, 11:22",
     "17th May 2024 at 11:22", "2024-05-17, 11:22", "2024-05-17 at 11:22", "2024-5-17 11:22",
     "2024/5/7 - 11:22", "11:22 17.05.2024", "11:22:33 PM, 5/27/2024", "11:22 on May 17, 2024",
     "11:22 CEST 17 May 2024", "11:22, 2024-05-17", "May 17th, 2024 at 11:22 PM", "May 17, 2024, 11:22",
     "5/27/2024 11:22 AM", "5/17/24, 11:22 AM", "17.05.24 11:22", "2024年5月17日 11:22",
     "2024 年 5 月 17 日（金） 11時22分", "DAT=2024-05-17\nTIM=11:22:33.123",
     "Date: 17.05.2024 Time: 11:22:33", "2024/05/17 (Fri) 11:22:33", "2024-05-17 at 11.22.33",
     "17/05/2024 11h22"],
)  # fmt: skip
def test_moments_in_text(text):
    assert told_in_text(text, UNKNOWN) == Tells.TIME
    assert not told_in_text(text, UNKNOWN & ~Tells.TIME)


@pytest.mark.parametrize(
    "text",
    ["OLYMPUS DIGITAL CAMERA", "SONY DSC", "KONICA MINOLTA DIGITAL CAMERA", "Created with GIMP",
     "CREATOR: gd-jpeg v1.0 (using IJG JPEG v80), quality = 90", "Lavc58.134.100", "oplus_131072",
     "serial no: 4711", "edited in Lightroom", "Processed By eBay with ImageMagick, z1.1.0", "Samsung camera",
     "Software: x 7", "AppleMark\n", "Optimized by JPEGmini 3.14.2.99881752", "hp photosmart R717",
     "DCIM\\100MEDIA\\DJI_0001.JPG", "DCIM/100GOPRO/GOPR0001.JPG",
     "xr:d:DAF1Gj2HLHg:3,j:8205404413412361637,t:23122520"],
)  # fmt: skip
def test_devices_in_text(text):
    assert Tells.DEVICE in told_in_text(text, UNKNOWN)
    assert not told_in_text(text, Tells.PEOPLE)


@pytest.mark.parametrize(
    "text",
    ["a quince on a table", "Aunt Hilde in the canyon", "version 2019.03.12", "apple pie with Otto", "12:30",
     "a model of the bridge", "Created by Anna", "the year 2024", "page 1 of 2", "chapter 11:22:33",
     "17 May 2024", "2024-05-17", "version 1.2.3.24 11:22", "11:22 on 17 May", "at 11:22 in 2024",
     "2024-05, 11:22", "a 16:9 film of 2019", "Mark 4:12", "John 3:16, 17"],
)  # fmt: skip
def test_prose_tells_neither(text):
    assert not told_in_text(text, UNKNOWN)


def test_too_long_text_tells_everything_that_is_asked():
    assert told_in_text("x" * (MAX_TEXT_BYTES + 1), Tells.DEVICE | Tells.TIME) == Tells.DEVICE | Tells.TIME


@pytest.mark.parametrize(
    "text",
    [
        "0.3400, 0.2100, 0.1200, 0.0900",  # a rectangle in the picture
        "1.000 0.3127 0.3290",  # a chromaticity
        "brp_del_th: 0.0000,0.0000; brp_del_sen: 0.0000,0.0000",
        "-0.5123, -0.2345",
        "HDR+ 1.0.177471000n",
        "version 2.1.234s",
    ],
)
def test_numbers_that_are_no_place(text):
    assert not tells_place(text)


@pytest.mark.parametrize(
    "text",
    [
        "-0.12760, 51.50740",  # beside the meridian of Greenwich
        "51.50740, -0.12760",
        "0.3400, 0.2100, 47.80453, 13.04229",
        "1.00012, 103.80012",
        "0.31360, 32.58110",  # on the equator
        "47.804N",
        "version 47.804N 13.042E",
        "P1,48.85830N\nP2,2.29450E",
        "IMG_1,48.85830N",
        "IMG_1.48,85830N",
        "IMG_1,48,85830N",
        "0.5000,0.3339N",
    ],
)
def test_places_beside_the_meridian_and_the_equator(text):
    assert tells_place(text)


def test_the_text_of_canva_tells_the_day():
    assert Tells.TIME in told_in_text("xr:d:DAF1Gj2HLHg:3,j:8205404413412361637,t:23122520", UNKNOWN)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-le", "utf-16-be"])
def test_text_among_numbers(encoding):
    numbers = bytes(range(0x80, 0xB0)) * 3
    assert bytes_tell_place(text_among_numbers(numbers + "47°48'16\" N".encode(encoding) + numbers))
    assert bytes_tell_place(numbers + b"0\xb01" + numbers)
    assert not bytes_tell_place(text_among_numbers(numbers + b"0\xb01" + numbers))

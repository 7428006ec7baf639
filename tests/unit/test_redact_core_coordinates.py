"""Spellings of places in text (more are in test_redact_core_free_text.py), and texts that only look alike."""

from __future__ import annotations

import base64
import random
import re
from importlib import import_module
from typing import Any

import pytest

from policyfs.redact.core import coordinates
from policyfs.redact.core.coordinates import holds_place
from policyfs.redact.matroska.clusters import _PLACE_HINT

PLACES = [
    *("at 47.80453, 13.04229.", "-33.8568,151.2153", "151.2153 -33.8568", "500.123 47.80453 013.04229"),
    *("٤٧.٨٠٤, ١٣.٠٤٢", "\x1c647.80453, 13.04229"),
    *("+47.80+013.04/", "+40-075/", "+4748.272+01302.537/", "+474816.3+0130232.2+440CRSWGS_84/"),
    *("47.80453%2C13.04229", "47.80453%2C%20-13.04229", "47.80453&#44;13.04229", "47.80453\\u002c13.04229"),
    *("47.8°, 13.0°", "47.8° / 13.0°", "-33.9 °; 151.21 °", "47,8deg|13,0deg"),
    *("47˚48'16\"N 13˚02'32\"E", "47∘48′16″N", "47&deg;48'16\"N", "47&#176;48'", "47\\u00b048'16\"N"),
    *("47* 48' 16\"", "47d48'16.3\"N 13d02'32\"E", "47d48m16s", "47 48.27’ N"),
    *(
        "47 degrees 48 minutes 16 seconds north",
        "47 degrees 48.27' north",
        "47.8 degrees north",
        "47 degrés nord",
    ),
    *("47 Grad 48 Minuten nördlicher Breite", "47 grados norte", "47 градусов с. ш."),
    *(
        "北緯35度41分22秒",
        "北纬39度54分",
        "북위 37.56",
        "緯度: 35.68",
        "纬度：39.90",
        "위도: 37.56",
        "35度41分22秒",
    ),
    *("Breitengrad: 47.80", "geogr. Breite: 47.8", "Lengtegraad 13.04", "Latitud: 47.80", "Latitudine 47.8"),
    *("Широта: 47,80", "szerokość geogr. 47.8", "latitude is 47"),
    *("٤٧٫٨٠٤٥٣، ١٣٫٠٤٢٢٩", "４７．８０４５３，１３．０４２２９", "−33.85679、151.21529"),
    *("47.8N 13.0E", "33.9 S, 151.2 E", "N47.8 E13.0", "N 47.8°, E 13.0°"),
    *("lat_e7=478045300", "lonE7: 130422870", "start_lat: 47.80", "my_lon=13.04"),
    *("POINT (13.04 47.80)", "WGS84 47.80 13.04", "EPSG:4326 47.80 13.04", "coordinates are 47.80 and 13.04"),
    *("47/1 48/1 1632/100", "47/1, 48/1, 163200/10000"),
    *("8FVFR22R%2BRW", "8FVFR200+", "https://plus.codes/8FVF", "geohash: u0zck8yx", "https://geohash.org/u"),
    *("///filled.count.soap", "at ///échange.œuvre.pomme", "Maidenhead JN67ms", "QTH loc: JN67"),
    *("33T WN 12345 67890", "33U 353000 5297000", "MGRS 33TWN1234567890", "UTM: 33N 353000 5297000"),
    *("https://g.co/maps/abc", "https://omaps.app/x", "ge0://x", "om://x", "https://osmand.net/map?x"),
    *("IMG.47.80453,13.04229.jpg", "x-47.80453_13.04229"),
    *("/geohack.php?params=48_51_29_N", "https://naver.me/x", "kko.to/x", "https://foursquare.com/v/x"),
    *(
        "https://www.instagram.com/explore/locations/213/",
        "https://caltopo.com/map.html",
        "strava.com/routes/1",
    ),
    *(
        "https://example.org/#view=47.8,13.0,8z",
        "https://example.org/?loc=12/13.04/47.80",
        "/web/@47.8,13.0,9a",
    ),
    *("13.0E 47.8N", "N:47.8 E:13.0", "N:4748.27 E:01302.53", "N4748.2718E01302.5374", "lat_47.8_lon_13.0"),
    *("474816N0130232E", "at 4748.27N01302.54E", "東經121.5", "北緯25.03 東經121.5"),
    # a sentence of NMEA as one dash-cam enciphers it
    ".;;;;D?JL;6+;;;D;R?;4;;;;DBB;;O;;;=D;L;;HO71G>F;-?=J-F:FNJJ;DPP-JF3F;;PL=DBRLBF0F;=?DNF-RD-PF;N;?=JF;;?D=F:*6F~",
    *(
        "N50d00'20\" E176d32'03\"",
        "N 45.2|E 124.4",
        "68.73N|109.69E",
        "64.1N - 124.5E",
        "33.37n81.62w",
        "IMG_N47.80_E13.jpg",
    ),
    *(
        "startLat=-6.85",
        "lat_deg: 43.7",
        "enlem: 39.92",
        "breddegrad=55.67",
        "geo_lat: N 38.8",
        "lat is 47.8",
    ),
    *(
        "13,50,7N",
        "((33, 1), (2, 1), (1191, 100))",
        "[10, 5, 236/100]",
        "(73.0, 46.0, 44.707)",
        "33TWN2487677245",
    ),
    *("CH1903 651972 / 240780", "OS grid ref SU 460 971", "N29 degrees 7.23 minutes"),
    *(
        "https://x.org/#15/49.85/92.503",
        "https://x.org/?x=145.757&y=63.79",
        "https://x.org/loc/85.62/-154.05",
    ),
    *(
        "a\n47.80453\n13.04229\nb",
        "(47.80453\n13.04229)",
        "47\\u00b048\\u203216\\u2033",
        "53&amp;deg;49.48&acute;S",
    ),
    *(
        "Latitude:\n47.80453\nLongitude:\n13.04229",
        "lat\r\n N 47.80",
        "GPSLatitude =\n  -33.85",
        "Coordinates\n47,80",
    ),
    *(
        "47.80453,\n13.04229",
        "at (-33.85679;\r\n  151.21529)",
        "[\n  13.04229,\n  47.80453\n]",
        "x 0.12345,\n13.0422",
    ),
    *(
        "33 U 353000.00 m E 5297000.00 m N",
        "33U 353000mE 5297000mN",
        "33U 353000m E 5297000m N",
        "33U 353000E, 5297000N",
    ),
    *("47.80453\n13.04229", " -33.85679\r\n151.21529\n"),
    *("47/1 48/1 1632/100 13/1 2/1 3200/100", "24/1 70/1 28/10 28/10; 47/1 48/1 1632/100"),
    *("Long: 13", "long 13.04", "Long = 13", "long. 13°", "Long E13.04"),
    *("047°48'", "179°59'", "IMG.47°48'16", "1.35210, 103.81980", "+47.8+013.0/ +1"),
    *(
        "47.804_13.042.3gp",
        "47.804,13.042.1.jpg",
        "-33.856, 151.215.7z",
        "47.80453\x12913.04229",
        "\n947.80453 13.04229",
    ),
]
_PLAIN = "47.80453, 13.04229"
PLACES += [
    base64.b64encode(f"at {_PLAIN}".encode()).decode(),
    base64.b64encode(f"x {_PLAIN} xx".encode()).decode().rstrip("="),
    "note:" + base64.urlsafe_b64encode(f"{{'lat':47.8}} {_PLAIN} ÿþü".encode()).decode(),
    base64.b64encode(_PLAIN.encode("utf-16-le")).decode(),
    *(_PLAIN.encode(code).hex() for code in ("utf-8", "utf-16-be")),
    _PLAIN.encode().hex().upper(),
    *(sep.join(map(str, b"ASCII\0\0\0" + _PLAIN.encode())) for sep in (", ", ",")),
    "".join(f"&#{ord(char)};" for char in _PLAIN),
    "".join(f"%{ord(char):02x}" for char in _PLAIN),
    "".join(f"\\u{ord(char):04x}" for char in _PLAIN),
]
PLACES += [
    *("Breite: 47.804", "Länge 13,042", "breedte: 52.123", "lengte = 4.895", "bredd: 59.329", "längd 18.068"),
    *("szer. geogr.: 47,804", "dł. 13.042", "шир.: 47.804", "долг. 13,042", "šířka: 47.804"),
    *("breddgrad: 59.3", "LV95 2651972 / 1240780", "LV95: 2'651'972, 1'240'780", "CH1903+/LV95 2651972 124"),
    *("LV03 651972 / 240780", "Swiss grid 651 972 240 780", "OS grid SU 460 971", "OS grid: SU460971"),
    *("OSGB36 SU 460 971", "NGR SU460971", "National grid reference SU 46000 97100", "OSGR: SU 46 97"),
    *("QTH: JN67ms45", "Maidenhead locator JN67MS45", "locator: JN67ms", "qth JN67ms45ab"),
    *(joint.join(map(str, b"GPS 47.80453, 13.04229")) for joint in (" ", ";", "; ", ", ")),
    *(joint.join(f"{one:02x}" for one in b"GPS 47.80453, 13.04229") for joint in (" ", ":", "-", ", ")),
    *("".join(f"{mark}{one:02X}" for one in b"at 47.80453, 13.04229") for mark in ("0x", "\\x", ", 0x")),
]
PLACES += ["24 200 " + " ".join(map(str, b"47.80453, 13.04229")) + " 7"]
PLACES += ["b7 00: 34372E38303435332C31332E3034323239"]
NONE = [
    *("Breite: 47.500 mm", "Länge: 1920.000", "Länge 12.345m", "bredd 3.25", "szerokość 120 px"),
    *("locator JN67", "the national grid 2024", "hungry 12", " ".join(map(str, range(1, 40))), "LV95 is new"),
    "de:ad:be:ef:00:11:22:33:44:55:66:77",
    *("Bake at 180 degrees 20 minutes", "180 Grad 25 Minuten backen", "180度20分焼く", "Drehung 90 Grad"),
    *(
        "rotated by 90 degrees",
        "a 90-degree turn, 2 minutes later",
        "Longitud: 25 cm",
        "Breite: 47, Länge: 13",
    ),
    *("+40-075", "1/1 2/1", "1/250 s, 1/1", "f/1, 1/1000, 1/1"),
    *("100%25 and 3%2C5", "see ///etc/fonts.conf.d/a.b", "file:///home.user.photo", "// a.b.c", "...///..."),
    *("geohash: string", "geohash buffer", "UTC 12:00", "utm_source=33T", "point(1, 2)", "Point (3 of 4)"),
    *("translate = 0.5", "d = 4 d5", "2d 5m ago", "12d30m", "lonely_lat", "flat_e5"),
    *("12.34567\n13.45678\n14.56789", "1.2345 apples\n2.3456 pears", "33T WN 1 2", "33 TWN 12345 67890 kg"),
    *(
        base64.b64encode(b"a quince on a table, 47").decode(),
        b"a quince on a table".hex(),
        ", ".join(map(str, b"a quince on a table")),
        "300, 1, " + ", ".join(map(str, b"47.80453, 13.04229")),
        "a" * 40,
        "4a" * 40,
    ),
    *("A" * 60 + "~", "*6F~", "5.5E 3.3", "N:1 E:2", "flat_3.5", "lonely_3.5"),
    *("20°, 30°", "turned by 1.5°, then by 2.5 mm", "21.5°C / 70.7°F", "5.5°, 3.5"),
    *("100%", "%zz", "\\u12", "&#x;", "xmp.did:1f1e5bd07d6a4f439f3f1b2c3d4e5f60"),
    *("user@12.5.1", "http://example.org/?view=1.5", "?q=1.5", "C++ 2023+"),
    # lenses, in Lightroom's aux:LensInfo and ImageMagick's exif:LensSpecification
    *("24/1 70/1 28/10 28/10", "24/1, 105/1, 4/1, 4/1", "4250/1000 4250/1000 180/100 180/100"),
    # a stroke of Lightroom's brush beyond the picture, a matrix that straightens a picture
    *("d 1.010274 0.331234", "1.026475,0.024136,-0.012345,0.001350,1.012340"),
    *("GPS\n2023", "Latitude\n\n47.80", "coordination\n12.5 m", "geo\n12.5"),
    *("12.34567,\n13.45678,\n14.56789", "1.2345,\n0.2345", "12.3456,\n13.456", "2.34567, then\n13.04229"),
    *("33 U 353000", "33 u 353000 5297000", "10 X AB 1234 5678", "33U 353000 52970001"),
    *("scanned by 192.168.123.101", "10.104.244.101", "version 10.234.117.345", "99.123.45.678 47.804531"),
    *("7,407; DWB:506,479", "at 147.80453, 113.04229", "at 47.80453, 213.04229", "1.234 of 192.168.123.101"),
    *("scale 1.234x640.000", "7.123 ms to 192.168.1.1:80", "1.234\t640.000"),
    *(
        "1.2345\n47.80453\n13.04229",
        "47.80453\n13.04229\n7",
        "isLat=5",
        "33TWN248767",
        "326.889, 201.680",
        "wwww+WW",
    ),
    *(
        "47*48'",
        "G,*8*4'",
        "S86.82U7",
        "MHQ2Cg+8g",
        "1,2,3",
        "(0.5, 1.0, 0.25)",
        "https://x.org/1.25/2.1/",
        "C:\\new\\47",
    ),
    *("+49-170/1234567", "My 360° 4K tour", "360.5° 4", "VR 180° 3D", "So long 2023", "A long 10 km run"),
]


def test_addresses_of_machines_are_no_places() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        address = ".".join(str(chance.randrange(256)) for _ in range(4))
        assert not holds_place(f"{address}:80 and 192.168.{chance.randrange(256)}.{chance.randrange(256)}")


@pytest.mark.parametrize("text", PLACES)
def test_holds_a_place(text: str) -> None:
    assert holds_place(text)
    assert _PLACE_HINT.search(text)


@pytest.mark.parametrize("text", NONE)
def test_holds_none(text: str) -> None:
    assert not holds_place(text)


def test_a_reference_to_a_character_may_have_many_digits() -> None:
    """int() refuses to read so many digits."""
    assert not holds_place("&#" + "9" * 5000 + ";")
    assert holds_place("&#" + "9" * 5000 + "; 47.80453&#44;13.04229")


@pytest.mark.parametrize(
    "text",
    [
        "[\n 1,\n 1.03555,\n 3.569954,\n 0\n]",
        "12.34567,\n 45.67891,\n 7",
        "12, 946,1205,\n 709,1770,1118,\n",
    ],
)
def test_a_list_of_more_than_two_numbers_on_lines_is_no_place(text: str) -> None:
    assert not holds_place(text)
    assert holds_place("at [\n 47.80453,\n 13.04229\n]")


def _needs(parsed: Any, one: re.Pattern[str]) -> bool:
    """Whether each text that a parsed pattern matches has a character that *one* matches."""
    return any(_is_such(str(op), value, one) for op, value in parsed)


def _is_such(op: str, value: Any, one: re.Pattern[str]) -> bool:
    match op:
        case "LITERAL":
            return one.fullmatch(chr(value)) is not None
        case "IN":
            return all(_is_such(str(inner), each, one) for inner, each in value)
        case "RANGE":
            return all(one.fullmatch(chr(code)) for code in range(value[0], value[1] + 1))
        case "CATEGORY":
            return str(value) == "CATEGORY_DIGIT" and one.pattern == r"\d"
        case "SUBPATTERN":
            return _needs(value[-1], one)
        case "BRANCH":
            return all(_needs(way, one) for way in value[1])
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return value[0] > 0 and _needs(value[2], one)
        case "ASSERT":
            return _needs(value[1], one)
    return False


def _parsed(pattern: re.Pattern[str]) -> Any:
    return import_module("re._parser").parse(pattern.pattern, pattern.flags)


def test_only_the_patterns_without_digits_are_searched_in_texts_without_digits() -> None:
    """No character becomes a digit by another case, so the shape of a pattern proves what it needs."""
    in_words = {
        pattern for _, pattern in coordinates._COORDINATES_IN_WORDS + coordinates._WITH_HINTS_IN_WORDS
    }
    assert len(in_words) == len(coordinates._OF_NO_DIGIT)
    rows = {pattern for _, pattern in (*coordinates._COORDINATES, *coordinates._WITH_HINTS)}
    others = (
        "_PAIR",
        "_QUERY",
        "_NORTH_OR_SOUTH",
        "_WITHOUT_SIGNS",
        "_FRACTIONS",
        "_GRID",
        "_TWO_LINES",
        "_LINES",
    )
    rows |= {*coordinates._OF_DECIMALS, *(getattr(coordinates, name) for name in others)}
    assert {pattern for pattern in rows if not _needs(_parsed(pattern), re.compile(r"\d"))} == in_words


def test_quick_searches_leave_out_nothing() -> None:
    assert _needs(_parsed(coordinates._QUERY), re.compile("[=@]"))
    assert _needs(_parsed(coordinates._PLACES), re.compile(r"[|/\\>]"))
    encoded = (coordinates._BASE64, coordinates._HEX, coordinates._BYTES)
    assert min(_parsed(pattern).getwidth()[0] for pattern in encoded) == coordinates._FEWEST_ENCODED

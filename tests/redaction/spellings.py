"""Coordinates as people and programs write them: any number of spellings, each of random numbers.

A spelling is a place for every reader, so redaction has to find each (test_spellings.py).
"""

from __future__ import annotations

import base64
import html
import json
import random
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

_DEGREES: Final = ("°", " ° ", "º", "˚", "d", " deg ", "*", "&deg;", "&#176;", "\\u00b0", "%C2%B0", "Â°")
_PRIMES: Final = ("'", "′", "’", "´", "' ", " ' ")
_SECONDS: Final = ('"', "″", "”", "''", " ", '" ')
_BETWEEN: Final = (
    *(", ", ",", "; ", ";", " ", "  ", "/", " / ", "|", " | ", "\t", " - ", " and ", " & ", " x ", ", lon "),
    *(" by ", ":", "_", "~", "%2C", "%2c", "%20", "+", "\\", " – ", "、", "，", " · ", "),(", "][", '","'),
    *("' '", "\0", " , ", "</lat><lon>", "\n", "\r\n"),
)
_BRACKETS: Final = (
    ("", ""),
    ("", ""),
    ("(", ")"),
    ("[", "]"),
    ("{", "}"),
    ("<", ">"),
    ('"', '"'),
    ("「", "」"),
)
_NAMES: Final = (
    *("latitude", "Latitude", "lat", "LAT", "GPSLatitude", "gps_lat", "gps.latitude", "geo:lat", "geo_lat"),
    *("Lat.", "exif:GPSLatitude", "GPS Latitude", "lat_deg", "latDeg", "decimalLatitude", "startLat"),
    *("start_latitude", "place.lat", "Breitengrad", "Breite (Grad)", "latitud", "latitudine", "緯度", "纬度"),
    *(
        "위도",
        "широта",
        "довгота",
        "szerokość geograficzna",
        "enlem",
        "breddegrad",
        "længdegrad",
        "leveysaste",
    ),
    *("zeměpisná šířka", "földrajzi szélesség", "γεωγραφικό πλάτος", "خط العرض", "vĩ độ", "ละติจูด"),
    *("अक्षांश", "lintang"),
)
_VALUES: Final = (": ", "=", ":", " = ", '": ', '":"', '="', "='", ": N ", ": S", "=+", "\t")
_LINKS: Final = (
    *("https://www.google.com/maps/@{a},{b},15z", "https://maps.google.com/?q={a},{b}", "geo:{a},{b}?z=11"),
    *("http://maps.apple.com/?ll={a},{b}", "https://www.openstreetmap.org/?mlat={a}&mlon={b}", "geo:{a},{b}"),
    *(
        "https://www.bing.com/maps?cp={a}~{b}",
        "https://yandex.com/maps/?ll={b}%2C{a}",
        "https://x.org/#15/{a}/{b}",
    ),
    *("https://x.org/map?center={a},{b}", "https://x.org/?lat={a}&lon={b}", "https://x.org/?x={b}&y={a}"),
    *(
        "https://x.org/{a},{b}",
        "https://x.org/loc/{a}/{b}",
        "https://x.org/?c={a}:{b}",
        "https://x.org/?q={a}+{b}",
    ),
    *(
        "https://x.org/?position={a}%2C{b}",
        "https://x.org/?q={a}%20{b}",
        "https://x.org/?bbox={b},{a},{b},{a}",
    ),
)
_WRAPPERS: Final[tuple[Callable[[str], str], ...]] = (
    *((lambda text: text),) * 5,
    lambda text: json.dumps({"note": text}),
    html.escape,
    quote,
    lambda text: f"At the lake, {text} in May.",
    lambda text: f"a\n{text}\nb",
    lambda text: f"<desc>{html.escape(text)}</desc>",
    lambda text: base64.b64encode(f"noted: {text} there".encode()).decode(),
    lambda text: f"noted:\n{text}".encode().hex(),
)


class Spellings:
    """A source of spellings, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.forms = (
            *(self.decimals,) * 8,
            *(self.hemispheres,) * 5,
            *(self.minutes,) * 8,
            *(self.named,) * 4,
            *(self.iso_6709,) * 3,
            *(self.link,) * 3,
            *(self.code,) * 4,
            self.nmea,
        )

    def text(self) -> bytes:
        """One text with a place, in one of the encodings of texts."""
        plain = self.chance.choice(self.forms)()
        wrapped = self.chance.choice(_WRAPPERS)(plain)
        if "\0" in plain:
            return plain.encode()
        try:
            return wrapped.encode(self.chance.choice(("utf-8", "utf-8", "utf-16-le", "utf-16-be", "latin-1")))
        except UnicodeEncodeError:
            return wrapped.encode()

    def _degrees(self, most: int, digits: int, comma: str = ".") -> str:
        return f"{self.chance.uniform(2.01, most - 0.1):.{digits}f}".replace(".", comma)

    def decimals(self) -> str:
        between, (before, behind) = self.chance.choice(_BETWEEN), self.chance.choice(_BRACKETS)
        least = 4 if between.strip("\r") == "\n" else 3  # on lines of their own, shorter ones may be anything
        comma = self.chance.choice("......,") if between != "," else "."
        one, two = (self._degrees(most, self.chance.randint(least, 9), comma) for most in (90, 180))
        sign = [self.chance.choice(("", "", "-", "+", "−")) for _ in range(2)]
        if between == "\0":
            sign = ["", ""]
        if least == 4:
            before, behind = f"\n{before}", f"{behind}\n"
        if self.chance.random() < 0.25:
            one, two = two, one
        return f"{before}{sign[0]}{one}{between}{sign[1]}{two}{behind}"

    def hemispheres(self) -> str:
        choice, digits = self.chance.choice, self.chance.randint(1, 8)
        comma = choice(".....,")
        one, two = self._degrees(90, digits, comma), self._degrees(180, digits, comma)
        north, east = choice(("NE", "SW", "nw"))
        sign, between = (
            choice(("", "", "°", " °", "º", " ")),
            choice((", ", " ", "; ", " / ", "_", "|", " - ")),
        )
        return choice(
            (
                f"{one}{sign}{north}{between}{two}{sign}{east}",
                f"{north}{one}{between}{east}{two}",
                f"{north} {one}{sign}{between}{east} {two}{sign}",
                f"{one}{sign} {north}{between}{two}{sign} {east}",
                f"IMG_1_{north}{one}_{east}{two}.jpg",
            )
        )

    def minutes(self) -> str:
        choice = self.chance.choice
        degree, prime, second = choice(_DEGREES), choice(_PRIMES), choice(_SECONDS)
        if choice((True, False, False)):  # without signs
            degree = prime = choice((":", " ", "-"))
            second = ""
        form, (north, east) = choice(("dms", "dms.", "dm")), choice(("NE", "SW"))
        where = choice(("{}{}", "{} {}", "{1}{0}", "{1} {0}"))

        def one(most: int, letter: str) -> str:
            degrees, first, last = (self.chance.randrange(1, top) for top in (most, 60, 60))
            if form == "dm":
                end = "" if prime in ":- " else prime
                return where.format(
                    f"{degrees}{degree}{first:02}.{self.chance.randrange(1, 10**5):05}{end}", letter
                )
            tail = f".{last:02}" if form == "dms." else ""
            return where.format(f"{degrees}{degree}{first:02}{prime}{last:02}{tail}{second}", letter)

        return one(90, north) + choice((", ", " ", "; ", " / ")) + one(180, east)

    def named(self) -> str:
        value = self.chance.choice(("-", "")) + self._degrees(90, self.chance.randint(1, 8))
        return self.chance.choice(_NAMES) + self.chance.choice(_VALUES) + value

    def iso_6709(self) -> str:
        chance = self.chance
        south, west = chance.choice("+-"), chance.choice("+-")
        lat, lon = chance.uniform(1, 89), chance.uniform(1, 179)
        first, last = chance.randrange(60), chance.randrange(60)
        height = chance.choice(("", "+440", "-12.5", "+440.123")) + chance.choice(("/", "CRSWGS_84/"))
        return chance.choice(
            (
                f"{south}{lat:08.5f}{west}{lon:09.5f}{chance.choice((height, ''))}",
                f"{south}{int(lat):02}{first:02}.25{west}{int(lon):03}{last:02}.5{height}",
                f"{south}{int(lat):02}{first:02}{last:02}{west}{int(lon):03}{last:02}{first:02}{height}",
                f"{south}{lat:04.1f}{west}{lon:05.1f}{height}",
            )
        )

    def nmea(self) -> str:
        lat, lon = self.chance.randrange(1, 90), self.chance.randrange(1, 180)
        head = self.chance.choice(("", "$GPGGA,092233,", "$GNRMC,092233,A,"))
        return f"{head}{lat:02}48.2718,N,{lon:03}02.5374,E"

    def link(self) -> str:
        one, two = (self._degrees(most, self.chance.randint(3, 7)) for most in (90, 180))
        return self.chance.choice(_LINKS).format(a=self.chance.choice(("", "-")) + one, b=two)

    def code(self) -> str:
        whole = self.chance.randrange
        degrees, first, last = whole(1, 90), whole(60), whole(100, 5999)
        east, north = whole(10000, 99999), whole(10000, 99999)
        return self.chance.choice(
            (
                *("8FVC9G8F+6X", "8fvc9g8f+6x", "9G8F+6X Zurich", "geohash=u23hb1c9", "///filled.count.soap"),
                *(f"33TWN{east}{north}", f"33T WN {east} {north}", f"33N 4{east} 48{north}", "QTH: JN67ms"),
                f"POINT({whole(180)}.04 {degrees}.80)",
                f'"coordinates":[{whole(180)},{degrees}.25]',
                f"{degrees}/1{self.chance.choice((' ', ', '))}{first}/1 {last}/100",
                *(f"{degrees},{first},{whole(60)}N", f"{degrees},{first}.{east}S"),
                *(f"(({degrees}, 1), ({first}, 1), ({last}, 100))", f"[{degrees}, {first}, {last}/100]"),
                *(
                    f"({degrees}.0, {first}.0, {whole(60)}.{north})",
                    f"{degrees} deg {first}' {whole(60)}.25\" N",
                ),
                *(f"CH1903 6{east} / 2{north}", f"OS grid ref SU {whole(100, 999)} {whole(100, 999)}"),
                f"N {degrees} degrees {first}.25 minutes",
            )
        )

"""Text that is places gets a kind of its own, whatever libmagic calls it."""

from __future__ import annotations

import json

import pytest

from policyfs.redact.core.patches import MemorySource
from policyfs.redact.documents.tracks import refine_kind
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import Treatment, kind_table
from tests.support.samples import jpegs, media

KML = '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Point/></kml>'
OCTETS = "application/octet-stream"
NMEA = "$GPGGA,092233,4748.27,N,01302.53,E,1,08,0.9,437.2,M,46.9,M,,*47\r\n"
CASES = {
    "xmp": (jpegs.xmp_packet(""), "application/rdf+xml"),
    "xmp as utf-16": (jpegs.xmp_packet("", encoding="utf-16-le"), "application/rdf+xml"),
    "kml": (KML.encode(), "application/vnd.google-earth.kml+xml"),
    "kml as utf-16": (KML.encode("utf-16"), "application/vnd.google-earth.kml+xml"),
    "kml as utf-32": (KML.encode("utf-32"), "application/vnd.google-earth.kml+xml"),
    "kml as utf-32, most significant byte first": (
        b"\0\0\xfe\xff" + KML.encode("utf-32-be"),
        "application/vnd.google-earth.kml+xml",
    ),
    "kml with zeros behind it": (KML.encode() + bytes(4096), "application/vnd.google-earth.kml+xml"),
    "tcx": (b"<TrainingCenterDatabase/>", "application/vnd.garmin.tcx+xml"),
    "geojson": (b'{"type": "FeatureCollection", "features": []}', "application/geo+json"),
    "takeout": (
        json.dumps({"title": "a.jpg", "geoData": {"latitude": 47.8}}).encode(),
        "application/x-location+json",
    ),
    "history": (b'{"locations": [{"latitudeE7": 478045310}]}', "application/x-location+json"),
    "nmea": (NMEA.encode(), "application/x-nmea"),
    "nmea and a zero": (NMEA.encode() + b"\0", "application/x-nmea"),
    "nmea as utf-32": (NMEA.encode("utf-32"), "application/x-nmea"),
    "nmea in a log": (b"start\n$GNVTG,1,T,,M,2,N,3,K*1F\n", "application/x-nmea"),
    "csv": (b"time,lat,lon\n1,47,13\n", "application/x-location-text"),
    "drone's subtitles": (
        b"1\n00:00 --> 00:01\n[latitude: 47.8045] [longitude: 13.04]\n",
        "application/x-location-text",
    ),
    "json and a zero": (b'{"latitude": 47.8045, "longitude": 13.0423}\0', "application/x-location+json"),
    "igc": (b"AXXX\nB0922334748270N01302530EA0043700437\n", "application/x-location-text"),
    "note": (b"we met at 47.80453, 13.04228", "application/x-location-text"),
    "gml": (b'<x xmlns:gml="http://www.opengis.net/gml"/>', "application/x-location-text"),
}  # fmt: skip


SVG = "image/svg+xml"
DRAWINGS = (
    '<path d="M12.345 18.456 L7.123 4.567 13.042,9.125z" style="stroke-width:12.345;opacity:47.804"/>',
    '<g transform="matrix(47.804 0 0 13.042 12.34 9.12)"><polygon points="47.804,13.042 12.345,9.125"/></g>',
    '<circle cx="47.80453" cy="13.04229" r="1.2345" fill=\'#8d6\'/>',
    "<style>.a{stroke-width:12.345;opacity:47.804}</style>",
    '<sodipodi:guide position="47.804531,13.042290" inkscape:cx="47.8045" inkscape:cy="13.0423"/>',
    '<linearGradient x1="47.804" y1="13.042" gradientTransform="rotate(47.8045 13.0423)"/>',
)
PROLOGUE = '<?xml version="1.0"?>\n<!-- by a - <program> -->\n<!DOCTYPE svg PUBLIC "-//W3C">\n'
TEXT = "<text>47.80453, 13.04229</text>"


@pytest.mark.parametrize("head", ["", PROLOGUE, "\ufeff\n"])
@pytest.mark.parametrize("mime", [SVG, "text/xml", "text/plain"])
def test_a_drawing_is_known_by_its_first_element(head, mime):
    def kind(root: str, *inside: str) -> str:
        text = f'{head}<{root} viewBox="0 0 24.123 47.804">{"".join(inside)}</{root}>'
        return refine_kind(mime, text.encode())

    assert kind("svg", *DRAWINGS, TEXT) == kind("svg:svg", *DRAWINGS, TEXT) == SVG
    assert kind("track", f"<svg>{TEXT}</svg>") == "application/x-location-text"
    assert refine_kind(mime, f"quince <svg>{TEXT}</svg>".encode()) == "application/x-location-text"


@pytest.mark.parametrize(
    "mime", ["text/plain", "text/xml", "application/json", "application/octet-stream", "application/x-subrip"]
)
@pytest.mark.parametrize("case", CASES)
def test_sidecars(case, mime):
    head, kind = CASES[case]
    assert refine_kind(mime, head) == kind


def test_a_real_track(tmp_path):
    assert refine_kind("text/xml", media.track(tmp_path / "t.gpx").read_bytes()) == "application/gpx+xml"


CLEANED = {"application/rdf+xml", "application/x-location+json"}


@pytest.mark.parametrize("case", [case for case, (_, kind) in CASES.items() if kind not in CLEANED])
def test_places_from_end_to_end_are_refused(case):
    head, kind = CASES[case]
    assert kind_table()[kind].treatment is Treatment.REFUSED
    assert locate(kind, frozenset({"location"}), MemorySource(head)).outcome is Outcome.REFUSE


@pytest.mark.parametrize(
    ("mime", "head"),
    [
        ("text/plain", b"a shopping list\n1.5 kg quinces\n"),
        ("text/x-python", b"import re\n"),
        ("application/json", b'{"name": "quince", "size": [1, 2]}'),
        ("text/html", b"<html><body>quince</body></html>"),
        ("application/x-subrip", b"1\n00:00:01,000 --> 00:00:02,000\nHello.\n"),
        ("application/octet-stream", bytes(range(256))),
        ("text/plain", b""),
    ],
)
def test_other_text_keeps_its_kind(mime, head):
    assert refine_kind(mime, head) == mime


def test_zeros_within_text():
    """libmagic calls some logs text although their writers left blocks of zeros in them."""
    log = (NMEA * 20).encode() + bytes(512) + (NMEA * 20).encode()
    assert refine_kind("text/plain", log) == "application/x-nmea"
    assert refine_kind("application/octet-stream", bytes(range(256)) + log) == "application/octet-stream"


def test_what_is_no_text_is_not_looked_into():
    assert refine_kind("image/jpeg", CASES["xmp"][0]) == "image/jpeg"


def test_binary_data_with_many_zeros_is_no_text() -> None:
    """A database has pages of zeros; in UTF-16 every other byte of text is zero, also between such pages."""
    place = "latitude: 47.80453, longitude: 13.04229\n" * 9
    assert refine_kind(OCTETS, bytes(4096) + b"\1" + place.encode() + bytes(4096) + b"\1") == OCTETS
    spread = bytes(4096) + place.encode("utf-16-le") + bytes(4096) + place.encode("utf-16-le")
    assert refine_kind(OCTETS, spread) == "application/x-location-text"

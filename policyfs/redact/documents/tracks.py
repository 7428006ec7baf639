"""Kinds of text files with places: sidecars, tracks, receivers' logs.

libmagic returns text/plain, text/xml or application/json for most of these files. This module gives such
files their own kinds. So a rule that lets plain text through unread does not let a track through.
"""

from __future__ import annotations

import re
from typing import Final

from policyfs.redact.core.free_text import tells_place

XMP_SIDECAR: Final = "application/rdf+xml"
GPX: Final = "application/gpx+xml"
KML: Final = "application/vnd.google-earth.kml+xml"
TCX: Final = "application/vnd.garmin.tcx+xml"
GEO_JSON: Final = "application/geo+json"
LOCATION_JSON: Final = "application/x-location+json"
NMEA: Final = "application/x-nmea"
SVG: Final = "image/svg+xml"
LOCATION_VTT: Final = "application/x-location+vtt"
LOCATION_TEXT: Final = "application/x-location-text"

HEAD_BYTES: Final = 1 << 18
"""Maximum number of bytes at the start of a file that refine_kind() examines."""

_TEXT_KINDS: Final = re.compile(
    r"text/.*|.*[+/](?:xml|json|x-ndjson|yaml|x-yaml|csv)|"
    r"application/(?:octet-stream|x-subrip|javascript|sgml)"
)
_BLANKS: Final = "\ufeff \t\r\n"
_MARKS: Final = (
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"\0\0\xfe\xff", "utf-16-be"),
)
"""Marks at the start of texts in UTF-16 and UTF-32. UTF-32-LE begins with the mark of UTF-16-LE."""
_XML_KINDS: Final = (
    (re.compile(r"<(?:\w+:)?xmpmeta\b|<\?xpacket\b|ns\.adobe\.com/xap"), XMP_SIDECAR),
    (re.compile(r"<(?:\w+:)?gpx\b", re.IGNORECASE), GPX),
    (re.compile(r"<(?:\w+:)?kml\b", re.IGNORECASE), KML),
    (re.compile(r"<(?:\w+:)?TrainingCenterDatabase\b", re.IGNORECASE), TCX),
    (re.compile(r"www\.topografix\.com/GPX|georss\.org|opengis\.net/gml", re.IGNORECASE), LOCATION_TEXT),
)
_SUBTITLES: Final = (
    (
        re.compile(r"\ufeff?\s*\d{1,9}[ \t]*\r?\n[ \t]*\d{1,3}:\d\d:\d\d[,.]\d{1,3}[ \t]*-->"),
        "application/x-subrip",
    ),
    (
        re.compile(r"\ufeff?\d{1,3}:\d\d:\d\d\.\d{3},\d{1,3}:\d\d:\d\d\.\d{3}\r?\n"),
        "application/x-sbv",
    ),
    (re.compile(r"\ufeff?(?:[ \t]*[\r\n])*\[Script Info\][ \t]*[\r\n]"), "application/x-ssa"),
)
"""Starts of subtitles, and their kinds."""
_VTT: Final = re.compile(r"\ufeff?WEBVTT(?![^ \t\r\n])")
_GEO_JSON: Final = re.compile(
    r"\"type\"\s*:\s*\"(?:FeatureCollection|Feature|GeometryCollection|"
    r"(?:Multi)?(?:Point|LineString|Polygon))\"|\"coordinates\"\s*:\s*\["
)
_LOCATION_JSON: Final = re.compile(
    r"\"(?:[a-z_]{0,40}(?:latitude|longitude|geo_?data|geo_?point|geo_?location|gps)\w{0,40}|lat|lng|lon|"
    r"locations?|place_?id|placeVisit|timelineObjects|semanticSegments|geoDataExif)\"\s*:",
    re.IGNORECASE,
)
_NMEA: Final = re.compile(r"^[$!][A-Z]{2}[A-Z0-9]{3},[^\n]{0,200}\*[0-9A-F]{2}\s*$", re.MULTILINE)
_LATITUDE: Final = re.compile(r"\blat(?:itude)?\b", re.IGNORECASE)
_LONGITUDE: Final = re.compile(r"\b(?:lon(?:g|gitude)?|lng)\b", re.IGNORECASE)
_COMMENT: Final = re.compile(r"<!--(?:[^-]|-(?!->))*(?:-->|\Z)")
_ELEMENT: Final = re.compile(r"<(?:\w+:)?([A-Za-z_]\w*)")
_IGC: Final = re.compile(r"^B\d{6}\d{7}[NS]\d{8}[EW][AV]", re.MULTILINE)


def refine_kind(mime: str, head: bytes) -> str:
    """Return the content kind of a file by libmagic's kind (mime) and the file's head.

    Only files of kinds that may be text are examined; any other kind is returned unchanged.
    """
    if not head or _TEXT_KINDS.fullmatch(mime) is None:
        return mime
    text = _decode(head[:HEAD_BYTES], is_text=mime != "application/octet-stream")
    if text is None:
        return mime
    if text.lstrip(_BLANKS).startswith("<"):
        root = _ELEMENT.search(_COMMENT.sub("", text))
        if root is not None and root[1] == "svg":
            return SVG
    if subtitles := next((kind for start, kind in _SUBTITLES if start.match(text)), None):
        return subtitles
    kind = _sidecar(text) or mime
    return LOCATION_VTT if kind == LOCATION_TEXT and _VTT.match(text) else kind


def _sidecar(text: str) -> str | None:
    start = text.lstrip(_BLANKS)[:1]
    if start == "<":
        for pattern, kind in _XML_KINDS:
            if pattern.search(text):
                return kind
    if start in ("{", "["):
        if _GEO_JSON.search(text):
            return GEO_JSON
        if _LOCATION_JSON.search(text):
            return LOCATION_JSON
    if _NMEA.search(text):
        return NMEA
    if _has_columns(text) or _IGC.search(text) or tells_place(text):
        return LOCATION_TEXT
    return None


def _has_columns(text: str) -> bool:
    first = text.lstrip(_BLANKS).split("\n", 1)[0]
    return bool(_LATITUDE.search(first) and _LONGITUDE.search(first))


def _decode(head: bytes, *, is_text: bool) -> str | None:
    """Decode the head; None if it is binary. is_text: libmagic takes it for text: zero bytes do not count."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            # Read as UTF-16, UTF-32 has a zero behind or before each character.
            return head[len(mark) :].decode(encoding, "replace").replace("\0", "")
    head = head.rstrip(b"\0")
    if b"\0" in head:
        # UTF-16 without a mark: every other byte is zero. Pairs of zeros tell nothing: a database has many.
        zeros = head.decode("utf-16-le", "replace").count("\0")
        most = max(head[0::2].count(0), head[1::2].count(0)) - zeros
        is_text = is_text or most >= (len(head) // 2 - zeros) * 0.8
        return head.replace(b"\0", b"").decode("latin-1") if is_text else None
    return head.decode("utf-8", "replace")

"""The table of kinds: what may be read raw under redaction, what is redacted, what is refused.

It fails closed: a kind that is not in it is refused. docs/redaction.md shows it, and a test
holds the two against each other.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from policyfs.domain import KIND_EMPTY
from policyfs.redact.core.categories import Tells


class Treatment(enum.Enum):
    """What redaction does with files of a kind."""

    NOTHING = "carries nothing"
    LOCATOR = "redacted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind, what is done with it, and why."""

    kind: str
    treatment: Treatment
    why: str


@dataclass(frozen=True, slots=True)
class Part:
    """One row of docs/redaction.md's tables of parts: what of a file may hold what.

    kinds: the files it is about ("PNG"). where: the part as its standard calls it. holds: what, for
    people. tells: the words under which it goes. becomes: what stands there then.
    """

    kinds: str
    where: str
    holds: str
    tells: Tells
    becomes: str


_REFUSED: Final = Treatment.REFUSED
_ROWS: Final = (
    KindRow(KIND_EMPTY, Treatment.NOTHING, "no bytes, so nothing to hide"),
    KindRow("image/jpeg", Treatment.LOCATOR, "EXIF, XMP, IPTC and all other metadata is examined"),
    KindRow("image/png", Treatment.LOCATOR, "EXIF, XMP, texts and all other chunks are examined"),
    KindRow("image/webp", Treatment.LOCATOR, "EXIF, XMP and all other chunks are examined"),
    KindRow("image/heic", Treatment.LOCATOR, "EXIF, XMP and all other items are examined"),
    KindRow("image/heif", Treatment.LOCATOR, "EXIF, XMP and all other items are examined"),
    KindRow("image/avif", Treatment.LOCATOR, "EXIF, XMP and all other items are examined"),
    KindRow("image/heic-sequence", Treatment.LOCATOR, "items and tracks are examined"),
    KindRow("image/heif-sequence", Treatment.LOCATOR, "items and tracks are examined"),
    KindRow("image/x-canon-cr3", Treatment.LOCATOR, "EXIF, maker notes, XMP, previews, tracks are examined"),
    KindRow("image/jxl", Treatment.LOCATOR, "EXIF, XMP and all other boxes are examined"),
    KindRow("image/jp2", Treatment.LOCATOR, "all boxes and the codestream's comments are examined"),
    KindRow("image/jph", Treatment.LOCATOR, "all boxes and the codestream's comments are examined"),
    KindRow("image/jpx", Treatment.LOCATOR, "all boxes and the codestream's comments are examined"),
    KindRow("image/x-jp2-codestream", Treatment.LOCATOR, "comments are examined"),
    KindRow("image/tiff", Treatment.LOCATOR, "all tags are examined; DNG, NEF, ARW, PEF, SRW, 3FR, too"),
    KindRow("image/x-canon-cr2", Treatment.LOCATOR, "likewise"),
    KindRow("image/x-olympus-orf", Treatment.LOCATOR, "likewise"),
    KindRow("image/x-panasonic-rw2", Treatment.LOCATOR, "likewise"),
    KindRow("image/x-fuji-raf", Treatment.LOCATOR, "its JPEG, its directory and its TIFF are examined"),
    KindRow("image/gif", Treatment.LOCATOR, "comments, XMP and all other extensions are examined"),
    KindRow("image/svg+xml", _REFUSED, "may carry any metadata; no locator"),
    KindRow("video/mp4", Treatment.LOCATOR, "user data, metadata boxes and timed metadata are examined"),
    KindRow("video/quicktime", Treatment.LOCATOR, "likewise"),
    KindRow("video/x-m4v", Treatment.LOCATOR, "likewise"),
    KindRow("video/3gpp", Treatment.LOCATOR, "likewise"),
    KindRow("video/3gpp2", Treatment.LOCATOR, "likewise"),
    KindRow("audio/mp4", Treatment.LOCATOR, "likewise"),
    KindRow("audio/x-m4a", Treatment.LOCATOR, "likewise"),
    KindRow("video/x-matroska", Treatment.LOCATOR, "tags, chapters, attachments, all tracks but media"),
    KindRow("video/webm", Treatment.LOCATOR, "as Matroska"),
    KindRow("audio/x-matroska", Treatment.LOCATOR, "as Matroska"),
    KindRow("audio/webm", Treatment.LOCATOR, "as Matroska"),
    KindRow("audio/mpeg", Treatment.LOCATOR, "ID3, APE and Lyrics3 tags are examined"),
    KindRow("video/mp2t", _REFUSED, "AVCHD and dash-cams write places and dates into every second of it"),
    KindRow("video/mpeg", _REFUSED, "may carry anything in private streams and user data"),
    KindRow("video/x-flv", _REFUSED, "its script tags hold anything; no locator"),
    KindRow("video/x-ms-asf", _REFUSED, "its headers hold anything; no locator (WMV, WMA)"),
    KindRow("audio/flac", Treatment.LOCATOR, "comments, pictures and all other blocks are examined"),
    KindRow("audio/aac", Treatment.LOCATOR, "ID3, APE and Lyrics3 tags are examined"),
    KindRow("audio/ogg", Treatment.LOCATOR, "comments are examined; unknown streams are refused"),
    KindRow("video/ogg", Treatment.LOCATOR, "comments are examined; unknown streams are refused"),
    KindRow("application/ogg", Treatment.LOCATOR, "comments are examined; unknown streams are refused"),
    KindRow("audio/x-wav", Treatment.LOCATOR, "all chunks besides the sound are examined"),
    KindRow("video/x-msvideo", Treatment.LOCATOR, "all chunks besides picture and sound are examined"),
    KindRow("audio/x-aiff", Treatment.LOCATOR, "all chunks besides the sound are examined"),
    KindRow("audio/amr", Treatment.LOCATOR, "speech frames and nothing else"),
    KindRow("image/bmp", Treatment.LOCATOR, "what is no picture becomes zeros"),
    KindRow(
        "image/vnd.microsoft.icon", Treatment.LOCATOR, "what is no picture becomes zeros; PNGs are redacted"
    ),
    KindRow("application/pdf", Treatment.LOCATOR, "all objects of all revisions; page text stays"),
    KindRow("application/zip", _REFUSED, "holds any other file"),
    KindRow("text/plain", _REFUSED, "may say anything; a track or a log of places, too"),
    KindRow("application/rdf+xml", Treatment.LOCATOR, "an XMP sidecar: each property, as in a photo"),
    KindRow("application/gpx+xml", _REFUSED, "a track: places from end to end"),
    KindRow("application/vnd.google-earth.kml+xml", _REFUSED, "places from end to end"),
    KindRow("application/vnd.garmin.tcx+xml", _REFUSED, "a training: places from end to end"),
    KindRow("application/geo+json", _REFUSED, "places from end to end"),
    KindRow("application/x-location+json", Treatment.LOCATOR, "Takeout's JSON, member by member"),
    KindRow("application/x-nmea", _REFUSED, "a GPS receiver's log"),
    KindRow("application/x-location-text", _REFUSED, "text in which coordinates were found"),
)


def kind_rows() -> tuple[KindRow, ...]:
    """The table, row by row, as the documentation shows it. All other kinds are refused."""
    return _ROWS


def kind_table() -> Mapping[str, KindRow]:
    """The table by kind. A kind that is not in it is refused."""
    return MappingProxyType({row.kind: row for row in _ROWS})

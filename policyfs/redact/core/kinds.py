"""Rows of the table of kinds: the description of each format, and the kinds that are refused.

registry.py makes the table from them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from policyfs.domain import KIND_EMPTY
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Locator


class Treatment(enum.Enum):
    """Treatment of files of a kind by redaction."""

    NOTHING = "carries nothing"
    LOCATOR = "redacted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind, its treatment, and the reason."""

    kind: str
    treatment: Treatment
    why: str


@dataclass(frozen=True, slots=True)
class Part:
    """One row of docs/redaction.md's tables of parts: a part of a file, and its data.

    kinds: the files it is about ("PNG"). where: the part, by the name in its standard. holds: the data
    in it, for people. tells: the words that remove it. becomes: the bytes that replace it.
    """

    kinds: str
    where: str
    holds: str
    tells: Tells
    becomes: str


class Start(NamedTuple):
    """Signature of embedded pictures of a kind: these bytes at this offset."""

    kind: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Format:
    """One format that is redacted: all that the rest of policyfs has to know of it.

    kinds: its content kinds, and the parts examined in each, for the documentation. locate: its
    locator. parts: the parts of its files. pictures: signatures, for pictures that other files may
    embed.
    """

    kinds: Mapping[str, str]
    locate: Locator
    parts: tuple[Part, ...] = ()
    pictures: tuple[Start, ...] = ()


NOTHING_IN: Final = KindRow(KIND_EMPTY, Treatment.NOTHING, "no bytes, so nothing to hide")
_WHY_REFUSED: Final = MappingProxyType(
    {
        "image/svg+xml": "may carry any metadata; no locator",
        "video/mp2t": "AVCHD and dash-cams write places and dates into every second of it",
        "video/mpeg": "may carry anything in private streams and user data",
        "video/x-flv": "its script tags hold anything; no locator",
        "video/x-ms-asf": "its headers hold anything; no locator (WMV, WMA)",
        "application/zip": "holds any other file",
        "text/plain": "may say anything; a track or a log of places, too",
        "application/gpx+xml": "a track: places from end to end",
        "application/vnd.google-earth.kml+xml": "places from end to end",
        "application/vnd.garmin.tcx+xml": "a training: places from end to end",
        "application/geo+json": "places from end to end",
        "application/x-nmea": "a GPS receiver's log",
        "application/x-location-text": "text in which coordinates were found",
    }
)


def refused_rows() -> tuple[KindRow, ...]:
    """Return known kinds without a locator. Unknown kinds are refused as well."""
    return tuple(KindRow(kind, Treatment.REFUSED, why) for kind, why in _WHY_REFUSED.items())

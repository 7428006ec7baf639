"""The tags of TIFF and EXIF that are known, and what is done with each.

An allow list on purpose: a private tag may hold anything, a place too, so a tag that is not
here is taken out. Sources: TIFF 6.0, TIFF/EP, Exif 2.32 and 3.0 (CIPA DC-008), CIPA DC-007
(multi-picture format).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

TYPE_SIZES: Final = {
    1: 1,  # BYTE
    2: 1,  # ASCII
    3: 2,  # SHORT
    4: 4,  # LONG
    5: 8,  # RATIONAL
    6: 1,  # SBYTE
    7: 1,  # UNDEFINED
    8: 2,  # SSHORT
    9: 4,  # SLONG
    10: 8,  # SRATIONAL
    11: 4,  # FLOAT
    12: 8,  # DOUBLE
    13: 4,  # IFD
    129: 1,  # UTF-8 (Exif 3.0)
}
"""Bytes per value of each field type."""

TEXT_TYPES: Final = frozenset({1, 2, 6, 7, 129})

GPS_IFD: Final = 0x8825
EXIF_IFD: Final = 0x8769
INTEROP_IFD: Final = 0xA005
SUB_IFDS: Final = 0x014A
MAKER_NOTE: Final = 0x927C
XMP: Final = 0x02BC
IPTC: Final = 0x83BB
PHOTOSHOP: Final = 0x8649
PRINT_IM: Final = 0xC4A5
JPEG_OFFSET: Final = 0x0201
JPEG_LENGTH: Final = 0x0202
STRIP_OFFSETS: Final = 0x0111
STRIP_LENGTHS: Final = 0x0117
TILE_OFFSETS: Final = 0x0144
TILE_LENGTHS: Final = 0x0145
MPF_ENTRIES: Final = 0xB002

GPS_TAGS_END: Final = 0x40
"""GPS tags are 0x00 to 0x1f (Exif 2.32); room for what later versions may add."""

NAMES: Final = {
    GPS_IFD: "GPSInfo",
    MAKER_NOTE: "MakerNote",
    XMP: "XMP",
    IPTC: "IPTC",
    PHOTOSHOP: "Photoshop",
    0x010E: "ImageDescription",
    0x9286: "UserComment",
}


class Role(enum.Enum):
    """What a directory of tags is for; decides which tags are known in it."""

    IMAGE = "IFD"
    EXIF = "ExifIFD"
    INTEROP = "InteropIFD"


@dataclass(frozen=True, slots=True)
class TagTable:
    """Known tags per role. name: the container's name in findings."""

    name: str
    known: dict[Role, frozenset[int]]


def _tags(*spans: int | tuple[int, int]) -> frozenset[int]:
    found: set[int] = set()
    for span in spans:
        first, last = span if isinstance(span, tuple) else (span, span)
        found.update(range(first, last + 1))
    return frozenset(found)


# Not in these tables, so taken out wherever they stand: the GPS directory and its tags, maker
# notes, DNG private data, GeoTIFF and GDAL tags, Windows padding, everything unregistered.
_PICTURE: Final = _tags(
    *(0x000B, (0x00FE, 0x0103), (0x0106, 0x0112), (0x0115, 0x0125), (0x0128, 0x0129)),
    *(0x012D, 0x0131, 0x0132, (0x013B, 0x0148), SUB_IFDS, (0x014C, 0x0154), 0x015A, 0x015B),
    *((0x0200, 0x0203), (0x0205, 0x0209), (0x0211, 0x0214), XMP, 0x4746, 0x4749),
    *(0x828D, 0x828E, 0x8298, IPTC, PHOTOSHOP, EXIF_IFD, 0x8773, (0x9C9B, 0x9C9F), PRINT_IM),
    0xEA1D,
)
_EXIF: Final = _tags(
    *(0x829A, 0x829D, 0x8822, 0x8824, (0x8827, 0x882B), (0x8830, 0x8835), 0x9000, 0x9003, 0x9004),
    *((0x9010, 0x9012), 0x9101, 0x9102, (0x9201, 0x9217), 0x9286, (0x9290, 0x9292)),
    *((0x9400, 0x9405), (0xA000, 0xA004), INTEROP_IFD, 0xA20B, 0xA20C, (0xA20E, 0xA210)),
    *(0xA214, 0xA215, 0xA216, 0xA217, (0xA300, 0xA302), (0xA401, 0xA40C), 0xA420),
    *((0xA430, 0xA43C), (0xA460, 0xA462), 0xA500),
)

EXIF_TABLE: Final = TagTable(
    "EXIF",
    {
        # Some writers mix the two directories up; a known tag is known in both.
        Role.IMAGE: _PICTURE | _EXIF,
        Role.EXIF: _PICTURE | _EXIF,
        Role.INTEROP: _tags((0x0001, 0x0002), (0x1000, 0x1002)),
    },
)

MPF_TABLE: Final = TagTable("MPF", {Role.IMAGE: _tags((0xB000, 0xB004), 0xB101, (0xB201, 0xB20E))})

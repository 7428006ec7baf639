"""Categories and value types of the tags of whole TIFF files and of raw files.

The tags of EXIF come from tags.py. This module adds the tags that only whole files have: DNG 1.7, GeoTIFF
1.1, TIFF/EP (ISO 12234-2), and the other directories in raw files of cameras. As in tags.py, every word of a
policy removes a tag that is in no table. Such a tag stays only if its value has no information. Each tag is
listed by itself, and has its name in the comment's standard, or in ExifTool.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import DEVICE, NOTHING, OTHER, PEOPLE, TIME, UNKNOWN, Tells
from policyfs.redact.exif import tags
from policyfs.redact.exif.rules import How, Rules, rules
from policyfs.redact.exif.tags import EXIF, GPS, IMAGE, INTEROP

SR2: Final = "SR2Private"
PANASONIC_CAMERA: Final = "CameraIFD"
FUJI: Final = "FujiIFD"

JPEG_TABLES: Final = (0x0207, 0x0208, 0x0209)
RAW_DATA_OFFSET: Final = 0x0118
"""Panasonic's offset of the pixels, if StripOffsets is all ones. In other files the tag is MinSampleValue."""
SR2_OFFSET: Final = 0x7200
SR2_LENGTH: Final = 0x7201
IMAGE_PAIRS: Final = (
    (tags.JPEG_OFFSET, tags.JPEG_LENGTH),
    (tags.STRIP_OFFSETS, tags.STRIP_LENGTHS),
    (tags.TILE_OFFSETS, tags.TILE_LENGTHS),
    (0xA010, 0xA011),  # Samsung's table with the offset of each line of pixels
    (SR2_OFFSET, SR2_LENGTH),  # Sony's encrypted colour data
    (0xF007, 0xF008),  # Fujifilm's strips
    (0xCD3C, 0xCD3D),  # DNG 1.6's big tables
)
"""Pairs of tags: the offsets and the lengths of pixels and related data."""


_WHOLE: Final = rules(
    ("8825", NOTHING, How.DIRECTORY, GPS),
    ("927c", NOTHING, How.NOTE),
    ("c634", NOTHING, How.PRIVATE),
    # Needed by decoders of pixels: JPEG and fax parameters (TIFF tech note 2, RFC 2301, LibTIFF's LERC),
    # extra samples (SGI), JBIG (RFC 2301), GDAL's value of missing pixels.
    ("15b 1b1 1b3 1b5 22f 80e3 80e4 80e5 80e6 87be a481 c5f2", NOTHING),
    ("191 192 193 194 195 303 8214 8215", OTHER),
    # Molecular Dynamics: scale and colours; its laboratory and dates.
    ("82a5 82a6 82a7 82ac", NOTHING),
    ("82a8 82a9", PEOPLE),
    ("82aa 82ab", TIME),
    # GeoTIFF and its forerunners: the picture's place on the earth.
    ("830e 8480 8482 85d7 85d8 87af 87b0 87b1", Tells.LOCATION),
    ("a480", UNKNOWN),  # GDAL's XML may tell anything
    # TIFF/EP: the format of the sensor's pixels.
    ("828d 828e 9216 9217", NOTHING),
    ("828f", DEVICE),
    # DNG 1.7, chapter 4: the development of pixels to a picture.
    ("c612 c613 c616 c617 c618 c619 c61a c61b c61c c61d c61e c61f c620 c621 c622 c623 c624 c625", NOTHING),
    ("c626 c627 c628 c629 c62a c62b c62c c62d c62e c631 c632 c633 c635 c640 c65a c65b c65c", NOTHING),
    ("c68d c68e c68f c690 c691 c692 c6bf", NOTHING),
    ("c6d2 c6d3", PEOPLE),  # Panasonic's titles
    ("c614 c615 c62f c630 c65d", DEVICE),
    ("c68b", DEVICE | TIME | PEOPLE),  # the original's name
    ("c6f5 c6f7 c6f9 c6fa c6fb c6fc c6fd c714 c715 c71a c71c c71d c71e c71f c725 c726 c740 c741", NOTHING),
    ("c74e c761 c791 c792 c793", NOTHING),
    ("c6f3 c6f4 c6f6 c6f8 c716 c717 c718", DEVICE),  # names of profiles are those of the maker
    ("c6fe c789 c7a1", DEVICE | PEOPLE),
    ("c719", OTHER),
    ("c71b c763", TIME),
    ("c764 c772", OTHER),
    ("c7a3 c7a4 c7a5 c7a6 c7a7 c7a8 c7aa c7b5 c7e9 c7ea c7eb c7ec c7ed", NOTHING),
    # DNG 1.6 and 1.7: profiles of three illuminants, masks, tables (cd3b to cd3e: the SDK's big tables),
    # JPEG XL. cd41 is not here: it holds JUMBF, with manifests of C2PA.
    ("cd2d cd31 cd32 cd33 cd34 cd35 cd36 cd37 cd38 cd39 cd3a cd3b cd3c cd3d cd3e cd3f cd40 cd43", NOTHING),
    ("cd46 cd47 cd49 cd4a cd4b", NOTHING),
    ("c7ee cd48", DEVICE),  # the program that enhanced the picture; the group of a profile
    ("cd2e cd30", PEOPLE),  # the names of what a mask shows
    ("cd44", DEVICE | TIME),  # the id of a sequence of pictures
    # Canon: slices, colour filter and kinds of raw (ExifTool; L. Clevy's description of CR2).
    ("c5d8 c5d9 c5e0 c5e1 c6c5 c6dc", NOTHING),
    # Sony: kind of raw, tone curve, lens corrections, crop, levels, matrices (ExifTool, also of SR2SubIFD).
    ("7000 7010 7031 7032 7034 7035 7036 7037 7300 7302 7303 7310 7312 7313 7480 7481 7482 7483", NOTHING),
    ("7484 7486 74c7 74c8 7800 7820 7821 7822 7823 7824 7825 7826 7827 7828 7829 782a 782b 782c", NOTHING),
    ("782d 787f 797d 7980 7982", NOTHING),
    ("a010 a011 a101 a102", NOTHING),  # Samsung's raw lines
    ("f000", NOTHING, How.DIRECTORY, FUJI),
)


_EXIF: Final = tags.EXIF_TABLE.rules
_PICTURE: Final = MappingProxyType({**_EXIF[IMAGE], **_WHOLE})

PANASONIC: Final = MappingProxyType(
    {
        **_PICTURE,
        **rules(
            ("1 2 3 4 5 6 7 8 9 a b e f 10 11 12 13 17 18 19 1a 1b 1c 1d 1e 24 25 26 27 2d 2f 30", NOTHING),
            ("31 32 118 119 11a 11b 11c 121 122 123 124 125", NOTHING),
            ("37 39 3a 3b 3c 3d 3e 3f 40 41 42 43 44", NOTHING),  # LibRaw: ISO, the packing of format 8
            ("2e 127", NOTHING, How.PICTURE),
            ("120", NOTHING, How.DIRECTORY, PANASONIC_CAMERA),
        ),
    }
)
"""Tags of the first directory of an RW2 file. The tags below 0x0100 are Panasonic's own."""

TABLES: Final[Mapping[str, Rules]] = MappingProxyType(
    {
        IMAGE: _PICTURE,
        EXIF: _PICTURE,
        INTEROP: _EXIF[INTEROP],
        GPS: _EXIF[GPS],
        FUJI: rules(("f000 f001 f002 f003 f007 f008 f00a f00b f00c f00d f00e f00f f010", NOTHING)),
        SR2: rules(("7200 7201 7221", NOTHING)),
        "RW2": PANASONIC,
        PANASONIC_CAMERA: rules(
            ("1001 1100 1101 1102 1105 1203 1301 1302 1303 1305 1412 3200 3201 3202 3203 3300", OTHER),
            ("3420 3421 3501 3600", OTHER),
            ("1200 1201 1202", DEVICE),
        ),
    }
)
"""Role of a directory -> the rules for its tags. (Those of maker notes are in makernote_tags.py.)"""

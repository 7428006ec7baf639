"""Each tag that may stay has a name: ExifTool was asked, or the standard that is named here.

A tag that nobody can name may hold anything, as 0xCD41 did: it was in a range of DNG's tags, and C2PA put its
manifests there.
"""

from __future__ import annotations

import subprocess
from typing import Final

import pytest

from policyfs.redact.exif.makernotes import TABLES
from policyfs.redact.exif.rules import numbers
from policyfs.redact.exif.tags import EXIF_TABLE, MPF_TABLE
from tests.support.samples.media import TOOL_DEADLINE_S

_LISTING: Final = r"""
use Image::ExifTool; my $et = new Image::ExifTool;
for my $name (@ARGV) {
    my $table = Image::ExifTool::GetTagTable("Image::ExifTool::$name") or die "no table $name";
    print map { "$name $_\n" } grep { /^\d+$/ } keys %$table;
}
"""
_EXIF: Final = ("Exif::Main", "Sony::SR2SubIFD")
_TABLES: Final = {
    "IFD": _EXIF,
    "ExifIFD": _EXIF,
    "InteropIFD": ("Exif::Main",),
    "GPS": ("GPS::Main",),
    "FujiIFD": ("FujiFilm::IFD",),
    "SR2Private": ("Sony::SR2Private",),
    "RW2": ("PanasonicRaw::Main", *_EXIF),
    "CameraIFD": ("PanasonicRaw::CameraIFD",),
    "Casio type 2": ("Casio::Type2",),
    "Leica 5": ("Panasonic::Leica5",),
    "Leica 9": ("Panasonic::Leica9",),
    "Nikon preview": ("Nikon::PreviewIFD", "Exif::Main"),
    "Nikon scan": ("Nikon::Scan",),
    "Nikon type 1": ("Nikon::Type2",),
    "Olympus development": ("Olympus::RawDevelopment", "Olympus::RawDevelopment2"),
    "Olympus equipment": ("Olympus::Equipment",),
    "Olympus focus": ("Olympus::FocusInfo",),
    "Olympus processing": ("Olympus::ImageProcessing",),
    "Olympus raw": ("Olympus::RawInfo",),
    "Olympus settings": ("Olympus::CameraSettings",),
    "Samsung": ("Samsung::Type2",),
}
"""The tables of ExifTool for a role of a directory; NAME::Main for all others."""
_WHOLE: Final = {
    "Exif 3.0, 4.6.6": "a436 a437 a438 a439 a43a a43b a43c",
    "DNG 1.7, chapter 4": "cd3f cd40 cd43 cd44 cd46 cd47 cd48 cd49 cd4a cd4b",
    "Adobe's DNG SDK, dng_tag_codes.h (big tables)": "cd3c cd3d cd3e",
    "LibTIFF, tiff.h (LERC)": "c5f2",
    "Microsoft's GDI+ (rendering intent)": "303",
    "L. Clevy, The Canon RAW (CR2) file format": "c5d8 c5d9 c5e1 c6dc",
    "ExifTool 13 (Xiaomi's model; the directory of RAF's TIFF)": "9a00 f000",
}
_OTHERS: Final = {
    "IFD": _WHOLE,
    "ExifIFD": _WHOLE,
    "RW2": _WHOLE | {"LibRaw, decoders/pana8.cpp; JpgFromRaw2": "37 39 3a 3b 3c 3d 3e 3f 40 41 42 43 44 127"},
    "Apple": {
        "names in Apple's ImageIO": "d e 10 12 13 16 18 1b 1c 1e 1f 22 23 24 28 29 2a 2b 2c 2d 2e 31 32 33 34"
        " 35 36 37 39 3a 3b 3c 43 44 46 47 48 49 4a 4b 4c 4d"
    },
}
"""Further sources: the tags that ExifTool 12.57 does not know."""


@pytest.fixture(scope="module")
def named() -> dict[str, set[int]]:
    wanted = sorted({name for role in TABLES for name in _TABLES.get(role, (f"{role}::Main",))})
    command = ["perl", "-e", _LISTING, *wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_DEADLINE_S, check=True)
    found: dict[str, set[int]] = {name: set() for name in wanted}
    for line in done.stdout.splitlines():
        name, tag = line.split()
        found[name].add(int(tag))
    return found


@pytest.mark.parametrize("role", TABLES)
def test_each_tag_of_a_table_has_a_source(named: dict[str, set[int]], role: str) -> None:
    known = set().union(*(named[name] for name in _TABLES.get(role, (f"{role}::Main",))))
    listed = {tag for tags in _OTHERS.get(role, {}).values() for tag in numbers(tags)}
    nameless = {f"{tag:04x}" for tag in TABLES[role].keys() - known - listed}
    assert not nameless
    assert not {f"{tag:04x}" for tag in listed - TABLES[role].keys()}


def test_the_tables_of_other_files_have_no_further_tags() -> None:
    for role, rules in EXIF_TABLE.rules.items():
        assert rules.keys() <= TABLES[role].keys()
    assert min(MPF_TABLE.rules["IFD"]) == 0xB000
    assert max(MPF_TABLE.rules["IFD"]) == 0xB20E


def test_a_manifest_is_in_no_table() -> None:
    assert all(0xCD41 not in rules for rules in TABLES.values())

"""Each tag that may stay has a name: ExifTool was asked, or the standard that is named here. No range counts.

A tag that nobody can name may hold anything, as 0xCD41 did: it was in a range of DNG's tags, and C2PA put its
manifests there.
"""

from __future__ import annotations

import ast
import re
import subprocess
from typing import Final

import pytest

from policyfs.redact.exif.makernotes import TABLES
from policyfs.redact.exif.rules import numbers
from policyfs.redact.exif.tags import EXIF_TABLE, MPF_TABLE
from tests.support.machine.documents import CHECKOUT
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
    "ExifTool 12 (RGBTables; later versions know the right number alone)": "cd3b",
}
_OTHERS: Final = {
    "IFD": _WHOLE,
    "ExifIFD": _WHOLE,
    "RW2": _WHOLE | {"LibRaw, decoders/pana8.cpp; JpgFromRaw2": "37 39 3a 3b 3c 3d 3e 3f 40 41 42 43 44 127"},
    "Apple": {
        "names in Apple's ImageIO": "d e 10 12 13 16 18 1b 1c 1e 1f 22 23 24 28 29 2a 2b 2c 2d 2e 31 32 33 34"
        " 35 36 37 39 3a 3b 3c 43 44 46 47 48 49 4a 4b 4c 4d",
        "ExifTool 12 (FrontFacingCamera)": "45",
    },
}
"""Further sources: the tags that ExifTool 12.57 or 13.25 does not know."""


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


_FIXED: Final = r"""
use Image::ExifTool; my $et = new Image::ExifTool;
for my $name (qw(Main Type2 Type4)) {
    my $table = Image::ExifTool::GetTagTable("Image::ExifTool::Kodak::$name");
    for my $key (grep { /^\d/ } keys %$table) {
        for my $tag (ref $$table{$key} eq "ARRAY" ? @{$$table{$key}} : $$table{$key}) {
            my $group = ref $tag eq "HASH" && $$tag{Groups} ? $$tag{Groups}{2} : "";
            print ref $tag eq "HASH" ? $$tag{Name} : $tag, " ", $group // "", "\n";
        }
    }
}
"""


def test_notes_of_a_fixed_layout_have_no_place() -> None:
    """Kodak's notes stay under `location` (makernotes.py): ExifTool knows the fields, and none is a place."""
    command = ["perl", "-e", _FIXED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_DEADLINE_S, check=True)
    fields = done.stdout.splitlines()
    assert len(fields) > 30
    assert [field for field in fields if re.search("gps|location|city|country|place", field.lower())] == []


def test_the_tables_of_other_files_have_no_further_tags() -> None:
    for role, rules in EXIF_TABLE.rules.items():
        assert rules.keys() <= TABLES[role].keys()
    assert min(MPF_TABLE.rules["IFD"]) == 0xB000
    assert max(MPF_TABLE.rules["IFD"]) == 0xB20E


def test_manifests_and_layers_are_in_no_table() -> None:
    """JUMBF, and Photoshop's layers, which hold whole files: as unknown tags they go under every word."""
    assert all({0xCD41, 0x935C}.isdisjoint(rules) for rules in TABLES.values())


_BYTES: Final = "a table of bytes"
_RANGES: Final = {
    "audio/flac.py": {"range(7)": "types of blocks, each with its own rule (RFC 9639, 8.1)"},
    "audio/ogg_pages.py": {"range(256)": _BYTES},
    "bitstreams/frame_table.py": {"range(4)": "names for four numbers"},
    "bitstreams/frames.py": {
        "range(1, 48)": "headers of MPEG-4, which are searched",
        "range(256)": _BYTES,
    },
    "bitstreams/layers.py": dict.fromkeys(
        ("range(10)", "range(16, 22)", "range(4)", "range(7, 11)", "range(1, 176)"), "as in nal_units.py"
    ),
    "bitstreams/nal_units.py": {
        **dict.fromkeys(
            ("range(1, 6)", "range(7, 12)", "range(13, 17)", "range(19, 22)"),
            "types of units, H.264, table 7-1",
        ),
        **dict.fromkeys(("range(10)", "range(16, 22)", "range(32, 38)"), "types of units, H.265, table 7-1"),
        **dict.fromkeys(("range(4)", "range(7, 11)", "range(12, 23)"), "types of units, H.266, table 5"),
        "range(176)": "pictures, slices, objects (H.262, table 6-1; ISO/IEC 14496-2, table 6-3)",
    },
    "bitstreams/sei.py": {
        "range(160, 171)": "exposure (H264.pm of ExifTool)",
        "range(176, 208)": "GPS, which goes: no number in it stays under `location`",
    },
    "bitstreams/photos.py": {"range(192, 208)": "SOFn (T.81, table B.1), which only say that a JPEG begins"},
    "core/appended.py": {"range(256)": _BYTES},
    "core/block_starts.py": {"range(256)": _BYTES},
    "core/categories.py": {"range(1 << len(Tells))": "all sets of categories"},
    "core/coordinates.py": {"range(65281, 65375)": "wide forms of ASCII, which are read as ASCII"},
    "core/kept_values.py": {"range(256)": _BYTES, "range(32, 127)": _BYTES},
    "images/gif.py": {"range(255, -1, -1)": "the bytes behind XMP (XMP part 3)"},
    "isobmff/stbl.py": {"range(256)": _BYTES},
    "jpeg/markers.py": {
        "range(192, 208)": "SOFn (T.81, table B.1): one structure, of which each byte is checked",
        "range(208, 216)": "RSTn (T.81, table B.1): without data",
        "range(224, 240)": "APPn: zeros, except the segments that segments.py reads",
    },
    "jpeg/segments.py": {"range(16)": "names of APPn for findings"},
    "matroska/elements.py": {"range(1, 9)": "lengths of a number"},
    "matroska/tag_names.py": {
        "range(21969, 21979)": "ten numbers of MasteringMetadata (RFC 9559, 5.1.4.1.28)"
    },
    "mpeg/program_stream.py": {
        "range(192, 224)": "sound (ISO/IEC 13818-1, table 2-22)",
        "range(224, 240)": "pictures (ISO/IEC 13818-1, table 2-22)",
        **dict.fromkeys(("range(128, 144)", "range(160, 176)", "range(192, 208)"), "sound of a DVD"),
    },
    "mpeg/sections.py": {"range(256)": _BYTES},
    "mpeg/transport_stream.py": dict.fromkeys(
        ("range(224, 240)", "range(192, 224)"), "pictures, sound (ISO/IEC 13818-1, table 2-22)"
    ),
    "pdf/ascii85.py": dict.fromkeys(
        ("range(_FIRST, _FIRST + _BASE)", "range(_BASE)", "range(_BASE ** 2)", "range(256)"), _BYTES
    ),
    "pdf/keys.py": {"range(32, 127)": _BYTES},
    "tags/iptc.py": {
        "range(2000, 2999)": "saved paths (Photoshop's file formats): one structure, which is checked"
    },
    "xmp/properties.py": {"range(6)": "UprightTransform_0 to _5, which are numbers"},
}
"""The ranges in tables of policyfs/redact, and why each is none of unknown things."""


def _constants(tree: ast.Module) -> list[ast.expr]:
    return [
        one.value
        for one in tree.body
        if isinstance(one, ast.Assign | ast.AnnAssign) and one.value is not None
    ]


def test_no_table_has_a_range_of_unknown_things() -> None:
    package, unknown = CHECKOUT / "policyfs" / "redact", []
    for path in sorted(package.rglob("*.py")):
        for value in _constants(ast.parse(path.read_text("utf-8"))):
            for call in ast.walk(value):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "range":
                    module = path.relative_to(package).as_posix()
                    if ast.unparse(call) not in _RANGES.get(module, {}):
                        unknown.append(f"{module}: {ast.unparse(call)}")
    assert not unknown

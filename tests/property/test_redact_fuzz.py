"""Damaged and hostile files of each kind: redaction never fails, grows no file, and is done in one go."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import Final

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.documents.tracks import refine_kind
from policyfs.redact.plan import Outcome, locate
from tests.fuzz.check import Check
from tests.fuzz.mutators import MUTATORS
from tests.fuzz.seeds import KINDS, seeds_of
from tests.support.machine.counts import count
from tests.support.samples import jpegs
from tests.support.samples.hidden import multi_picture

FILES: Final = count(100, 20_000)
"""Of each kind."""
MARKS: Final = (
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xe1", b"\xff\xed", b"\xff\xda", b"\xff\xff", b"Exif\0\0", b"8BIM"),
    *(b"moov", b"mdat", b"udta", b"meta", b"uuid", b"stsz", b"moof", b"iloc", b"infe", b"idat", b"free"),
    *(b"IDAT", b"IEND", b"tEXt", b"EXIF", b"!\xff\x0b", b"OggS\0", b"fLaC", b"LIST", b"RIFF", b"JUNK"),
    *(b"ID3\3\0\0\0\0\0\x20", b"APETAGEX", b"TAG", b"LYRICS200", b"LYRICSBEGIN", b"\xff\xfb\x90\0"),
    *(b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\x08", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"),
)
NEAR: Final = 2000
"""Most accidents happen within so many bytes of the start, where metadata is."""


def damage(data: bytes, rng: Random) -> bytes:
    """Return the file after some accidents that know nothing of its shape."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(max(1, min(len(out), NEAR if rng.random() < 0.7 else len(out))))
        size, number = rng.randint(1, 200), rng.choice((rng.randint(0, 200), 0xFFFF))
        match rng.randint(0, 7):
            case 0:
                out[at : at + 4] = rng.randbytes(rng.randint(1, 4))
            case 1:
                out[at : at + 2] = struct.pack(rng.choice((">H", "<H")), number)
            case 2:
                out[at : at + 4] = struct.pack(rng.choice((">I", "<I")), number)
            case 3:
                del out[at : at + size]
            case 4:
                out[at:at] = out[at : at + size]
            case 5:
                out[at:at] = rng.choice(MARKS)
            case 6:
                out[at : at + 2 * size] = out[at + size : at + 2 * size] + out[at : at + size]
            case _ if rng.random() < 0.25:
                del out[at:]
    return bytes(out)


def made_of(kind: str, rng: Random) -> bytes:
    """Return a file that is nearly one of this kind."""
    seed = rng.choice(seeds_of(kind))
    match rng.randint(0, 9):
        case 0:
            return seed[: rng.randint(0, 64)] + rng.choice(seeds_of(rng.choice(KINDS)))
        case 1:
            return seed[: rng.randint(0, 64)] + rng.randbytes(rng.randint(0, 400))
        case 2 | 3 | 4 | 5 if kind in MUTATORS:
            return MUTATORS[kind](seed, rng)
        case _:
            return damage(seed, rng)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind: str) -> None:
    check = Check(kind)
    for number in range(FILES):
        made = made_of(kind, Random(f"{kind} {number}"))
        try:
            check(made)
        except AssertionError as error:
            raise AssertionError(f"{kind} {number}, turn {check.turn}: {error}") from error


def test_any_bytes_have_a_kind() -> None:
    rng = Random(0)
    for _ in range(FILES):
        for mime in ("text/plain", "application/json", "text/xml", "image/png"):
            assert refine_kind(mime, rng.randbytes(rng.randint(0, 300)))


@pytest.mark.timeout(1200)
def test_exiftool_finds_no_coordinates_in_what_is_left_of_damaged_files(tmp_path: Path) -> None:
    hide, paths = frozenset({"location"}), []
    for number in range(2 * FILES):
        rng = Random(number)
        data = damage(rng.choice(seeds_of("image/jpeg")), rng)
        plan = locate("image/jpeg", hide, MemorySource(data))
        if plan.outcome is not Outcome.REFUSE:
            paths.append(tmp_path / f"{number}.jpg")
            paths[-1].write_bytes(apply(data, plan.patches))
    assert len(paths) > FILES
    for at in range(0, len(paths), 1000):
        for tags in jpegs.exiftool(*paths[at : at + 1000]):
            found = [name for name in tags if "GPSL" in name or "GPSPos" in name or "City" in name]
            assert not found, (tags["SourceFile"], found)


def test_multi_picture_directories_that_point_everywhere() -> None:
    """Many images, each of which would be searched to the end of the file."""
    picture = b"\xff\xd8\xff\xc0\0\x08\x08\0\1\0\1\0\xff\xda\0\x04\0\0\0\0" + bytes(50)
    Check("image/jpeg")(multi_picture("MM") + picture * 200)

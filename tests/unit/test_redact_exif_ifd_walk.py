"""The engine under both walks: what EXIF and whole files must have alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policyfs.redact.core.cleaners import NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.exif.exif import clean_tiff
from policyfs.redact.raw.tiff import locate_tiff
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.jpegs import EXIF_IFD, GPS_IFD, SUB_IFDS, gps, ifd, leaks, long, pack, text, tiff


def as_exif(block: bytes) -> bytes | None:
    cleaned = clean_tiff(block, PLACES)
    return None if cleaned is None else cleaned.data


def as_file(block: bytes) -> bytes | None:
    try:
        return apply(block, locate_tiff(MemorySource(block), PLACES).patches)
    except (NotThisKindError, TooMuchError):
        return None


BOTH = pytest.mark.parametrize("clean", [as_exif, as_file])
Clean = Callable[[bytes], bytes | None]


@BOTH
@pytest.mark.parametrize("order", ["II", "MM"])
def test_a_removed_tag_leaves_a_directory_without_it(clean: Clean, order: str):
    entries = [text(0x010F, "Testmaker"), (0x9999, 2, 8, b"Salzburg"), (0x0112, 3, 1, pack(order, 6, size=2))]
    out = clean(tiff(order, (8, ifd(order, 8, entries))))
    assert out is not None
    assert out[8:10] == pack(order, 2, size=2)
    assert out[22:24] == pack(order, 0x0112, size=2)
    assert b"Testmaker" in out
    assert b"Salzburg" not in out


@BOTH
def test_a_directory_that_refers_to_itself(clean: Clean):
    out = clean(tiff("II", (8, ifd("II", 8, [text(0x010F, "T"), long("II", EXIF_IFD, 8)], 8))))
    assert out is not None
    assert out[8:10] == pack("II", 1, size=2)
    assert pack("II", EXIF_IFD, size=2) not in out


@BOTH
@pytest.mark.parametrize("offset", [0x101, 0x0E, 4, 0xFFFFFFF0])
def test_two_directories_never_share_bytes(clean: Clean, offset: int):
    first = ifd("II", 8, [text(0x010F, "T"), long("II", EXIF_IFD, 0x100), long("II", SUB_IFDS, offset)])
    out = clean(tiff("II", (8, first), (0x100, ifd("II", 0x100, [text(0x9003, "2024")]))))
    assert out is not None
    assert out[8:10] == pack("II", 2, size=2)
    assert b"2024" in out
    assert pack("II", SUB_IFDS, size=2) not in out


@BOTH
def test_of_a_list_of_directories_all_stay_or_none(clean: Clean):
    for second, stays in ((0x180, True), (0x5000, False)):
        first = ifd("II", 8, [text(0x010F, "T"), long("II", SUB_IFDS, 0x100, second)])
        parts = [(at, ifd("II", at, [text(0x0110, f"M{at:x}")])) for at in (0x100, 0x180)]
        out = clean(tiff("II", (8, first), *parts))
        assert out is not None
        assert (b"M100" in out) is stays


@BOTH
def test_a_directory_in_a_chain_that_keeps_nothing_is_taken_out(clean: Clean):
    parts = [
        (8, ifd("II", 8, [text(0x010F, "T")], 0x100)),
        (0x100, ifd("II", 0x100, [(0x9999, 2, 8, b"Salzburg")], 0x180)),
        (0x180, ifd("II", 0x180, [text(0x0110, "third")])),
    ]
    out = clean(tiff("II", *parts))
    assert out is not None
    assert out[8 + 2 + 12 : 8 + 2 + 12 + 4] == pack("II", 0x180)
    assert not any(out[0x100:0x180])
    assert b"third" in out


@BOTH
def test_gps_goes(clean: Clean):
    first = ifd("II", 8, [text(0x010F, "T"), long("II", GPS_IFD, 0x100)])
    out = clean(tiff("II", (8, first), (0x100, ifd("II", 0x100, gps("II")))))
    assert out is not None
    assert not leaks(out)
    assert not any(out[0x100:])


@BOTH
def test_a_chain_without_end_is_refused(clean: Clean):
    entries = [(0x0112, 3, 1, b"\6\0")]
    chain = [(at, ifd("II", at, entries, at + 32)) for at in range(8, 8 + 32 * 5000, 32)]
    assert clean(tiff("II", *chain)) is None


def test_a_word_that_is_not_asked_for_takes_nothing():
    block = tiff("II", (8, ifd("II", 8, [text(0x010F, "Testmaker"), text(0x9003, "2024")])))
    for hide in Plain().hide.__class__:
        cleaned = clean_tiff(block, Plain(hide))
        assert cleaned is not None
        assert (cleaned.data == block) is (hide.name not in ("DEVICE", "TIME"))

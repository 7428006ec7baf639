"""Values that lie over one another, in whole files and in maker notes."""

from __future__ import annotations

import struct

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Cleaned, Note, TooMuchError
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.exif.ifd import read_header
from policyfs.redact.exif.makernotes import OPENERS, TABLES
from policyfs.redact.exif.tiff_walk import MAX_DIRECTORIES, TiffWalk, clean_city, pairs
from tests.support.samples.inners import Plain
from tests.support.samples.jpegs import ifd, long, pack, text, tiff


def walked(block: bytes, hide: Tells = Tells.LOCATION) -> TiffWalk:
    source = MemorySource(block)
    walk = TiffWalk(source, Plain(hide), tables=TABLES, openers=OPENERS)
    header = read_header(source)
    assert header is not None
    walk.structure.add(0, header.size)
    assert walk.open(header.first, header.frame, "IFD", chained=True) is not None
    walk.walk()
    return walk


def kept(walk: TiffWalk) -> list[int]:
    walk.settle()
    walk.prune()
    walk.finish()
    return [entry.tag for entry in walk.directories[0].entries if entry.keep]


def moved(block: bytes, tag: int, to: int) -> bytes:
    """The value of a tag somewhere else."""
    at = block.index(pack("II", tag, 2, size=2))
    return block[: at + 8] + pack("II", to) + block[at + 12 :]


ARTIST = 0x013B
MAKER = 0x010F


def test_a_value_that_shares_bytes_with_a_removed_one_goes():
    block = tiff("II", (8, ifd("II", 8, [text(MAKER, "Testmaker"), text(ARTIST, "Rosa Kamera")])))
    start = block.index(b"Testmaker")
    assert kept(walked(block, Tells.PEOPLE)) == [MAKER]
    assert kept(walked(moved(block, ARTIST, start + 9), Tells.PEOPLE)) == []
    assert kept(walked(moved(block, ARTIST, start + 10), Tells.PEOPLE)) == [MAKER]


def test_values_that_stay_may_share_bytes():
    block = tiff("II", (8, ifd("II", 8, [text(MAKER, "Testmaker"), text(ARTIST, "Rosa Kamera")])))
    shared = moved(block, ARTIST, block.index(b"Testmaker"))
    assert kept(walked(shared)) == [MAKER, ARTIST]


def test_a_value_over_a_directory_goes():
    block = tiff("II", (8, ifd("II", 8, [text(MAKER, "Testmaker"), text(ARTIST, "Rosa Kamera")])))
    walk = walked(moved(block, ARTIST, 9))
    assert kept(walk) == [MAKER]
    assert [(note.tag, note.broken) for note in walk.notes] == [("IFD:0x013b", True)]


@pytest.mark.parametrize("at", [0, 4])
def test_the_bytes_of_a_header_are_no_value(at):
    block = tiff("II", (8, ifd("II", 8, [text(MAKER, "Testmaker"), text(ARTIST, "Rosa Kamera")])))
    assert kept(walked(moved(block, ARTIST, at))) == [MAKER]


@pytest.mark.parametrize("kind", [3, 7])
def test_words_of_people_are_searched_in_every_type(kind):
    words = b"47.80453, 13.04229\0\0".ljust(40, b"\0")
    entry = (0x9C9C, kind, len(words) // (2 if kind == 3 else 1), words)
    block = tiff("II", (8, ifd("II", 8, [text(MAKER, "Testmaker"), entry])))
    assert kept(walked(block)) == [MAKER]
    quiet = block.replace(words, b"quince".ljust(40, b"\0"))
    assert kept(walked(quiet)) == [MAKER, 0x9C9C]


def test_maker_and_model_are_learnt_if_they_stay():
    block = tiff("II", (8, ifd("II", 8, [text(MAKER, "Testmaker"), text(0x0110, "M7")])))
    assert (walked(block).make, walked(block).model) == (b"Testmaker", b"M7")
    assert (walked(block, Tells.DEVICE).make, walked(block, Tells.DEVICE).model) == (b"", b"")


def test_directories_are_counted():
    chain = [
        (8 + 32 * i, ifd("II", 0, [(0x0112, 3, 1, b"\6\0")], 40 + 32 * i)) for i in range(MAX_DIRECTORIES + 1)
    ]
    with pytest.raises(TooMuchError):
        walked(tiff("II", *chain))


def test_pairs_of_tags():
    strips = [long("II", 0x0111, 0x100, 0x110), long("II", 0x0117, 16, 16)]
    walk = walked(tiff("II", (8, ifd("II", 8, strips)), (0x100, bytes(32))))
    found = list(pairs(walk, walk.directories[0], ((0x0111, 0x0117), (0x0144, 0x0145))))
    assert [(entry.tag, starts, sizes) for entry, starts, sizes in found] == [
        (0x0111, [0x100, 0x110], [16, 16])
    ]


TIME_INFO = 0x0035


def zone(order: str, *, size: int = 16, minutes: int = 60, city: int = 0, saving: int = 0) -> bytes:
    return struct.pack(f"{order}4i", size, minutes, city, saving)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("minutes", [-14 * 60, 0, 330, 14 * 60])
@pytest.mark.parametrize("saving", [0, 60])
def test_the_city_goes_and_the_zone_stays(order: str, minutes: int, saving: int) -> None:
    cleaned = clean_city(TIME_INFO, zone(order, minutes=minutes, city=17, saving=saving), order)
    without = zone(order, minutes=minutes, saving=saving)
    assert cleaned == Cleaned(without, (Note(0, 16, "MakerNote", "city in 0x0035", Tells.LOCATION),))
    assert clean_city(TIME_INFO, without, order) == Cleaned(without)


@pytest.mark.parametrize(
    "value",
    [
        zone("<", minutes=14 * 60 + 1),
        zone("<", minutes=-14 * 60 - 1),
        zone("<", saving=61),
        zone("<", saving=-1),
        zone("<", size=15),
        zone(">", city=17),
        zone("<")[:15] + b"",
        zone("<") + b"\1",
        b"Oslo",
    ],
)
def test_numbers_that_are_no_time_zone_become_zeros(value: bytes) -> None:
    cleaned = clean_city(TIME_INFO, value, "<")
    assert cleaned.data == bytes(len(value))
    assert [note.length for note in cleaned.notes] == [len(value)]


def test_no_value_has_no_city() -> None:
    assert clean_city(TIME_INFO, b"", "<") == Cleaned(b"")

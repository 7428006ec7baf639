"""Maker notes of many makers put together byte by byte, with a place, a serial number and a name.

Each holds CITY where that maker writes where a picture was taken, SERIAL where it writes serial
numbers, PERSON where it writes names, and a setting that tells none of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tests.support.samples import jpegs
from tests.support.samples.jpegs import EXIF_IFD, UNDEFINED, Entry, ifd, long, pack, text, tiff
from tests.support.samples.media import HOME

CITY: Final = HOME.city
SERIAL: Final = "SN-4711-0815"
PERSON: Final = "Rosa Kamera"
NOTE_AT: Final = 0x202
SETTING: Final = "SOFT LIGHT"


class Maker(NamedTuple):
    """One maker's note: what starts it, from where offsets count, and its tags.

    base: of the note's own offsets in the TIFF structure, if the note is at NOTE_AT. order: the
    note's own; None: the structure's.
    """

    make: str
    head: Callable[[str], bytes]
    base: Callable[[int], int]
    tags: tuple[Entry, ...]
    order: str | None = None
    tail: Callable[[str], bytes] = lambda _: b""


def _fixed(head: bytes) -> Callable[[str], bytes]:
    return lambda _: head


def _tiff(_: int) -> int:
    return 0


def _note(at: int) -> int:
    return at


def _marked(head: bytes, tail: bytes = b"") -> Callable[[str], bytes]:
    return lambda order: head + order.encode() + tail


MAKERS: Final[dict[str, Maker]] = {
    "Panasonic": Maker(
        "Panasonic",
        _fixed(b"Panasonic\0\0\0"),
        _tiff,
        (text(0x25, SERIAL), text(0x65, PERSON), text(0x6D, CITY), text(0x89, SETTING)),
    ),
    "Nikon": Maker(
        "NIKON CORPORATION",
        lambda order: b"Nikon\0\2\x10\0\0" + order.encode() + pack(order, 42, size=2) + pack(order, 8),
        lambda at: at + 10,
        (text(0x1D, SERIAL), (0x39, UNDEFINED, 20, CITY.ljust(20).encode()), text(0x8F, SETTING)),
    ),
    "Samsung": Maker(
        "SAMSUNG",
        _fixed(b""),
        _note,
        (
            (1, UNDEFINED, 4, b"0100"),
            text(0x31, CITY),
            text(0x123, PERSON),
            text(0xA002, SERIAL),
            text(0x21, SETTING),
        ),
    ),
    "Samsung's since 2024": Maker(
        "samsung",
        _fixed(b""),
        _note,
        ((1, UNDEFINED, 4, b"0101"), text(0x31, CITY), text(0xA002, SERIAL), text(0x21, SETTING)),
    ),
    "Apple": Maker(
        "Apple",
        _marked(b"Apple iOS\0\0\1"),
        _note,
        (text(0x11, SERIAL), text(0x14, SETTING)),
        tail=_fixed(b""),
    ),
    "FujiFilm": Maker(
        "FUJIFILM",
        _fixed(b"FUJIFILM\x0c\0\0\0"),
        _note,
        (text(0x10, SERIAL), text(0x4282, PERSON), text(0x1000, SETTING)),
        "II",
    ),
    "Olympus": Maker(
        "OLYMPUS CORPORATION",
        _marked(b"OLYMPUS\0", b"\3\0"),
        _note,
        (text(0x404, SERIAL), text(0x20C, SETTING)),
    ),
    "Canon": Maker(
        "Canon",
        _fixed(b""),
        _tiff,
        (
            text(6, SETTING),
            text(9, PERSON),
            text(0x96, SERIAL),
            (0x35, 4, 4, b"\x10\0\0\0" + CITY.encode()),
        ),
        tail=lambda order: order.encode() + pack(order, 42, size=2) + pack(order, NOTE_AT),
    ),
    "Pentax": Maker(
        "PENTAX Corporation",
        _fixed(b"AOC\0\0\0"),
        _tiff,
        (text(0x229, SERIAL), text(0x22E, PERSON), text(0x23, CITY), text(0x32, SETTING)),
    ),
    "Sony": Maker("SONY", _fixed(b"SONY DSC \0\0\0"), _tiff, (text(0x2031, SERIAL), text(0xB020, SETTING))),
    "Motorola": Maker(
        "Motorola",
        _fixed(b"MOT\0\1\0\0\0"),
        _note,
        (text(0x5501, SERIAL), text(0x64D0, SETTING), text(0x6999, CITY)),
    ),
    "Casio": Maker(
        "CASIO COMPUTER CO.,LTD.",
        _fixed(b"QVC\0\0\0"),
        _tiff,
        (text(0x2001, SERIAL), text(0x3006, CITY), text(0x3007, SETTING)),
    ),
}


def note_of(maker: Maker, order: str, at: int = NOTE_AT) -> bytes:
    """The note as it is at an offset of its TIFF structure."""
    order = maker.order or order
    head = maker.head(order)
    return head + ifd(order, at + len(head) - maker.base(at), maker.tags) + maker.tail(order)


def exif_with(note: bytes, order: str, make: str, *more: Entry) -> bytes:
    """An EXIF structure with this note at NOTE_AT."""
    main = [text(0x010F, make), text(0x0110, "M7"), long(order, EXIF_IFD, 0x100), *more]
    inner = [(0x927C, UNDEFINED, len(note), note), (0x9000, UNDEFINED, 4, b"0232")]
    directory = ifd(order, 0x100, inner)
    moved = directory.replace(pack(order, 0x100 + directory.index(note)), pack(order, NOTE_AT))
    return tiff(order, (8, ifd(order, 8, main)), (0x100, moved[: moved.index(note)]), (NOTE_AT, note))


def photo_by(name: str, order: str) -> bytes:
    """A small JPEG with a maker's note."""
    maker = MAKERS[name]
    return jpegs.photo_with(exif_with(note_of(maker, order), order, maker.make))

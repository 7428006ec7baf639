"""Whole TIFF files put together byte by byte, with pixels in strips: builders for tests of redaction."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.support.samples.jpegs import LONG, SHORT, Entry, ifd, long, pack, text

SIDE: Final = 64
"""Width and height of the pictures, in pixels."""
PIXELS: Final = b"".join(
    (x * 3 + y * 5 + x * y % 7).to_bytes(1) if x * 3 + y * 5 + 6 < 256 else b"\x40"
    for y in range(SIDE)
    for x in range(SIDE)
)
"""A grey picture, one byte per pixel."""


def short(order: str, tag: int, *numbers: int) -> Entry:
    return (tag, SHORT, len(numbers), pack(order, *numbers, size=2))


def picture(order: str, at: int, *, size: int = len(PIXELS), strips: int = 1) -> list[Entry]:
    """Tags of a grey picture whose pixels are at an offset, in strips of equal size."""
    each = size // strips
    starts = [at + each * i for i in range(strips)]
    return [
        long(order, 0x00FE, 0),
        short(order, 0x0100, SIDE),
        short(order, 0x0101, SIDE),
        short(order, 0x0102, 8),
        short(order, 0x0103, 1),
        short(order, 0x0106, 1),
        (0x0111, LONG, strips, pack(order, *starts)),
        short(order, 0x0115, 1),
        short(order, 0x0116, SIDE // strips),
        (0x0117, LONG, strips, pack(order, *[each] * strips)),
    ]


def classic(order: str, *entries: Entry, strips: int = 1, behind: bytes = b"", following: int = 0) -> bytes:
    """A TIFF of one picture: pixels, then the directory, its values, and what is behind."""
    at = 8 + len(PIXELS)
    head = order.encode() + pack(order, 42, size=2) + pack(order, at)
    directory = ifd(order, at, [*picture(order, 8, strips=strips), *entries], following)
    return head + PIXELS + directory + behind


def sensor(order: str, at: int) -> list[Entry]:
    """What makes the picture one of a sensor's pixels: a Bayer pattern."""
    kept = [entry for entry in picture(order, at) if entry[0] != 0x0106]
    pattern = [short(order, 0x828D, 2, 2), (0x828E, 1, 4, b"\0\1\1\2")]
    return [*kept, short(order, 0x0106, 32803), *pattern]


def digital_negative(order: str, *entries: Entry) -> bytes:
    """A DNG as small as decoders take it."""
    at = 8 + len(PIXELS)
    head = order.encode() + pack(order, 42, size=2) + pack(order, at)
    matrix = b"".join(
        struct.pack(("<" if order == "II" else ">") + "ii", n, 1) for n in (1, 0, 0, 0, 1, 0, 0, 0, 1)
    )
    one = pack(order, 1, 1)
    tags = [
        text(0x010F, "Testmaker"),
        text(0x0110, "Modell 7"),
        (0xC612, 1, 4, b"\1\4\0\0"),
        (0xC613, 1, 4, b"\1\1\0\0"),
        text(0xC614, "Testmaker Modell 7"),
        (0xC621, 10, 9, matrix),
        (0xC628, 5, 3, one * 3),
        short(order, 0xC65A, 21),
        long(order, 0xC61D, 255),
    ]
    return head + PIXELS + ifd(order, at, [*sensor(order, 8), *tags, *entries])


def strips_of(path: Path) -> str:
    """All that StripOffsets refers to, in every directory and sub-directory, as a text to compare."""
    data = path.read_bytes()
    order = "little" if data[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    def values(at: int) -> list[int]:
        size, count = {3: 2, 4: 4, 13: 4}.get(number(at + 2, 2), 0), number(at + 4, 4)
        start = at + 8 if size * count <= 4 else number(at + 8, 4)
        return [number(start + size * i, size) for i in range(count)] if size else []

    found: list[str] = []
    ahead, seen = [number(4, 4)], set[int]()
    while ahead:
        at = ahead.pop()
        if not at or at in seen:
            continue
        seen.add(at)
        entries = [at + 2 + 12 * i for i in range(number(at, 2))]
        tags = {number(entry, 2): values(entry) for entry in entries}
        ahead += [number(at + 2 + 12 * len(entries), 4), *tags.get(0x014A, [])]
        spans: Iterable[tuple[int, int]] = zip(tags.get(0x0111, []), tags.get(0x0117, []), strict=False)
        found += [data[a : a + n].hex() for a, n in spans]
    return "\n".join(found)


def fuji(preview: bytes, *, sensor_in_tiff: bool = True, record: bytes = b"") -> bytes:
    """A RAF with this JPEG, a directory with one known and one unknown record, and pixels."""
    names = b"FUJIFILMCCD-RAW 0201FF392201" + b"Testmaker M7".ljust(32, b"\0") + b"0106"
    known = (0x0100).to_bytes(2) + (4).to_bytes(2) + SIDE.to_bytes(2) * 2
    unknown = (0x9118).to_bytes(2) + len(record).to_bytes(2) + record
    directory = (2).to_bytes(4) + known + unknown
    pixels = PIXELS
    if sensor_in_tiff:
        below = ifd("II", 0x40, [long("II", 0xF007, 0x100), long("II", 0xF008, len(PIXELS))])
        pixels = (b"II*\0" + pack("II", 8) + ifd("II", 8, [(0xF000, 13, 1, pack("II", 0x40))])).ljust(
            0x40, b"\0"
        )
        pixels = (pixels + below).ljust(0x100, b"\0") + PIXELS
    at = 0x94 + len(preview)
    table = [0x94, len(preview), at, len(directory), at + len(directory), len(pixels)]
    head = names.ljust(0x54, b"\0") + b"".join(n.to_bytes(4) for n in table)
    return head.ljust(0x94, b"\0") + preview + directory + pixels

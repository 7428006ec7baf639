"""What stands within parts of files: pictures, EXIF, XMP, IPTC, told by how it begins."""

from __future__ import annotations

import re
from random import Random

from tests.fuzz.mutators import chunks, jpeg, text, tiff, xml
from tests.fuzz.mutators.parts import Part, change, some
from tests.fuzz.richer import PACKET, RESOURCES
from tests.support.samples import jpegs, motion, movies, pngs, sounds
from tests.support.samples.hidden import EXIF_CASES
from tests.support.samples.notes import MAKERS, photo_by

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NEAR = 64
"""A header that is known begins within so many bytes."""
_RESOURCES = tuple(
    number.to_bytes(2, "big")
    for number in (0x404, 0x422, 0x423, 0x424, 0x40C, 0x409, 0x425, 0x40A, 0x41A, 0x3ED, 0x1)
)


def _exif_of(photo: bytes) -> bytes:
    """What the EXIF segment holds that a photo begins with."""
    return photo[12 : 4 + int.from_bytes(photo[4:6], "big")]


_POOL = (
    *(jpegs.exif("II"), jpegs.exif("MM"), b"Exif\0\0" + jpegs.exif("MM"), jpegs.iptc_place()),
    *(make(order) for make in EXIF_CASES.values() for order in ("II", "MM")),
    *(_exif_of(photo_by(name, order)) for name in MAKERS for order in ("II", "MM")),
    *(PACKET, b"".join(RESOURCES)),
    *(
        jpegs.xmp_packet("<photoshop:City>Zirbelstadt</photoshop:City>"),
        jpegs.resource(0x0404, jpegs.iptc_place()),
    ),
    *(
        jpegs.photo_with(jpegs.exif("II")),
        jpegs.plain(2, 16),
        pngs.plain(pngs.text("Location", "47.8")),
        motion.VIDEO,
    ),
    *(movies.SEEDS[0], sounds.id3(sounds.user(b"place", b"47.8")), sounds.comments(b"LOCATION=47.8"), b""),
    *(sounds.picture_block(jpegs.plain(2, 16)), b"\xff\xd8\xff\xd9", bytes(100)),
)
"""What may stand anywhere, or where something else should."""
_HEX = re.compile(rb"\n(\w{3,8})\n\s*\d+\n")
"""A profile as ImageMagick writes it in a text: its name, its length, its bytes as hexadecimal digits."""


def inside(block: bytes, rng: Random) -> bytes:
    """A block of any sort after an accident, mostly one that its structure knows."""
    if (chance := rng.random()) < 0.2:
        return rng.choice(_POOL) if chance < 0.04 else text.mutate(block, rng)
    if (digits := _HEX.search(block, 0, 200)) is not None:
        return _profile(block, digits, rng)
    for mark in _TIFF:
        if (at := block.find(mark, 0, _NEAR)) >= 0:
            return block[:at] + tiff.mutate(block[at:], rng, inside)
    if (at := block.find(b"\xff\xd8\xff", 0, _NEAR)) >= 0:
        return block[:at] + jpeg.mutate(block[at:], rng, inside)
    if (at := block.find(b"\x89PNG", 0, _NEAR)) >= 0:
        return block[:at] + chunks.png(block[at:], rng, inside)
    if (at := block.find(b"8BIM", 0, _NEAR)) >= 0:
        return block[:at] + _photoshop(block[at:], rng)
    if (at := block.find(b"\x1c\x02", 0, _NEAR)) >= 0:
        return block[:at] + _iptc(block[at:], rng)
    if (at := block.find(b"<", 0, _NEAR)) >= 0 and block.count(b"<", 0, 300) > 2:
        return block[:at] + xml.mutate(block[at:], rng)
    return text.mutate(block, rng)


def _profile(text_block: bytes, head: re.Match[bytes], rng: Random) -> bytes:
    """A profile in hexadecimal digits, changed within."""
    digits = re.sub(rb"[^0-9A-Fa-f]", b"", text_block[head.end() :])
    made = inside(bytes.fromhex(digits[: len(digits) // 2 * 2].decode()), rng)
    told = max(0, len(made) + rng.choice((0,) * 9 + (-1, 3)))
    lines = [made.hex()[at : at + 72] for at in range(0, 2 * len(made), 72)]
    return text_block[: head.start()] + b"\n%s\n%8d\n" % (head[1], told) + "\n".join(lines).encode() + b"\n"


def _photoshop(data: bytes, rng: Random) -> bytes:
    """Resources: 8BIM, a number, a name, a length, content."""
    parts = []
    at = 0
    while data[at : at + 4] == b"8BIM":
        start = at + 7 + (data[at + 6] | 1 if at + 6 < len(data) else 1)
        size = int.from_bytes(data[start : start + 4], "big")
        parts.append(Part(data[at + 4 : start], data[start + 4 : start + 4 + size]))
        at = start + 4 + size + size % 2
    for _ in some(rng):
        change(parts, [number + b"\0\0" for number in _RESOURCES], rng, inside)
    return (
        b"".join(
            b"8BIM"
            + part.name
            + (max(0, len(part.body) + part.lie) % (1 << 32)).to_bytes(4, "big")
            + part.body
            + bytes(len(part.body) % 2)
            for part in parts
        )
        + data[at:]
    )


def _iptc(data: bytes, rng: Random) -> bytes:
    """Records: 0x1c, two numbers, a length, content."""
    parts = []
    at = 0
    while data[at : at + 1] == b"\x1c" and at + 5 <= len(data):
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        parts.append(Part(data[at + 1 : at + 3], data[at + 5 : at + 5 + size]))
        at += 5 + size
    names = [
        bytes(pair)
        for pair in ((2, 90), (2, 26), (2, 55), (2, 80), (2, 120), (2, 5), (1, 90), (3, 1), (9, 10))
    ]
    for _ in some(rng):
        change(parts, names, rng, text.mutate)
    return (
        b"".join(
            b"\x1c"
            + part.name
            + max(0, min(len(part.body) + part.lie, 0xFFFF)).to_bytes(2, "big")
            + part.body
            for part in parts
        )
        + data[at:]
    )

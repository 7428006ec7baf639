"""PNG and RIFF (WebP, WAV, AVI): chunks, what is compressed in them, and lists of chunks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from random import Random

from tests.fuzz.mutators.parts import MOST_BYTES, Mutator, Part, change, some

_PNG_NAMES = (
    *(
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"CgBI",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"iDOT",
        b"tRNS",
        b"abCd",
        b"ABCD",
    ),
    *(
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"eXIf",
        b"zxIf",
        b"iCCP",
        b"sPLT",
        b"tIME",
        b"pHYs",
        b"oFFs",
        b"zeRo",
        b"gdAT",
    ),
)
_ZLIB = (b"\x78\x9c", b"\x78\xda", b"\x78\x01", b"\x78\x5e")
_RIFF_NAMES = {
    b"WEBP": (
        b"VP8 ",
        b"VP8L",
        b"VP8X",
        b"ALPH",
        b"ANIM",
        b"ANMF",
        b"ICCP",
        b"EXIF",
        b"XMP ",
        b"JUNK",
        b"abcd",
    ),
    b"WAVE": (
        *(
            b"fmt ",
            b"data",
            b"LIST",
            b"bext",
            b"iXML",
            b"axml",
            b"cart",
            b"_PMX",
            b"id3 ",
            b"ID3 ",
            b"JUNK",
            b"fact",
        ),
        *(
            b"cue ",
            b"smpl",
            b"ds64",
            b"PAD ",
            b"abcd",
            b"INAM",
            b"IART",
            b"ICRD",
            b"ISFT",
            b"ICMT",
            b"ISBJ",
            b"slnt",
        ),
    ),
    b"AVI ": (
        *(
            b"LIST",
            b"avih",
            b"strh",
            b"strf",
            b"strd",
            b"strn",
            b"indx",
            b"idx1",
            b"JUNK",
            b"00dc",
            b"01wb",
            b"02tx",
        ),
        *(
            b"00db",
            b"ix00",
            b"vprp",
            b"IDIT",
            b"ISMP",
            b"INAM",
            b"IART",
            b"ISFT",
            b"abcd",
            b"dmlh",
            b"RIFF",
            b"rec ",
        ),
    ),
}
_LIST_NAMES = {b"strl": _RIFF_NAMES[b"AVI "], b"INFO": _RIFF_NAMES[b"WAVE"]}
_LISTS = (b"LIST", b"RIFF", b"FORM")


def png(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A PNG after accidents; its checksums are right."""
    parts = []
    at = 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        parts.append(Part(data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in some(rng):
        change(parts, _PNG_NAMES, rng, lambda body, rng: _packed(body, rng, inside))
    chunks = [
        max(0, len(part.body) + part.lie).to_bytes(4, "big")
        + part.name
        + part.body
        + zlib.crc32(part.name + part.body).to_bytes(4, "big")
        for part in parts
    ]
    out = data[:8] + b"".join(chunks)
    match rng.randint(0, 19):
        case 0:
            return out[: rng.randint(min(8, len(out)), len(out))]
        case 1:
            return out + rng.choice((data, data[8:], bytes(9) + b"abc", b"\0"))
        case _:
            return out


def _packed(body: bytes, rng: Random, inside: Mutator) -> bytes:
    """What a chunk holds, changed; if it is compressed, often within that."""
    starts = [at for mark in _ZLIB if (at := body.find(mark, 0, 200)) >= 0]
    if not starts or rng.random() < 0.2:
        return inside(body, rng)
    start = min(starts)
    try:
        plain = zlib.decompressobj().decompress(body[start:], MOST_BYTES)
    except zlib.error:
        return inside(body, rng)
    behind = rng.choice((b"", b"", b"", b"abc"))
    return body[:start] + zlib.compress(inside(plain, rng), rng.choice((0, 1, 6, 9))) + behind


def riff(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A RIFF file after accidents to its chunks, or to those of its lists."""
    return _form(data, rng, inside, _RIFF_NAMES.get(data[8:12], _RIFF_NAMES[b"WAVE"]))


def _form(data: bytes, rng: Random, inside: Mutator, names: Sequence[bytes]) -> bytes:
    body = _row(data[8:], rng, inside, names)
    size = max(0, len(body) + rng.choice((0, 0, 0, 0, 0, -5, 7)))
    behind = rng.choice((b"",) * 9 + (b"abcdefgh", names[0] + bytes(8), data))
    return data[:4].ljust(4, b"R") + size.to_bytes(4, "little") + body + behind


def _row(data: bytes, rng: Random, inside: Mutator, names: Sequence[bytes]) -> bytes:
    """A list's type and its chunks, some accidents later."""
    parts = []
    at = 4
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        parts.append(Part(data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    lists = [part for part in parts if part.name in _LISTS and len(part.body) > 4]
    for _ in some(rng):
        if lists and rng.random() < 0.5:
            part = rng.choice(lists)
            part.body = _row(part.body, rng, inside, _LIST_NAMES.get(part.body[:4], names))
        elif parts and rng.random() < 0.1:
            part = rng.choice(parts)
            part.body = part.body[: rng.choice((4, 16))] + _chunks([rng.choice(parts)], rng)
        else:
            change(parts, names, rng, inside)
    return data[:4] + _chunks(parts, rng)


def _chunks(parts: list[Part], rng: Random) -> bytes:
    pads = (b"\0",) * 12 + (b"", b"a")
    return b"".join(
        part.name
        + max(0, len(part.body) + part.lie).to_bytes(4, "little")
        + part.body
        + (rng.choice(pads) if len(part.body) % 2 else b"")
        for part in parts
    )

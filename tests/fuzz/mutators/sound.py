"""Sound: ID3 and other tags around frames, blocks of FLAC, pages of Ogg, lists of comments."""

from __future__ import annotations

import re
from random import Random

from policyfs.redact.audio.ogg_pages import page_checksum
from policyfs.redact.tags.id3_frames import FRAMES
from tests.fuzz.mutators import text
from tests.fuzz.mutators.parts import Mutator, Part, change, some

_MARKS = re.compile(rb"(?=ID3[\2-\4]|3DI|APETAGEX|TAG|LYRICSBEGIN|fLaC|\xff[\xf0-\xff])", re.DOTALL)
_TAGS = (
    b"ID3\3\0\0\0\0\0\0",
    b"ID3\4\0\x10\0\0\0\0",
    b"APETAGEX",
    b"TAG",
    b"TAG+",
    b"LYRICSBEGIN",
    b"\xff\xfb\x90\xc4",
)
_FRAMES = {
    size: tuple(
        sorted(name.encode() for names in FRAMES.values() for name in names.split() if len(name) == size)
    )
    + extra
    for size, extra in (
        (3, (b"TXX", b"PIC", b"GEO", b"COM", b"ABC")),
        (
            4,
            (
                b"TXXX",
                b"APIC",
                b"GEOB",
                b"PRIV",
                b"CHAP",
                b"CTOC",
                b"COMM",
                b"USLT",
                b"XYZ9",
                b"\0\0\0\0",
                b"WXXX",
            ),
        ),
    )
}
_BLOCKS = tuple(bytes([kind]) for kind in (0, 1, 2, 3, 4, 4, 4, 5, 6, 6, 77, 127))
_COMMENTS = (
    *(
        b"LOCATION=47.8",
        b"TITLE=a",
        b"COMMENT=47.80453, 13.04229",
        b"FOO=b",
        b"no name",
        b"=",
        b"DATE=2024",
        b"",
    ),
    *(b"METADATA_BLOCK_PICTURE=AAAA", b"COVERART=/9j/", b"ENCODER=c", b"REPLAYGAIN_TRACK_GAIN=1"),
)
_PAGE_HEAD = 27
_CHECKSUM = slice(22, 26)
_HEADS = (b"\x03vorbis", b"OpusTags", b"\x81theora")


def mpeg(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """Frames of MPEG or AAC with tags before, between and behind them."""
    parts = [Part(piece[:3], piece[3:]) for piece in _MARKS.split(data)[:200] if piece]
    for _ in some(rng):
        tags = [part for part in parts if part.name == b"ID3"]
        if tags and rng.random() < 0.6:
            part = rng.choice(tags)
            part.body = _id3(part.body, rng, inside)
        else:
            change(parts, _TAGS, rng, text.mutate)
    return b"".join(part.name + part.body for part in parts)


def _id3(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """The rest of a tag (and what is behind it): its frames some accidents later, its size right, mostly."""
    if len(data) < 7:
        return text.mutate(data, rng)
    version, flags = data[0], data[2]
    size = sum(byte << shift for byte, shift in zip(data[3:7], (21, 14, 7, 0), strict=True))
    body, behind = data[7 : 7 + size], data[7 + size :]
    width, head = (3, 6) if version == 2 else (4, 10)
    parts: list[Part] = []
    at = 0
    while at + head <= len(body) and body[at] and len(parts) < 200:
        length = int.from_bytes(body[at + width : at + 2 * width], "big")
        parts.append(Part(body[at : at + width], body[at + 2 * width : at + head + length]))
        at += head + length
    padding = body[at:]
    for _ in some(rng):
        change(parts, _FRAMES[width], rng, inside)
    frames = b"".join(_frame(part, version, width, rng) for part in parts)
    if rng.random() < 0.1:
        flags ^= 1 << rng.randrange(4, 8)
    if rng.random() < 0.05:
        version = rng.choice((2, 3, 4))
    made = frames + rng.choice((padding, padding, b"", bytes(9), b"\0\0abc"))
    size = max(0, len(made) + rng.choice((0,) * 9 + (-3, 4)))
    return bytes([version, data[1], flags]) + _syncsafe(size) + made + behind


def _frame(part: Part, version: int, width: int, rng: Random) -> bytes:
    """A frame; its flags, where it has some, are the first two bytes of the body."""
    lead = b"" if width == 3 else part.body[:2].ljust(2, b"\0")
    body = part.body[len(lead) :]
    if lead and rng.random() < 0.05:
        lead = bytes([lead[0] ^ 1 << rng.randrange(8), lead[1] ^ 1 << rng.randrange(8)])
    size = max(0, len(body) + part.lie) % (1 << 8 * width)
    return part.name + (_syncsafe(size) if version == 4 else size.to_bytes(width, "big")) + lead + body


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def flac(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """FLAC after accidents to its blocks."""
    start = data.find(b"fLaC") + 4
    if start < 4 or rng.random() < 0.1:
        return mpeg(data, rng, inside)
    parts, at, last = [], start, False
    while not last and at + 4 <= len(data):
        last = data[at] >= 0x80
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        parts.append(Part(bytes([data[at] & 0x7F]), data[at + 4 : at + 4 + size]))
        at += 4 + size
    for _ in some(rng):
        listed = [part for part in parts if part.name == b"\4"]
        if listed and rng.random() < 0.4:
            part = rng.choice(listed)
            part.body = comments(part.body, rng, inside)
        else:
            change(parts, _BLOCKS, rng, inside)
    blocks = [
        bytes([part.name[0] | (0x80 if number == len(parts) - 1 else 0)])
        + (max(0, len(part.body) + part.lie) % (1 << 24)).to_bytes(3, "big")
        + part.body
        for number, part in enumerate(parts)
    ]
    rest = data[at:]
    return data[:start] + b"".join(blocks) + (text.mutate(rest, rng) if rng.random() < 0.1 else rest)


def comments(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A Vorbis comment list and what is behind it."""
    size = int.from_bytes(data[:4], "little")
    vendor, at = data[4 : 4 + size], 4 + size
    count, parts = int.from_bytes(data[at : at + 4], "little"), []
    at += 4
    for _ in range(min(count, 200)):
        if at + 4 > len(data):
            break
        size = int.from_bytes(data[at : at + 4], "little")
        parts.append(Part(b"", data[at + 4 : at + 4 + size]))
        at += 4 + size
    if rng.random() < 0.3:
        parts.insert(rng.randint(0, len(parts)), Part(b"", rng.choice(_COMMENTS)))
    else:
        change(parts, [b""], rng, inside)
    if rng.random() < 0.1:
        vendor = text.mutate(vendor, rng)
    told = len(parts) + rng.choice((0,) * 9 + (1, -1, 1000))
    listed = [max(0, len(part.body) + part.lie).to_bytes(4, "little") + part.body for part in parts]
    return (
        len(vendor).to_bytes(4, "little")
        + vendor
        + max(0, told).to_bytes(4, "little")
        + b"".join(listed)
        + data[at:]
    )


def ogg(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """Pages of Ogg after accidents; their checksums are right, and mostly their lengths."""
    parts: list[Part] = []
    at = 0
    while at + _PAGE_HEAD <= len(data) and data[at : at + 4] == b"OggS" and len(parts) < 200:
        lacing = data[at + _PAGE_HEAD : at + _PAGE_HEAD + data[at + 26]]
        end = at + _PAGE_HEAD + len(lacing) + sum(lacing)
        parts.append(Part(data[at : at + 26], data[at + _PAGE_HEAD + len(lacing) : end]))
        at = end
    tail = data[at:]
    names = [part.name for part in parts] or [b"OggS".ljust(26, b"\0")]
    for _ in some(rng):
        change(parts, names, rng, lambda body, rng: _packet(body, rng, inside))
        if parts and rng.random() < 0.2:
            part, field = rng.choice(parts), rng.choice((5, 5, 14, 18, 6))
            head = bytearray(part.name)
            head[field] = rng.choice((0, 1, 2, 4, 5, 7, 8, 9, head[field] ^ 1))
            part.name = bytes(head)
    return b"".join(_page(part, rng) for part in parts) + (
        text.mutate(tail, rng) if rng.random() < 0.2 else tail
    )


def _packet(body: bytes, rng: Random, inside: Mutator) -> bytes:
    for head in _HEADS:
        if body.startswith(head) and rng.random() < 0.8:
            return head + comments(body[len(head) :], rng, inside)
    return inside(body, rng)


def _page(part: Part, rng: Random) -> bytes:
    """Its packets are one, or those that its length is cut into by chance."""
    body = part.body[: 255 * 254]
    lacing = bytes([255] * (len(body) // 255) + [len(body) % 255])
    if part.lie:
        lacing = lacing[:-1] + bytes([(lacing[-1] + part.lie) % 256])
    elif lacing[-1] > 1 and rng.random() < 0.1:
        cut = rng.randint(1, lacing[-1] - 1)
        lacing = lacing[:-1] + bytes([cut, lacing[-1] - cut])
    whole = bytearray(part.name + bytes([len(lacing)]) + lacing + body)
    whole[_CHECKSUM] = bytes(4)
    whole[_CHECKSUM] = page_checksum(bytes(whole)).to_bytes(4, "little")
    return bytes(whole)

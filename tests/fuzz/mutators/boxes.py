"""Files of boxes (MP4, QuickTime, HEIF, CR3, JPEG 2000, JPEG XL): they change places, sizes, contents.

A box holds boxes if what is in it reads as such, behind so many bytes of its own. Sizes of what holds a
changed box are right again, unless it is the accident; and what refers to places in the file refers
mostly to the same bytes as before, wherever they are now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.mutators import boxtables
from tests.fuzz.mutators.parts import MOST_BYTES, Mutator, some

_LEADS = (0, 4, 8, 6, 16, 24, 28, 44, 78)
"""So many bytes stand before the boxes in a box: version and flags, a count, a sample's description."""
_TYPE = re.compile(rb"[\x20-\x7e\xa9]{4}|\0\0\0[\1-\x10]", re.DOTALL)
_FIRST = (b"jP  ", b"JXL ", b"ftyp")
"""What a file begins with: without it, it is none."""
_MOST_BOXES = 600
_DEPTH = 10
_KINDS = tuple(
    word.ljust(4)
    for word in (
        b"ftyp styp moov mdat free skip wide meta udta uuid trak mdia minf stbl stsd stts stsc stsz stz2 "
        b"stco co64 stss hdlr mdhd tkhd mvhd tref edts elst dinf dref gmhd tapt mvex trex moof traf tfhd "
        b"trun tfdt sidx mfra tfra senc saiz saio sgpd sbgp keys ilst data mean name mdta ---- covr \xa9xyz "
        b"\xa9nam \xa9mak loci CNTH CNDA XMP_ iprp ipco ipma iinf infe iloc iref pitm idat ipro grpl hvcC "
        b"av1C ispe colr udes auxC mpvd jp2h jp2c ihdr xml flst ftbl asoc lbl Exif brob jbrd jxlc jxlp jumb "
        b"PRVW THMB CMT1 CNCV avc1 hvc1 gpmd mebx tmcd tx3g text camm mett CTMD CRAW encv sowt avcC wave "
        b"sinf keyd abcd"
    ).split()
)
_EXTENDED = tuple(
    bytes.fromhex(each)
    for each in (
        "be7acfcb97a942e89c71999491e3afac",
        "4a706754696666457869662d3e4a5032",
        "85c0b687820f11e08111f4ce462b6a48",
        "eaf42b5e1c984b88b9fbb7dc406e4d16",
        "ffcc8263f8554a938814587a02521fdd",
        "50524f4621d24fcebb88695cfac9c740",
        "33c7a4d2b81d4723a0baf1a3e097ad38",
        "2c4c0100850440b9a03e562148d6dfeb",
        "00000000000000000000000000000000",
    )
)
_JUNK = (b"\0", bytes(4), bytes(8), bytes(30), b"abc", b"\0\0\0\3junk behind", b"\xff" * 9, b"\0\0\0\0free")
_BLOCKS = re.compile(rb"II\*\0|MM\0\*|\xff\xd8\xff|<x:xmpmeta|<\?xpacket|\x1c\x02")


@dataclass(slots=True)
class Box:
    """One box. at: where in the file what it holds began; -1 where it is new."""

    kind: bytes
    body: bytes
    at: int = -1
    inside: list[Box] = field(default_factory=list)
    behind: bytes = b""
    large: bool = False
    says: int | None = None
    """Its size field, if that is not true."""

    def write(self, at: int, moved: list[tuple[int, int, int]]) -> bytes:
        """Its bytes, if it begins at `at`. moved: (where some bytes were, how many, where they are)."""
        head = 16 if self.large else 8
        moved.append((self.at - 8, len(self.body) + 8, at + head - 8))
        out = [self.body]
        size = head + len(self.body)
        for box in self.inside:
            out.append(box.write(at + size, moved))
            size += len(out[-1])
        size += len(self.behind)
        says = size if self.says is None else self.says
        first, more = (1, (says % (1 << 64)).to_bytes(8, "big")) if self.large else (says % (1 << 32), b"")
        return b"".join((first.to_bytes(4, "big"), self.kind, more, *out, self.behind))


def mutate(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A file of boxes after accidents."""
    root = Box(b"root", b"", 0)
    root.inside, end = _read(data, 0, len(data), 0)
    root.behind = data[end:]
    places = [place for box in _all(root) for place in (box.at - 8, box.at, box.at + len(box.body))]
    heads = [box for box in root.inside[:2] if box.kind in _FIRST and rng.random() < 0.95]
    root.inside = [box for box in root.inside if all(box is not each for each in heads)]
    for _ in some(rng):
        _accident(root, places, rng, inside)
    root.inside[:0] = heads
    moved: list[tuple[int, int, int]] = []
    out = root.write(-8, moved)[8:]
    if len(out) <= MOST_BYTES and rng.random() < 0.85:
        for box in _all(root):
            box.body = boxtables.moved(box.kind, box.body, moved)
        out = root.write(-8, [])[8:]
    return out[: rng.randrange(len(out))] if out and rng.random() < 0.02 else out


def _read(data: bytes, at: int, end: int, depth: int) -> tuple[list[Box], int]:
    """The boxes in [at, end), and where the last of them ends."""
    found: list[Box] = []
    while at + 8 <= end and len(found) < _MOST_BOXES:
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        large = size == 1
        if large:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0 and depth == 0:
            size = end - at
        if size < 8 + 8 * large or at + size > end or _TYPE.fullmatch(kind) is None:
            break
        start = at + 8 + 8 * large
        found.append(_box(data, kind, start, at + size, depth))
        found[-1].large = large
        at += size
    return found, at


def _box(data: bytes, kind: bytes, start: int, end: int, depth: int) -> Box:
    if depth < _DEPTH and kind not in (b"mdat", b"jp2c", b"jxlc"):
        for lead in _LEADS:
            inside, stop = _read(data, start + lead, end, depth + 1) if start + lead < end else ([], 0)
            if inside and end - stop < 5 and not any(data[stop:end]):
                return Box(kind, data[start : start + lead], start, inside, data[stop:end])
    return Box(kind, data[start:end], start)


def _all(box: Box) -> Iterator[Box]:
    for each in box.inside:
        yield each
        yield from _all(each)


def _accident(root: Box, places: list[int], rng: Random, inside: Mutator) -> None:
    boxes = list(_all(root))
    if not boxes:
        root.behind = inside(root.behind, rng)
        return
    holders = [root, *(box for box in boxes if box.inside)]
    box, holder, other = rng.choice(boxes), rng.choice(holders), rng.choice(holders)
    at = rng.randint(0, len(holder.inside))
    if rng.random() < 0.55:
        _within(box, places, rng, inside)
    elif len(boxes) < _MOST_BOXES:
        _among(box, holder, other, at, rng)


def _among(box: Box, holder: Box, other: Box, at: int, rng: Random) -> None:
    """Something befalls boxes as such."""
    row = holder.inside
    match rng.randint(0, 11):
        case 0 | 1:
            other.inside.insert(rng.randint(0, len(other.inside)), deepcopy(box))
        case 2 if row:
            moves = row.pop(at % len(row))
            if other is not moves and all(other is not each for each in _all(moves)):
                other.inside.insert(rng.randint(0, len(other.inside)), moves)
        case 3 if row:
            del row[at % len(row)]
        case 4 | 5:
            box.kind = rng.choice(_KINDS)
        case 6 if row:
            some_of = row[at % len(row) :][: rng.randint(1, 3)]
            row[at % len(row) :][: len(some_of)] = []
            del row[at % len(row) : at % len(row) + len(some_of)]
            row.insert(at, Box(rng.choice(_KINDS), rng.choice((b"", bytes(4), bytes(8))), inside=some_of))
        case 7:
            row.insert(at, Box(rng.choice(_KINDS), rng.choice((b"", bytes(rng.randint(1, 90)), box.body))))
        case 8:
            holder.behind = rng.choice((*_JUNK, box.body[:200]))
        case 9:
            sizes = (0, 1, 2, 7, 8, 9, 12, 1 << 31, (1 << 32) - 1, 1 << 40)
            box.says = rng.choice((*sizes, len(box.body), len(box.body) + 8 + rng.randint(-9, 40)))
        case 10:
            box.large = not box.large
        case _:
            rng.shuffle(row)


def _within(box: Box, places: list[int], rng: Random, inside: Mutator) -> None:
    """Something befalls what a box holds, besides other boxes."""
    body = box.body
    match rng.randint(0, 9):
        case 0 | 1 | 2:
            box.body = boxtables.mutate(box.kind, body, places, rng)
        case 3 | 4:
            box.body = boxtables.words(body, rng)
        case 5:
            flags = rng.choice((0, 0, 1, 2, 3, 0x201, 0x20000, 0xFFFFFF))
            box.body = bytes((rng.choice((0, 0, 1, 1, 2, 3, 4, 255)),)) + flags.to_bytes(3, "big") + body[4:]
        case 6 if box.kind == b"uuid":
            box.body = rng.choice(_EXTENDED) + body[16:]
        case 7:
            # A meta box of QuickTime has no version.
            box.body = body[4:] if box.kind == b"meta" and body else bytes(4) + body
        case _:
            box.body = _blocks(body, rng, inside)


def _blocks(body: bytes, rng: Random, inside: Mutator) -> bytes:
    """A block of metadata somewhere in a body, changed; it is as long as before, mostly."""
    starts = [found.start() for found in _BLOCKS.finditer(body)]
    if not starts or rng.random() < 0.2:
        return inside(body, rng)
    start = rng.choice(starts)
    end = min([*(each for each in starts if each > start), len(body)])
    changed = inside(body[start:end], rng)
    if rng.random() < 0.8:
        changed = changed[: end - start].ljust(end - start, b"\0")
    return body[:start] + changed + body[end:]

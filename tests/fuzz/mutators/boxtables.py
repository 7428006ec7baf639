"""Tables in boxes: where samples and items lie, what they are; and words by which boxes are judged."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.mutators import text

Resolver = Sequence[int]
"""Where boxes begin and end."""

_WORDS = tuple(
    tuple(word.ljust(4) for word in row.encode().split())
    for row in (
        "vide soun hint meta text sbtl subt tmcd auxv pict mdta mdir clcp mhlr",
        "avc1 hvc1 gpmd mebx tmcd tx3g text camm mett CTMD CRAW encv jpeg sowt twos test what free uuid",
        "hvc1 av01 Exif mime grid iden iovl jpeg j2k1 unci uri  abcd tmap mski vvc1 free",
        "cdsc thmb dimg iloc auxl prem",
        "isom heic mif1 avif crx  qt   mp42 jp2  jpx  jxl  M4A  3gp5",
        "avcC hvcC colr nclx prof glbl free uuid",
    )
)
_WORD = re.compile(b"|".join(re.escape(word) for word in sorted({word for row in _WORDS for word in row})))
_NAMES = (
    b"application/rdf+xml",
    b"image/jpeg",
    b"deflate",
    b"com.apple.quicktime.location.ISO6709",
    b"com.apple.quicktime.make",
    b"com.apple.quicktime.still-image-time",
    b"com.apple.quicktime.title",
    b"mdtacom.android.version",
)
_ROWS = {
    **dict.fromkeys((b"stco", b"stss", b"stps"), (8, 4)),
    **dict.fromkeys((b"stts", b"ctts", b"co64", b"stsh"), (8, 8)),
    **dict.fromkeys((b"stsc", b"elst"), (8, 12)),
    b"stsz": (12, 4),
    b"ipma": (8, 4),
    b"trun": (12, 4),
    b"pitm": (4, 2),
    b"tfra": (16, 12),
    b"flst": (2, 14),
}
"""Kind -> where its rows begin, and how long each is."""
_OFFSETS = {b"stco": (8, 4), b"co64": (8, 8)}
_MOST_ROWS = 300
_SMALL = (0, 0, 1, 1, 2, 3, 4, 7, 8, 16, 100, 255, 256, 0x7FFFFFFF, 0xFFFFFFFF)


def words(body: bytes, rng: Random) -> bytes:
    """A word by which something is judged becomes another; or a name does."""
    found = list(_WORD.finditer(body))
    if not found:
        at = rng.randint(0, len(body))
        name = rng.choice(_NAMES)
        return body[:at] + name + body[at + rng.choice((0, len(name))) :]
    hit = rng.choice(found)
    rows = [row for row in _WORDS if hit[0] in row]
    return body[: hit.start()] + rng.choice(rng.choice(rows)) + body[hit.end() :]


def mutate(kind: bytes, body: bytes, places: Resolver, rng: Random) -> bytes:
    """An accident to a table; to numbers anywhere, in what is none."""
    if kind == b"iloc" and (table := _Locations.read(body)) is not None:
        table.accident(places, rng)
        return table.write()
    if kind in _ROWS:
        return _rows(body, *_ROWS[kind], places, rng)
    if len(body) < 4:
        return text.mutate(body, rng)
    at = rng.randrange(0, len(body) - 3, rng.choice((1, 2, 4)))
    return body[:at] + _number(places, rng).to_bytes(4, "big") + body[at + 4 :]


def _number(places: Resolver, rng: Random) -> int:
    """A small one, or a place in the file."""
    if not places or rng.random() < 0.5:
        return rng.choice(_SMALL)
    return max(0, rng.choice(places) + rng.choice((0, 0, 0, 1, -1, 4, -4, 7, 8, -8, rng.randint(-40, 40))))


def _rows(body: bytes, head: int, width: int, places: Resolver, rng: Random) -> bytes:
    rows = [body[at : at + width] for at in range(head, len(body), width)]
    at = rng.randint(0, len(rows))
    match rng.randint(0, 7) if rows else 0:
        case 0:
            rows.insert(at, _number(places, rng).to_bytes(width, "big") if width > 3 else b"\0\1")
        case 1:
            rows.insert(at, rng.choice(rows))
        case 2:
            del rows[at % len(rows)]
        case 3:
            rng.shuffle(rows)
        case _:
            row = bytearray(rows[at % len(rows)])
            size = rng.choice((4, width)) if width > 3 else width
            place = rng.randrange(0, max(1, len(row)), size)
            row[place : place + size] = (_number(places, rng) % (1 << 8 * size)).to_bytes(size, "big")
            rows[at % len(rows)] = bytes(row)
    count = body[head - 4 : head] if rng.random() < 0.2 or head < 8 else len(rows).to_bytes(4, "big")
    return body[: head - 4] + count + b"".join(rows) if head >= 4 else body[:head] + b"".join(rows)


def moved(kind: bytes, body: bytes, moves: Sequence[tuple[int, int, int]]) -> bytes:
    """A table as it refers to the same bytes where they are now. moves: (where, how many, where now)."""

    def now(place: int) -> int:
        for start, size, there in reversed(moves):
            if start <= place < start + size:
                return there + place - start
        return place

    if kind == b"iloc" and (table := _Locations.read(body)) is not None:
        for item in table.items:
            if item.method == 0:
                item.extents = [(index, now(item.base + at) - item.base, n) for index, at, n in item.extents]
        return table.write()
    if kind in _OFFSETS and len(body) < 8 * _MOST_ROWS:
        head, width = _OFFSETS[kind]
        rows = [body[at : at + width] for at in range(head, len(body), width)]
        return body[:head] + b"".join(
            now(int.from_bytes(row, "big")).to_bytes(8, "big")[-width:] if len(row) == width else row
            for row in rows
        )
    return body


@dataclass(slots=True)
class _Place:
    """Where an item's data lie. extents: (index, offset, length)."""

    number: int
    method: int
    elsewhere: int
    base: int
    extents: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Locations:
    """An ``iloc`` table."""

    version: int
    sizes: tuple[int, int, int, int]
    items: list[_Place]

    @classmethod
    def read(cls, body: bytes) -> _Locations | None:
        """None where it is not whole."""
        at = 0

        def number(size: int) -> int:
            nonlocal at
            at += size
            if at > len(body):
                raise ValueError
            return int.from_bytes(body[at - size : at], "big")

        try:
            return cls._read(number)
        except ValueError:
            return None

    @classmethod
    def _read(cls, number: Callable[[int], int]) -> _Locations:
        version, _, packed = number(1), number(3), number(2)
        sizes = (packed >> 12, packed >> 8 & 15, packed >> 4 & 15, packed & 15 if version else 0)
        wide = 4 if version == 2 else 2
        items: list[_Place] = []
        rows = 0
        for _ in range(number(wide)):
            item = _Place(number(wide), number(2) & 15 if version else 0, number(2), number(sizes[2]))
            count = number(2)
            rows += count + 1
            if rows > _MOST_ROWS:
                raise ValueError
            item.extents = [(number(sizes[3]), number(sizes[0]), number(sizes[1])) for _ in range(count)]
            items.append(item)
        return cls(version, sizes, items)

    def write(self) -> bytes:
        offset, length, base, index = self.sizes
        wide = 4 if self.version == 2 else 2
        out = [bytes((self.version, 0, 0, 0, offset << 4 | length, base << 4 | index))]

        def number(value: int, size: int) -> None:
            out.append((value % (1 << 8 * size)).to_bytes(size, "big"))

        number(len(self.items), wide)
        for item in self.items:
            number(item.number, wide)
            number(item.method, 2 if self.version else 0)
            number(item.elsewhere, 2)
            number(item.base, base)
            number(len(item.extents), 2)
            for extent in item.extents:
                for value, size in zip(extent, (index, offset, length), strict=True):
                    number(value, size)
        return b"".join(out)

    def accident(self, places: Resolver, rng: Random) -> None:
        if not self.items:
            self.items.append(_Place(1, 0, 0, 0, [(1, _number(places, rng), rng.choice(_SMALL))]))
            return
        item, other = rng.choice(self.items), rng.choice(self.items)
        if not item.extents:
            item.extents.append((1, 0, 0))
        which = rng.randrange(len(item.extents))
        match rng.randint(0, 12):
            case 0:
                item.method = rng.choice((0, 1, 2, 2, 3))
            case 1:
                item.base = _number(places, rng)
            case 2:
                item.elsewhere = rng.choice((0, 1))
            case 3:
                item.number = other.number
            case 4:
                item.extents += other.extents
            case 5:
                item.extents = list(other.extents)
            case 6:
                self.items.append(_Place(rng.randint(1, 12), 0, 0, 0, list(item.extents)))
            case 7:
                self.items.remove(item)
            case _:
                item.extents[which : which + 1] = _extents(item.extents[which], places, rng)


def _extents(extent: tuple[int, int, int], places: Resolver, rng: Random) -> list[tuple[int, int, int]]:
    """What becomes of one piece of an item."""
    index, at, size = extent
    cut = rng.randint(0, min(size, 4000))
    match rng.randint(0, 5):
        case 0:
            return [(index, at, cut), (index, at + cut, size - cut)]
        case 1:
            return [(rng.choice(_SMALL[:7]), at, size)]
        case 2:
            return [(index, at, rng.choice((*_SMALL, size + 1, max(0, size - 1), 2 * size)))]
        case 3:
            return [(index, max(0, at + rng.randint(-20, 20)), size)]
        case _:
            return [(index, _number(places, rng), rng.choice((size, rng.choice(_SMALL))))]

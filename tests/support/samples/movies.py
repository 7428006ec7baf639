"""Movies put together box by box, and what to look for in them: builders for tests of redaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

PLACE: Final = b"+47.80453+013.04229/"
CITY: Final = b"Quincebury"
XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
MATRIX: Final = b"".join(n.to_bytes(4) for n in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
SAMPLE: Final = bytes(range(1, 65))
"""A frame of an undocumented codec: what it holds must stay."""


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box with a size of 4 bytes."""
    body = b"".join(parts)
    return (8 + len(body)).to_bytes(4) + kind + body


def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A full box."""
    return box(kind, bytes([version]) + flags.to_bytes(3), *parts)


def uuid(extended: bytes, *parts: bytes) -> bytes:
    return box(b"uuid", extended, *parts)


def large(kind: bytes, *parts: bytes) -> bytes:
    """A box with a size of 8 bytes."""
    body = b"".join(parts)
    return b"\0\0\0\1" + kind + (16 + len(body)).to_bytes(8) + body


def u32(*numbers: int) -> bytes:
    return b"".join(n.to_bytes(4) for n in numbers)


def u16(*numbers: int) -> bytes:
    return b"".join(n.to_bytes(2) for n in numbers)


def handler(kind: bytes, name: bytes = b"Handler\0", maker: bytes = bytes(4)) -> bytes:
    return full(b"hdlr", b"mhlr", kind, maker, bytes(8), name)


def text_atom(kind: bytes, text: bytes) -> bytes:
    """QuickTime's international text: size, language, text."""
    return box(kind, u16(len(text), 0x15C7), text)


def data(value: bytes, kind: int = 1) -> bytes:
    """The value of an item."""
    return box(b"data", u32(kind, 0), value)


def keyed(values: dict[bytes, bytes], *, quicktime: bool = False, kind: int = 1) -> bytes:
    """A ``meta`` of QuickTime keys."""
    keys = full(b"keys", u32(len(values)), *(box(b"mdta", name) for name in values))
    items = [box(u32(number), data(value, kind)) for number, value in enumerate(values.values(), 1)]
    inside = handler(b"mdta", b"") + keys + box(b"ilst", *items)
    return box(b"meta", inside) if quicktime else full(b"meta", inside)


def itunes(*items: bytes) -> bytes:
    """A ``meta`` as iTunes writes it."""
    return full(b"meta", full(b"hdlr", bytes(4), b"mdirappl", bytes(9)), box(b"ilst", *items))


def free_form(name: bytes, value: bytes) -> bytes:
    return box(b"----", full(b"mean", b"com.apple.iTunes"), full(b"name", name), data(value))


def loci(place: bytes = CITY) -> bytes:
    """3GPP's place: its name and fixed-point coordinates."""
    numbers = [int(13.04229 * 65536), int(47.80453 * 65536), 0]
    return full(b"loci", u16(0x15C7), place, b"\0\0", u32(*numbers), b"earth\0\0")


@dataclass(slots=True)
class Track:
    """A track of a test movie: its samples, and where its boxes differ from a plain one's."""

    kind: bytes = b"vide"
    format: bytes = b"test"
    samples: Sequence[bytes] = (SAMPLE, SAMPLE[::-1])
    entry: bytes = b""
    extra: bytes = b""
    media: bytes = b""
    table: bytes = b""
    number: int = 1
    name: bytes = b"Handler\0"
    dref: bytes = field(default_factory=lambda: full(b"url ", flags=1))
    per_chunk: int = 1

    def description(self) -> bytes:
        """The sample entry."""
        body = bytes(6) + u16(1)
        if self.kind == b"vide":
            body += bytes(4) + b"VNDR" + bytes(8) + u16(64, 48) + u32(0x480000, 0x480000, 0) + u16(1)
            body += b"\x0bLavc encode".ljust(32, b"\0") + u16(24, 0xFFFF)
        elif self.kind == b"soun":
            body += bytes(8) + u16(1, 16, 0, 0) + u32(44100 << 16)
        return box(self.format, body, self.entry)

    def trak(self, offsets: Sequence[int]) -> bytes:
        """The ``trak`` box for chunks at these offsets of the file."""
        sizes = [len(sample) for sample in self.samples]
        stbl = box(
            b"stbl",
            full(b"stsd", u32(1), self.description()),
            full(b"stts", u32(1, len(sizes), 100)),
            full(b"stsc", u32(1, 1, self.per_chunk, 1)),
            full(b"stsz", u32(0, len(sizes), *sizes)),
            full(b"stco", u32(len(offsets), *offsets)),
            self.table,
        )
        head = full(b"vmhd", bytes(8), flags=1) if self.kind == b"vide" else full(b"nmhd")
        minf = box(b"minf", head, box(b"dinf", full(b"dref", u32(1), self.dref)), stbl)
        mdia = box(
            b"mdia",
            full(b"mdhd", u32(3700000000, 3700000001, 1000, 2000), u16(0x15C7, 0)),
            handler(self.kind, self.name),
            minf,
            self.media,
        )
        tkhd = full(
            b"tkhd", u32(3700000002, 3700000003, self.number, 0, 2000), bytes(16), MATRIX, u32(64, 48)
        )
        return box(b"trak", tkhd, mdia, self.extra)


def mvhd() -> bytes:
    numbers = u32(3700000004, 3700000005, 1000, 2000, 0x10000)
    return full(b"mvhd", numbers, u16(0x100), bytes(10), MATRIX, bytes(24), u32(9))


def ftyp(brand: bytes = b"isom") -> bytes:
    return box(b"ftyp", brand, bytes(4), brand, b"isom")


def movie(
    *tracks: Track,
    moov: bytes = b"",
    before: bytes = b"",
    between: bytes = b"",
    after: bytes = b"",
    head: bytes | None = None,
    make=box,
) -> bytes:
    """A movie with its samples first: ftyp, `before`, mdat (with `between` in front of each sample), moov
    (with `moov` in it), `after`."""
    tracks = tracks or (Track(),)
    start = ftyp() if head is None else head
    start += before
    media, at = b"", len(start) + (8 if make is box else 16)
    offsets: list[list[int]] = []
    for track in tracks:
        offsets.append([])
        for number, sample in enumerate(track.samples):
            media += between
            if number % track.per_chunk == 0:
                offsets[-1].append(at + len(media))
            media += sample
    traks = [track.trak(found) for track, found in zip(tracks, offsets, strict=True)]
    return start + make(b"mdat", media) + box(b"moov", mvhd(), *traks, moov) + after


def kinds(
    data: bytes, inside: Iterable[bytes] = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
) -> list[bytes]:
    """The types of all boxes of a file, in order. AssertionError if its boxes do not fill it, but for
    up to 7 zeros."""
    found, at, holds = [], 0, set(inside)
    while data[at:].strip(b"\0") or len(data) - at > 7:
        size = int.from_bytes(data[at : at + 4])
        header = 8
        if size == 0 and data[at + 4 : at + 8] == b"mdat":
            size = len(data) - at
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16]), 16
        assert header <= size <= len(data) - at, (at, size)
        kind = data[at + 4 : at + 8]
        found.append(kind)
        if kind in holds:
            found += kinds(data[at + header : at + size], holds)
        at += size
    return found


def fragmented(
    base: int,
    *,
    more: bytes = b"",
    telemetry: bytes = CITY * 3,
    entry: tuple[bytes, bytes] = (b"test", b""),
    samples: tuple[bytes, bytes] = (SAMPLE, SAMPLE[::-1]),
) -> bytes:
    """A file of one fragment with a track of pictures and one of metadata. base: flags of its tfhd, 1 for
    offsets from the file's start, 0x20000 for such from the fragment's."""
    start = ftyp()
    trex = [full(b"trex", u32(number, 1, 0, 0, 0)) for number in (1, 2)]
    tracks = [
        Track(format=entry[0], entry=entry[1], samples=()),
        Track(b"meta", b"what", (), number=2),
    ]
    sizes = [len(sample) for sample in samples]
    start += box(b"moov", mvhd(), *(track.trak([]) for track in tracks), box(b"mvex", *trex))

    def moof(at: int) -> bytes:
        trafs = []
        for number, lengths, offset in ((1, sizes, at), (2, [len(telemetry)], at + sum(sizes))):
            place = len(start).to_bytes(8) if base & 1 else b""
            run = full(b"trun", u32(len(lengths), offset, *lengths), flags=0x201)
            trafs.append(box(b"traf", full(b"tfhd", u32(number), place, flags=base), run))
        return box(b"moof", full(b"mfhd", u32(1)), *trafs, more)

    size = len(moof(0))
    return start + moof(size + 8) + box(b"mdat", *samples, telemetry, CITY)


def sei(kind: int, payload: bytes) -> bytes:
    """One SEI unit of H.264 with its length."""
    unit = b"\x06" + bytes([kind, len(payload)]) + payload + b"\x80"
    return u32(len(unit)) + unit


SLICE: Final = u32(9) + b"\x65slice123"
AVCC: Final = box(b"avcC", b"\1\x42\0\x1e\xff\xe0\0")

SEEDS: Final = (
    movie(moov=box(b"udta", loci(), text_atom(b"\xa9xyz", PLACE), text_atom(b"\xa9mak", b"Testmaker"))),
    movie(Track(), Track(b"meta", b"what", (CITY * 3, CITY * 2), number=2), between=CITY, after=CITY * 5),
    movie(moov=keyed({b"com.apple.quicktime.location.ISO6709": PLACE, b"com.apple.quicktime.make": b"T"})),
    movie(moov=box(b"udta", itunes(box(b"\xa9nam", data(b"title")), free_form(b"where", CITY)))),
    movie(after=uuid(XMP_UUID, b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>") + box(b"free", PLACE), make=large),
    movie(Track(format=b"avc1", entry=AVCC, samples=[sei(5, bytes(range(16)) + CITY) + SLICE] * 6)),
    movie(Track(), Track(b"sbtl", b"tx3g", (u16(5) + b"words",), entry=bytes(30), number=2)),
    movie(Track(), Track(b"soun", b"sowt", (SAMPLE,), number=2), Track(b"tmcd", b"tmcd", number=3)),
    fragmented(0x20000, more=box(b"udta", loci())),
    fragmented(1),
)
"""Movies of every shape, small enough to be damaged."""

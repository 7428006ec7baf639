"""HEIF files put together byte by byte: builders for tests of redaction.

The coded pictures in them are no pictures but have the shape of some, so that nothing has to be
encoded; files that are to be decoded come from heif-enc and avifenc (tests/redaction).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.samples.movies import box as make_box

XMP_TYPE: Final = b"application/rdf+xml"
XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def full(kind: bytes, payload: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with version and flags."""
    return make_box(kind, bytes((version,)) + flags.to_bytes(3) + payload)


def nal(kind: int, body: bytes) -> bytes:
    """A NAL unit of H.265 behind its length."""
    unit = bytes((kind << 1, 1)) + body
    return len(unit).to_bytes(4) + unit


def picture(size: int = 40, seed: int = 1) -> bytes:
    """The data of an ``hvc1`` item: one slice."""
    return nal(20, bytes((i * 37 + seed * 11) % 255 + 1 for i in range(size)))


def user_sei(text: bytes) -> bytes:
    """An SEI unit with user data (unregistered) that says something."""
    body = b"\x05" + bytes((16 + len(text),)) + b"0123456789abcdef" + text + b"\x80"
    return nal(39, body)


def two_chains(slice_head: bytes, hidden: bytes) -> bytes:
    """A chain of a slice and the units *hidden*, behind lengths of four bytes. Behind lengths of two, it is a
    chain of slices alone. slice_head: two bytes at the start of a slice."""
    first = 2 << 16 | int.from_bytes(slice_head)
    data = bytearray(first.to_bytes(4) + bytes(first) + hidden + (40).to_bytes(4) + slice_head + bytes(38))
    data[4:8] = slice_head * 2  # a slice behind four bytes, and a length before a slice
    at = 6 + int.from_bytes(slice_head)
    while at < len(data):
        left = len(data) - at - 2
        size = left if left < 1 << 16 else 1 << 15
        data[at : at + 4] = size.to_bytes(2) + slice_head
        at += 2 + size
    return bytes(data)


def obu(kind: int, payload: bytes) -> bytes:
    """An OBU with a size, of at most 127 bytes."""
    return bytes((kind << 3 | 2, len(payload))) + payload


@dataclass(frozen=True, slots=True)
class Thing:
    """An item. where: mdat or idat. pieces: into how many extents its data are cut, with bytes of
    nobody between them. of: it has no data of its own but these bytes of another item (method 2)."""

    number: int
    kind: bytes
    data: bytes = b""
    content: bytes = b""
    encoding: bytes = b""
    name: bytes = b""
    where: str = "mdat"
    pieces: int = 1
    properties: tuple[int, ...] = ()
    of: tuple[int, int, int] | None = None
    extents: tuple[tuple[int, int], ...] = ()
    """Given extents (offsets in the file) instead of true ones."""


def hvcc(*units: tuple[int, bytes]) -> bytes:
    """A decoder configuration with arrays of one NAL unit each."""
    arrays = b""
    for kind, body in units:
        unit = bytes((kind << 1, 1)) + body
        arrays += bytes((0x80 | kind, 0, 1)) + len(unit).to_bytes(2) + unit
    return make_box(b"hvcC", b"\x01" + bytes(20) + b"\x0f" + bytes((len(units),)) + arrays)


def vvcc(*units: tuple[int, bytes], layers: int = 1) -> bytes:
    """A decoder configuration of H.266 with arrays of one NAL unit each; lengths of units are 4 bytes."""
    levels = bytes((0xFF << 9 - layers & 0xFF,)) + bytes((51,)) * (layers - 1) if layers > 1 else b""
    profile = b"\0" + bytes((layers << 4 | 1,)) + b"\x1f" + b"\1\2\x33\x80" + levels + b"\1" + bytes(4)
    arrays = b""
    for kind, body in units:
        unit = bytes((0, kind << 3 | 1)) + body
        count = b"" if kind in (12, 13) else b"\0\1"
        arrays += bytes((0x80 | kind,)) + count + len(unit).to_bytes(2) + unit
    return full(b"vvcC", b"\xff" + profile + bytes(6) + bytes((len(units),)) + arrays)


PROPERTIES: Final = (
    hvcc((33, b"\x01\x02\x03")),
    full(b"ispe", (64).to_bytes(4) * 2),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tables are written, and what else is in the file."""

    brand: bytes = b"heic"
    iloc_version: int = 1
    infe_version: int = 2
    base: int = 0
    properties: Sequence[bytes] = PROPERTIES
    references: Sequence[tuple[bytes, int, Sequence[int]]] = ()
    in_meta: bytes = b""
    before: bytes = b""
    after: bytes = b""
    gap: bytes = b"nobody's"
    junk: bytes = b""
    wide_mdat: bool = False


@dataclass(slots=True)
class _Data:
    """The bytes of mdat or idat as they grow, and where each item's pieces went."""

    data: bytearray = field(default_factory=bytearray)

    def put(self, thing: Thing, gap: bytes) -> list[tuple[int, int]]:
        step = -(-len(thing.data) // thing.pieces)
        places = []
        for at in range(0, len(thing.data), step) if step else ():
            part = thing.data[at : at + step]
            places.append((len(self.data), len(part)))
            self.data += part + (gap if thing.pieces > 1 else b"")
        return places


def heif(things: Iterable[Thing], layout: Layout = Layout()) -> bytes:
    """A whole file: ftyp, meta, mdat, and what the layout wants around them."""
    things = list(things)
    blocks = {"mdat": _Data(), "idat": _Data()}
    places = {t.number: blocks[t.where].put(t, layout.gap) for t in things}
    mdat, idat = bytes(blocks["mdat"].data) + layout.junk, bytes(blocks["idat"].data)
    ftyp = make_box(b"ftyp", layout.brand + bytes(4) + b"mif1" + layout.brand)
    head = (
        b"\0\0\0\1mdat" + (16 + len(mdat)).to_bytes(8)
        if layout.wide_mdat
        else (8 + len(mdat)).to_bytes(4) + b"mdat"
    )
    at = 0
    for _ in range(2):
        meta = _meta(things, places, at, idat, layout)
        at = len(ftyp) + len(layout.before) + len(meta) + len(head)
    return ftyp + layout.before + meta + head + mdat + layout.after


def _meta(
    things: list[Thing], places: dict[int, list[tuple[int, int]]], at: int, idat: bytes, layout: Layout
) -> bytes:
    wide = layout.infe_version == 3
    count = len(things).to_bytes(4 if wide else 2)
    infos = b"".join(_info(t, layout.infe_version) for t in things)
    associations = b"".join(
        t.number.to_bytes(2) + bytes((len(t.properties),)) + bytes(t.properties) for t in things
    )
    owners = sum(1 for _ in things)
    iprp = make_box(
        b"iprp",
        make_box(b"ipco", b"".join(layout.properties)) + full(b"ipma", owners.to_bytes(4) + associations),
    )
    references = [*layout.references, *((b"iloc", t.number, (t.of[0],)) for t in things if t.of)]
    irefs = b"".join(
        make_box(kind, one.to_bytes(2) + len(many).to_bytes(2) + b"".join(m.to_bytes(2) for m in many))
        for kind, one, many in references
    )
    return full(
        b"meta",
        full(b"hdlr", bytes(4) + b"pict" + bytes(12) + b"\0")
        + full(b"pitm", (1).to_bytes(2))
        + _iloc(things, places, at, layout)
        + full(b"iinf", count + infos, 1 if wide else 0)
        + iprp
        + (full(b"iref", irefs) if irefs else b"")
        + (make_box(b"idat", idat) if idat else b"")
        + layout.in_meta,
    )


def _info(thing: Thing, version: int) -> bytes:
    texts = thing.name + b"\0"
    if thing.kind == b"mime":
        texts += thing.content + b"\0" + (thing.encoding + b"\0" if thing.encoding else b"")
    elif thing.kind == b"uri ":
        texts += thing.content + b"\0"
    number = thing.number.to_bytes(4 if version == 3 else 2)
    if version < 2:
        texts = thing.name + b"\0" + thing.content + b"\0" + thing.encoding + b"\0"
        return full(b"infe", number + bytes(2) + texts, version)
    return full(b"infe", number + bytes(2) + thing.kind + texts, version)


def _iloc(things: list[Thing], places: dict[int, list[tuple[int, int]]], at: int, layout: Layout) -> bytes:
    version, out = layout.iloc_version, b""
    sizes = b"\x44\x44" if version else b"\x44\x40"
    wide = 4 if version == 2 else 2
    for thing in things:
        method = 2 if thing.of else 1 if thing.where == "idat" else 0
        start = 0 if method else at
        extents = list(thing.extents) or [(start + o - layout.base, n) for o, n in places[thing.number]]
        base = 0 if thing.extents or method else layout.base
        if method:
            extents = list(thing.extents) or [(o, n) for o, n in places[thing.number]]
        if thing.of:
            extents = [(thing.of[1], thing.of[2])]
        out += thing.number.to_bytes(wide) + (method.to_bytes(2) if version else b"")
        out += bytes(2) + base.to_bytes(4) + len(extents).to_bytes(2)
        for offset, length in extents:
            out += (b"\0\0\0\1" if version else b"") + max(0, offset).to_bytes(4) + length.to_bytes(4)
    return full(b"iloc", sizes + len(things).to_bytes(wide) + out, version)

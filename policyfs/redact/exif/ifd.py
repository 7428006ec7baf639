"""Directories of TIFF files (TIFF 6.0, BigTIFF), read by range, in any frame.

Maker notes are directories of the same shape whose offsets have another base.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.patches import ByteSource
from policyfs.redact.exif.tags import TYPE_SIZES as EXIF_SIZES

TYPE_SIZES: Final = {**EXIF_SIZES, 16: 8, 17: 8, 18: 8}
"""Bytes per value of each field type, including BigTIFF's LONG8, SLONG8 and IFD8."""

NUMBER_TYPES: Final = {1: "B", 3: "H", 4: "I", 7: "B", 9: "I", 13: "I", 16: "Q", 18: "Q"}
"""Field types of offsets and lengths -> letters of struct."""

NEUTRAL_TAG: Final = 0xFFFF
"""Tag number that replaces a removed tag in a maker note: makers use no such tag."""

MAX_ENTRIES: Final = 2000
"""Limit of one directory; real ones have at most some 400."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Format of a directory's numbers.

    order: "<" or ">". big: BigTIFF. base: the origin of offsets, in bytes of the source. note: it is in
    a maker note; there a removed entry leaves its place empty, because readers guess the meaning of
    offsets from the places of values.
    """

    order: str
    big: bool = False
    base: int = 0
    note: bool = False
    own: tuple[int, int] = (0, 0)
    """The note's own bytes: [start, end) in the source."""

    @property
    def entry_bytes(self) -> int:
        """Size of an entry."""
        return 20 if self.big else 12

    @property
    def count_bytes(self) -> int:
        """Size of the number of entries."""
        return 8 if self.big else 2

    @property
    def offset_bytes(self) -> int:
        """Size of an offset, and of a value within its entry."""
        return 8 if self.big else 4

    def owns(self, start: int, end: int) -> bool:
        """True if bytes of the source are within the note."""
        return self.own[0] <= start and end <= self.own[1]

    def number(self, data: bytes) -> int:
        """Read an unsigned number of any size."""
        return int.from_bytes(data, "little" if self.order == "<" else "big")

    def packed(self, number: int, size: int) -> bytes:
        """Pack an unsigned number into size bytes."""
        return number.to_bytes(size, "little" if self.order == "<" else "big")


@dataclass(slots=True)
class Entry:
    """One tag; position, start and end in bytes of the source."""

    tag: int
    type: int
    count: int
    position: int
    start: int
    size: int
    raw: bytes
    inline: bool
    keep: bool = False
    nested: bool = False
    """True if another cleaner handles its value: it does not claim its bytes as a plain value."""
    holds: bool = False
    """True if its value holds directories, which are handled on their own."""

    @property
    def end(self) -> int:
        """One past the value's last byte."""
        return self.start + self.size


@dataclass(slots=True)
class Directory:
    """A directory: its entries, and its referrer (an entry, or the directory before it)."""

    offset: int
    frame: Frame
    role: str
    old: bytes
    entries: list[Entry]
    chained: bool
    following: int = 0
    next: Directory | None = None
    previous: Directory | None = None
    referrer: Entry | None = None
    dropped: bool = False
    crowded: bool = False
    """Its unnamed tags hold more small numbers than may stay."""
    covers: list[tuple[int, int]] = field(default_factory=list)
    """Other bytes that stay with the directory: a maker note's header and footer."""

    @property
    def end(self) -> int:
        """One past the structure."""
        return self.offset + len(self.old)

    def rebuilt(self) -> bytes:
        """Return the new bytes of the directory, as many as before."""
        frame = self.frame
        if frame.note:
            body = b"".join(e.raw if e.keep else _neutral(e, frame) for e in self.entries)
            return self.old[: frame.count_bytes] + body
        kept = [entry.raw for entry in self.entries if entry.keep]
        following = self.next.offset - frame.base if self.next is not None else 0
        head = frame.packed(len(kept), frame.count_bytes)
        tail = frame.packed(following, frame.offset_bytes) if self.chained else b""
        return (head + b"".join(kept) + tail).ljust(len(self.old), b"\0")


def _neutral(entry: Entry, frame: Frame) -> bytes:
    """Return an entry that tells nothing, in the place of a removed one.

    Offset and length of a value in the note stay, because readers guess from them how far a note was
    moved; the value itself is zeros. Bytes outside the note may belong to another tag. Pictures may be
    anywhere, so readers learn nothing from their offsets.
    """
    picture = entry.nested and not entry.holds
    if entry.inline or not entry.size or picture or not frame.owns(entry.start, entry.end):
        kind, count = (entry.type, entry.count) if entry.inline and entry.size else (7, 4)
        shape = struct.pack(frame.order + "HHI", NEUTRAL_TAG, kind, count)
        return shape + bytes(frame.offset_bytes)
    return struct.pack(frame.order + "H", NEUTRAL_TAG) + entry.raw[2:]


def read_directory(
    source: ByteSource, at: int, frame: Frame, role: str, *, chained: bool
) -> Directory | None:
    """Read the directory at an offset of the source, in bytes; None if there can be none."""
    if not 0 <= at <= source.size - frame.count_bytes:
        return None
    count = frame.number(source.read(at, frame.count_bytes))
    size = frame.count_bytes + frame.entry_bytes * count
    chained = chained and at + size + frame.offset_bytes <= source.size  # some writers leave it out
    size += frame.offset_bytes if chained else 0
    if count > MAX_ENTRIES or at + size > source.size:
        return None
    old = source.read(at, size)
    first = frame.count_bytes
    entries = [
        _entry(old[first + frame.entry_bytes * i : first + frame.entry_bytes * (i + 1)], at, i, frame)
        for i in range(count)
    ]
    following = frame.number(old[-frame.offset_bytes :]) if chained else 0
    return Directory(at, frame, role, old, entries, chained, following)


def _entry(raw: bytes, at: int, index: int, frame: Frame) -> Entry:
    tag, kind, count, value = struct.unpack(frame.order + ("HHQQ" if frame.big else "HHII"), raw)
    size = count * TYPE_SIZES.get(kind, 0)
    position = at + frame.count_bytes + frame.entry_bytes * index
    inline = size <= frame.offset_bytes
    start = position + (12 if frame.big else 8) if inline else frame.base + value
    return Entry(tag, kind, count, position, start, size, raw, inline)

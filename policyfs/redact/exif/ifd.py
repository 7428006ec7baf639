"""Header and directories of TIFF structures (TIFF 6.0, BigTIFF), read by range.

Maker notes have directories of the same shape, but their offsets may count from another origin (Frame).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from policyfs.redact.core.patches import ByteSource
from policyfs.redact.exif.tags import TYPE_SIZES as EXIF_SIZES

TYPE_SIZES: Final = {**EXIF_SIZES, 16: 8, 17: 8, 18: 8}
"""Bytes per value of each field type, including BigTIFF's LONG8, SLONG8 and IFD8."""

NUMBER_TYPES: Final = {1: "B", 3: "H", 4: "I", 7: "B", 9: "I", 13: "I", 16: "Q", 18: "Q"}
"""A dictionary from the field types of offsets and lengths to letters of the struct module."""

NEUTRAL_TAG: Final = 0xFFFF
"""Tag number that replaces a removed tag in a maker note. No maker uses this number."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The format of the numbers in a directory: byte order, and size and origin of offsets.

    order: "<" or ">". big: True for BigTIFF. base: the origin of offsets, in bytes of the source. note: True
    if the directory is in a maker note. There an empty entry replaces a removed entry, so that the other
    entries do not move: readers guess the origin of offsets from the positions of values. sizes: bytes per
    value of each field type.
    """

    order: str
    big: bool = False
    base: int = 0
    note: bool = False
    sizes: Mapping[int, int] = field(default_factory=lambda: TYPE_SIZES)
    own: tuple[int, int] = (0, 0)
    """The bytes [start, end) of the source that are the maker note, if the directory is in a maker note."""

    @property
    def entry_bytes(self) -> int:
        """Size of an entry in bytes."""
        return 20 if self.big else 12

    @property
    def count_bytes(self) -> int:
        """Size in bytes of the field that holds the number of entries."""
        return 8 if self.big else 2

    @property
    def offset_bytes(self) -> int:
        """Size in bytes of an offset. A value of at most this size is stored within its entry."""
        return 8 if self.big else 4

    def owns(self, start: int, end: int) -> bool:
        """Return True if the bytes [start, end) of the source are within the maker note."""
        return self.own[0] <= start and end <= self.own[1]

    def number(self, data: bytes) -> int:
        """Read an unsigned number of any size."""
        return int.from_bytes(data, "little" if self.order == "<" else "big")

    def packed(self, number: int, size: int) -> bytes:
        """Pack an unsigned number into size bytes."""
        return number.to_bytes(size, "little" if self.order == "<" else "big")


class Header(NamedTuple):
    """Header of a TIFF structure: format of its numbers, version (42: TIFF), offset of the first directory,
    own size.
    """

    frame: Frame
    magic: int
    first: int
    size: int


def read_header(source: ByteSource, sizes: Mapping[int, int] = TYPE_SIZES) -> Header | None:
    """Read the header of a TIFF, BigTIFF or raw file; None without a byte order and 8 bytes."""
    head = source.read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return None
    frame = Frame(order, sizes=sizes)
    magic = frame.number(head[2:4])
    if magic == 43 and head[4:8] == frame.packed(8, 2) + b"\0\0" and len(head) >= 16:
        return Header(replace(frame, big=True), magic, frame.number(head[8:]), 16)
    return Header(frame, magic, frame.number(head[4:8]), 8)


@dataclass(slots=True)
class Entry:
    """An entry of a TIFF directory (IFD): one tag with its value.

    position: the offset of the entry. start, end: the offsets of the value. All offsets count from the start
    of the source, in bytes. raw: the entry's bytes. inline: True if the value is stored in the entry itself.
    keep: True if the entry stays.
    """

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
    """True if the value has a cleaner of its own (XMP, a maker note). Others stay unchanged."""
    holds: bool = False
    """True if the value holds directories, which the walk handles as directories."""
    picture: bool = False
    """True if the value is a picture."""
    bare: bool = False
    """True if the entry surely has no data of its category, as a GPS directory without a place."""
    directory: Directory = field(init=False, repr=False, compare=False)

    @property
    def end(self) -> int:
        """The offset behind the value's last byte."""
        return self.start + self.size

    @property
    def frame(self) -> Frame:
        """The format of the directory's numbers."""
        return self.directory.frame

    @property
    def room(self) -> bytes:
        """The last four bytes of the entry (eight in BigTIFF): a short value, or its offset."""
        return self.raw[-self.frame.offset_bytes :]


@dataclass(slots=True)
class Directory:
    """A TIFF directory (IFD). old: its bytes before any change. chained: True if it has a pointer to a next
    directory.

    role: a name that decides which tags are known in the directory, such as "ExifIFD" (tags.py). following:
    the offset of the next directory (0: none). referrer: the entry that refers to this directory. previous:
    the directory that points to this directory as its next one.
    """

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
    """True if the directory was removed."""
    crowded: bool = False
    """True if its unnamed tags have too many small numbers (empty_values.MOST_NUMBERS)."""
    covers: list[tuple[int, int]] = field(default_factory=list)
    """Other ranges that stay with the directory: a maker note's header and footer."""
    is_sound: Callable[[], bool] = lambda: True
    """A function that tells if a maker note's directory would be understood with the entries that stay."""

    def __post_init__(self) -> None:
        for entry in self.entries:
            entry.directory = self

    @property
    def end(self) -> int:
        """The offset of the first byte behind the directory."""
        return self.offset + len(self.old)

    @property
    def holds_any(self) -> bool:
        """True if any entry of the directory stays."""
        return any(entry.keep for entry in self.entries)

    @property
    def was_empty(self) -> bool:
        """True if the directory had no tag before any change; some programs write such directories."""
        return not any(self.old[: self.frame.count_bytes])

    @property
    def new_size(self) -> int:
        """Size in bytes without the removed entries, with the pointer to the next directory."""
        frame = self.frame
        kept = sum(entry.keep for entry in self.entries)
        return frame.count_bytes + frame.entry_bytes * kept + (frame.offset_bytes if self.chained else 0)

    def rebuilt(self) -> bytes:
        """Return the new bytes of the directory, as many as before."""
        frame = self.frame
        if frame.note:
            body = b"".join(e.raw if e.keep else _neutral(e) for e in self.entries)
            return self.old[: frame.count_bytes] + body
        kept = [entry.raw for entry in self.entries if entry.keep]
        following = self.next.offset - frame.base if self.next is not None else 0
        head = frame.packed(len(kept), frame.count_bytes)
        tail = frame.packed(following, frame.offset_bytes) if self.chained else b""
        return (head + b"".join(kept) + tail).ljust(len(self.old), b"\0")


def _neutral(entry: Entry) -> bytes:
    """Return the entry that replaces a removed one in a maker note. The offset of a value in the note stays:
    readers guess from the offsets how far a note was moved.
    """
    frame = entry.frame
    if entry.inline or not entry.size or entry.picture or not frame.owns(entry.start, entry.end):
        kind, count = (entry.type, entry.count) if entry.inline and entry.size else (7, 4)
        shape = struct.pack(frame.order + "HHI", NEUTRAL_TAG, kind, count)
        return shape + bytes(frame.offset_bytes)
    return struct.pack(frame.order + "H", NEUTRAL_TAG) + entry.raw[2:]


class Shape(NamedTuple):
    """Bounds of a TIFF directory (IFD): its number of entries and the offset of its end.

    chained: True if it has a pointer to a next directory.
    """

    entries: int
    end: int
    chained: bool


def directory_shape(source: ByteSource, at: int, frame: Frame, *, chained: bool) -> Shape | None:
    """Return the bounds of the directory at an offset; None if none can be there."""
    if not 0 <= at <= source.size - frame.count_bytes:
        return None
    count = frame.number(source.read(at, frame.count_bytes))
    end = at + frame.count_bytes + frame.entry_bytes * count
    chained = chained and end + frame.offset_bytes <= source.size  # some writers leave out the pointer
    end += frame.offset_bytes if chained else 0
    return Shape(count, end, chained) if end <= source.size else None


def read_directory(source: ByteSource, at: int, frame: Frame, role: str, shape: Shape) -> Directory:
    """Read the directory at an offset. role: decides which tags are known ("ExifIFD")."""
    old = source.read(at, shape.end - at)
    entries = read_entries(source, at, frame, shape.entries)
    following = frame.number(old[-frame.offset_bytes :]) if shape.chained else 0
    return Directory(at, frame, role, old, entries, shape.chained, following)


def read_entries(source: ByteSource, at: int, frame: Frame, most: int) -> list[Entry]:
    """Read up to *most* entries of the directory at an offset, as it states and the source has."""
    first, step = at + frame.count_bytes, frame.entry_bytes
    count = min(most, frame.number(source.read(at, frame.count_bytes)), (source.size - first) // step)
    data = source.read(first, step * count) if count > 0 else b""
    return [_entry(data[i : i + step], first + i, frame) for i in range(0, len(data), step)]


def _entry(raw: bytes, position: int, frame: Frame) -> Entry:
    tag, kind, count, value = struct.unpack(frame.order + ("HHQQ" if frame.big else "HHII"), raw)
    size = count * frame.sizes.get(kind, 0)
    inline = size <= frame.offset_bytes
    start = position + (12 if frame.big else 8) if inline else frame.base + value
    return Entry(tag, kind, count, position, start, size, raw, inline)

"""TIFF and BigTIFF files, and the raw files of cameras that are TIFF structures.

Directories, values and JPEG data are read, but no strips and tiles of plain pixels. After redaction every
byte is a directory, the value of a known tag, pixels that a tag refers to, zero, or filler (bytes without
information). libmagic calls DNG, NEF, ARW, PEF, SRW and most other raw files image/tiff.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.categories import UNKNOWN
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError, shifted
from policyfs.redact.core.filler import range_says_nothing
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.patches import ByteSource, SliceSource, zeros
from policyfs.redact.exif import raw_tags, tags
from policyfs.redact.exif.ifd import Directory, Entry, Header, read_header
from policyfs.redact.exif.makernotes import OPENERS, TABLES, previews
from policyfs.redact.exif.tiff_walk import TiffWalk, pairs
from policyfs.redact.raw.strips import StripHeaders
from policyfs.redact.raw.trailers import end_without_trailers

MAX_ZEROED_BYTES: Final = 64 << 20
"""Unreferenced bytes that are read to find out if they are zero. Further ones count as not zero."""
MAX_SAMPLES: Final = 64
MAX_LOST_BYTES: Final = 1 << 20
"""Unreferenced bytes that may be zeroed. With more, and more than half of the file, it is refused: they may
be pixels that only the maker finds.
"""

MAX_PADDING: Final = 8
"""Maximum gap that stays between more than MANY_STRIPS strips: padding, or GDAL's lengths."""
MANY_STRIPS: Final = 256
_NUMBER: Final = re.compile(rb"\d[.,]\d\d")

_RW2_MAGIC: Final = bytes.fromhex("88e774d8f8251d4d947a6e77822b5d6a")
_ALL_ONES: Final = 0xFFFFFFFF
_LOSSLESS: Final = 0xC3
_JPEG_COMPRESSIONS: Final = (6, 7, 99, 33007, 34892)
_PICTURES: Final = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"\0\0\0\x0cJXL \r\n\x87\n"), "image/jxl"),
    (re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n"), "image/jp2"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)
"""Patterns of the first bytes of pictures, and their kinds."""
_LONGEST_START: Final = 12


def locate_tiff(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a TIFF or a raw file; return the changes that hide it.

    Raises NotThisKindError if there is no directory, if values overlap, or if the pixels are not where a tag
    says; TooMuchError.
    """
    return _File(source, inner, TiffWalk(source, inner, tables=TABLES, openers=OPENERS)).locate()


def _head(source: ByteSource) -> tuple[Header, str]:
    """Return the header of the file, and the role of its first directory. Raises NotThisKindError."""
    header, start, rest = read_header(source), source.read(0, 4), source.read(8, 16)
    if header is None:
        raise NotThisKindError("it does not start like a TIFF")
    if rest[:4] in (b"IIII", b"MMMM"):
        raise NotThisKindError("policyfs does not know where the pixels are in files of Phase One cameras")
    if header.frame.big:
        return header, tags.IMAGE
    if start == b"IIU\0":
        return header._replace(size=24 if rest == _RW2_MAGIC else 8), "RW2"
    if header.magic == 42 and rest[:2] == b"CR":
        return header._replace(size=16), tags.IMAGE
    if header.magic == 42 or start in (b"IIRO", b"IIRS", b"MMOR"):
        return header, tags.IMAGE
    raise NotThisKindError("it does not start like a TIFF")


@dataclass(slots=True)
class _File:
    source: ByteSource
    inner: Inner
    walk: TiffWalk
    done: set[tuple[int, int]] = field(default_factory=set)
    """Ranges of pixels that stay."""
    pictures: set[tuple[int, int]] = field(default_factory=set)
    """Ranges that were examined as pictures."""
    strips: StripHeaders = field(init=False)
    plain: list[tuple[int, int]] = field(default_factory=list)
    """Ranges that surely are pixels, because the size of the picture and the stated lengths agree."""
    end: int = field(init=False)
    """The offset behind the last byte that may belong to pixels."""

    def __post_init__(self) -> None:
        self.end = end_without_trailers(self.source)
        self.strips = StripHeaders(self.source, self.inner.budget)

    def locate(self) -> Found:
        walk = self.walk
        head, role = _head(self.source)
        walk.structure.add(0, head.size)
        if walk.open(head.first, head.frame, role, chained=True) is None:
            raise NotThisKindError("its first TIFF directory (IFD) is missing, damaged or too long")
        walk.walk()
        if walk.model.startswith(b"DSLR-A100"):
            raise NotThisKindError("policyfs does not know where the pixels are in files of this camera")
        walk.settle()
        walk.prune()
        for directory in walk.directories:
            if not directory.dropped:
                self._pixels(directory)
        walk.finish()
        walk.kept.append((0, head.size))
        return self._found()

    # --- pixels ---

    def _pixels(self, directory: Directory) -> None:
        if directory.frame.note:
            note = min(start for start, _ in directory.covers) if directory.covers else directory.offset
            for places in previews(self.walk, directory, note):
                self._preview(places)
            return
        for entry, starts, sizes in pairs(self.walk, directory, raw_tags.IMAGE_PAIRS):
            if len(starts) == 1 and starts[0] == _ALL_ONES:
                starts = self._raw_data(directory)
                sizes = [self.source.size - at for at in starts]
            if not starts:
                continue  # no reader accepts an offset of the entry's type, so nothing is kept
            sizes = self._sized(directory, entry, starts, sizes)
            self._keep_all(directory, entry, list(zip(starts, sizes, strict=True)))
        self._tables(directory)

    def _raw_data(self, directory: Directory) -> list[int]:
        for entry in directory.entries:
            if entry.tag == raw_tags.RAW_DATA_OFFSET and entry.keep:
                return self.walk.numbers(entry)
        return []

    def _sized(self, directory: Directory, entry: Entry, starts: list[int], sizes: list[int]) -> list[int]:
        """Return the lengths as readers use them: computed if missing, or too short for plain pixels."""
        computed = self._plain_size(directory, entry.tag, len(starts))
        stated = zip(starts, sizes, strict=False)
        self.plain += [(at, at + min(size, computed)) for at, size in stated if at >= 8]
        if len(sizes) != len(starts) or 0 in sizes:
            guessed = self._guessed(starts)
            sizes = [a or b for a, b in zip(sizes or guessed, guessed, strict=False)]
            sizes += guessed[len(sizes) :]
        one_strip = len(starts) == 1 and entry.tag == tags.STRIP_OFFSETS
        if one_strip and starts[0] + computed <= self.end:  # else the pixels are packed, as in an ORF
            sizes = [max(sizes[0], computed)]
        return sizes

    def _plain_size(self, directory: Directory, tag: int, count: int) -> int:
        """Compute the length of one of *count* strips or tiles (0: not plain). tag: the offsets' tag."""
        if self._first(directory, 0x0103) != 1 or tag not in (tags.STRIP_OFFSETS, tags.TILE_OFFSETS):
            return 0
        width, height = (0x0100, 0x0101) if tag == tags.STRIP_OFFSETS else (0x0142, 0x0143)
        bits = self._first(directory, 0x0102) * max(1, self._first(directory, 0x0115))
        size = self._first(directory, height) * ((self._first(directory, width) * bits + 7) // 8)
        return size // count if tag == tags.STRIP_OFFSETS else size

    def _guessed(self, starts: list[int]) -> list[int]:
        """Return lengths that are not stated: data ends at the next offset, or at the file's end."""
        ordered = sorted(starts)
        behind = dict(zip(ordered, [*ordered[1:], self.source.size], strict=True))
        return [max(0, behind[at] - at) for at in starts]

    def _keep_all(self, directory: Directory, entry: Entry, blobs: list[tuple[int, int]]) -> None:
        compression = self._first(directory, 0x0103)
        as_jpeg = entry.tag == 0x0201 or compression in _JPEG_COMPRESSIONS
        for start, size in blobs:
            end = min(start + size, self.end)
            if start < 8 or start >= end:
                continue
            self.done.add((start, end))
            if (start, end) not in self.pictures:
                self._picture(start, end, as_jpeg=as_jpeg, whole=len(blobs) == 1)
            self.walk.kept.append((start, end))

    def _picture(self, start: int, end: int, *, as_jpeg: bool, whole: bool) -> None:
        """Clean a strip that is a picture by its first bytes: the stated compression may be wrong. as_jpeg: a
        tag states JPEG. whole: the strip is the whole picture. Raises NotThisKindError.
        """
        head = self.source.read(start, _LONGEST_START)
        kind = next((kind for pattern, kind in _PICTURES if pattern.match(head)), "")
        if not (as_jpeg or kind):
            return
        if kind not in ("", "image/jpeg"):
            self._container(kind, start, end)
        elif self._jpeg(start, end, sure=as_jpeg, whole=whole):
            self.pictures.add((start, end))

    def _container(self, kind: str, start: int, end: int) -> None:
        self.inner.budget.part()
        found = self.inner.file(kind, SliceSource(self.source, start, end - start))
        if found is None or not self.walk.free(start, end):
            raise NotThisKindError("a picture in it cannot be read, or overlaps other data")
        self.walk.embedded.add(start, end)
        self.walk.patches += [patch.shifted(start) for patch in found.patches]
        self.walk.notes += shifted(found.notes, start)
        self.pictures.add((start, end))

    def _first(self, directory: Directory, tag: int) -> int:
        for entry in directory.entries:
            if entry.tag == tag and entry.keep and entry.count <= MAX_SAMPLES:
                return next(iter(self.walk.numbers(entry)), 0)
        return 0

    def _jpeg(self, start: int, end: int, *, sure: bool, whole: bool) -> bool:
        """Clean a strip of JPEG: a whole picture like any JPEG, else its header's metadata becomes zeros.
        Return False for any other strip. sure: a tag states JPEG: a frame header is not needed.
        """
        if self.strips.is_known(start, end):
            return True
        payloads, frame = self.strips.metadata(start, end)
        if not (sure or frame):
            return False
        if whole and frame not in (0, _LOSSLESS):
            if not self.walk.free(start, end):  # else the strip would stay with only its header examined
                raise NotThisKindError("its pictures overlap other data")
            if self.walk.embed_picture(start, end - start):
                return True
        patches = [p for a, b in payloads for p in zeros(self.source, a, b)]
        if not patches:
            return True
        if not self.walk.free(start, end):
            raise NotThisKindError("its pictures overlap other data")
        self.walk.embedded.add(start, end)
        self.walk.patches += patches
        self.walk.notes += [Note(a, b - a, "JPEG", "segment", UNKNOWN) for a, b in payloads]
        return True

    def _preview(self, places: list[tuple[int, int]]) -> None:
        """Clean a maker note's picture. places: its possible (offset, length), by several origins."""
        for at, size in places:
            if (at, at + size) in self.pictures or self.walk.embed_picture(at, size):
                self.pictures.add((at, at + size))
                return

    def _tables(self, directory: Directory) -> None:
        """Keep the tables that JPEG of TIFF 6.0 stores outside of strips."""
        for entry in directory.entries:
            if entry.tag in raw_tags.JPEG_TABLES and entry.keep and entry.count <= 8:
                for at in self.walk.numbers(entry):
                    size = 64 if entry.tag == 0x0207 else 16 + sum(self.source.read(at, 16))
                    # Keep no table where other data is: changes to that data would change the length that is
                    # read here.
                    if at >= 8 and self.walk.free(at, at + size):
                        self.walk.kept.append((at, at + size))

    # --- the result ---

    def _found(self) -> Found:
        walk = self.walk
        kept = Extents(walk.kept).without(walk.wiped)
        if any(walk.wiped.hits(patch.offset, patch.end) for patch in walk.patches):
            raise NotThisKindError("its parts overlap")
        pixels = Extents(self.plain)
        if any(pixels.hits(start, end) for start, end in walk.wiped):
            raise NotThisKindError("a tag that must be removed refers to its pixels")
        padding = MAX_PADDING if len(self.done) > MANY_STRIPS else 0
        changed = Extents((patch.offset, patch.end) for patch in walk.patches)
        lost = list(unreferenced(self.source, kept, padding, walk.wiped, walk.wiped_in_notes, changed))
        total = sum(patch.size for patch in lost)
        if total > MAX_LOST_BYTES and total > self.source.size // 2:
            raise NotThisKindError("no tag refers to most of its bytes")
        patches = walk.patches + lost
        notes = [*walk.notes, *(Note(p.offset, p.size, walk.name, "unreferenced", UNKNOWN) for p in lost)]
        return Found(patches, notes)


def unreferenced(source: ByteSource, kept: Extents, padding: int = 0, *gone: Extents) -> Iterator[Patch]:
    """Yield patches that zero all bytes of the file that are not kept and not zero already.

    kept: the ranges that stay. gone: ranges of removed bytes. Gaps of up to `padding` bytes without a decimal
    number stay, too, and so does filler (bytes without information) if gone is given. Neither stays in or
    beside removed bytes.
    """
    left = MAX_ZEROED_BYTES
    for start, end in kept.gaps(source.size):
        beside = any(each.hits(max(0, start - 1), end + 1) for each in gone)
        if end - start <= padding and not beside and _NUMBER.search(source.read(start, end - start)) is None:
            continue
        if end - start <= left:
            left -= end - start
            if gone and not beside and range_says_nothing(source, start, end):
                continue
            yield from zeros(source, start, end)
        else:
            yield Patch(start, zeros=end - start)

"""RAF files of Fujifilm: a header, a JPEG, lists of numbers about the sensor, and the sensor's pixels.

The format is not published; the layout is from the documentation of dcraw and ExifTool. Newer cameras write
the pixels in a TIFF structure, older cameras write only the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import ByteSource, SliceSource, zeros
from policyfs.redact.exif.rules import numbers
from policyfs.redact.raw.tiff import unreferenced
from policyfs.redact.raw.trailers import end_without_trailers

MAX_RECORDS: Final = 4096

_MAGIC: Final = b"FUJIFILMCCD-RAW "
_HEADER_BYTES: Final = 0x94
_POINTERS_END: Final = 0x5C
_OF_THE_CAMERA: Final = ((0x14, 0x40), (0x1C, 0x40))
"""Header fields: number and model of the camera, version of the program."""
_WITHOUT_NAME: Final = ((0x6C, 0x78), (0x84, _HEADER_BYTES))
"""Header fields that have no known name."""
_TABLES: Final = ((0x5C, 0x64), (0x78, 0x80))
"""Offsets of two header fields: where a directory is, and where the pixels are."""
_KNOWN: Final = frozenset(
    numbers("100 110 111 115 121 130 131 2000 2100 2200 2300 2301 2302 2310 2311 2400 2ff0 9200 9650 c000")
)
"""Records of sizes, layouts of the sensor, white balance and exposure (ExifTool's RAF)."""


def locate_raf(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a RAF file; return the changes that hide it.

    Raises NotThisKindError, TooMuchError.
    """
    head = source.read(0, _HEADER_BYTES)
    if not head.startswith(_MAGIC) or len(head) < _HEADER_BYTES:
        raise NotThisKindError("it does not start like a RAF")
    return _Raf(source, inner, head).locate()


@dataclass(slots=True)
class _Raf:
    source: ByteSource
    inner: Inner
    head: bytes
    kept: Extents = field(default_factory=Extents)
    found: Found = field(default_factory=Found)

    def locate(self) -> Found:
        picture = self._long(0x54)
        if picture < _POINTERS_END:  # the picture would overlap the fields with its own offset
            raise NotThisKindError("its parts overlap, or lie behind its end")
        end = min(_HEADER_BYTES, picture)
        self._keep(0, 0x40)
        self._keep(0x54, end)
        self._header(end)
        self._file("image/jpeg", picture, self._long(0x58))
        for directory, pixels in _TABLES:
            if pixels + 8 <= end:
                self._directory(self._long(directory), self._long(directory + 4))
                self._pixels(self._long(pixels), self._long(pixels + 4))
        lost = list(unreferenced(self.source, self.kept))
        self.found.patches += lost
        self.found.notes += [Note(p.offset, p.size, "RAF", "unreferenced", UNKNOWN) for p in lost]
        return self.found

    def _header(self, end: int) -> None:
        camera = Tells.DEVICE
        for start, stop in _OF_THE_CAMERA:
            camera |= self._told(start, stop)
        if self.inner.hide & camera:
            self._zero(*_OF_THE_CAMERA[0], "header", camera)
        for start, stop in _WITHOUT_NAME:
            if start < end and (told := self._told(start, min(stop, end))):
                self._zero(start, min(stop, end), "header", told)

    def _long(self, at: int) -> int:
        return int.from_bytes(self.head[at : at + 4])

    def _keep(self, start: int, end: int) -> None:
        """Record that bytes stay. Raises NotThisKindError if some are recorded, or behind the file's end."""
        if end > self.source.size or self.kept.hits(start, end):
            raise NotThisKindError("its parts overlap, or lie behind its end")
        self.kept.add(start, end)

    def _told(self, start: int, end: int) -> Tells:
        """Return the categories of the data among numbers in [start, end). Raises TooMuchError."""
        return told_in_range(self.source, start, end, self.inner.hide, self.inner.budget)

    def _zero(self, start: int, end: int, tag: str, tells: Tells) -> None:
        patches: list[Patch] = list(zeros(self.source, start, end))
        if patches:
            self.found.patches += patches
            self.found.notes.append(Note(start, end - start, "RAF", tag, tells))

    def _file(self, kind: str, start: int, size: int) -> None:
        """Clean an embedded file in its place. Raises NotThisKindError if the file is of another kind."""
        end = min(start + size, self.source.size)
        self._keep(start, end)
        found = self.inner.file(kind, SliceSource(self.source, start, end - start))
        if found is None:
            raise NotThisKindError("a picture in it cannot be read")
        self.found.add(found, start)

    def _directory(self, start: int, size: int) -> None:
        """Clean a list of records: a tag and a length of two bytes each, then a value."""
        if not start:
            return
        count, at = int.from_bytes(self.source.read(start, 4)), start + 4
        end = min(start + size, self.source.size)
        if count > MAX_RECORDS or at > end:
            raise NotThisKindError("its directory is broken")
        self.inner.budget.part(count)
        for _ in range(count):
            record = self.source.read(at, 4)
            behind = at + 4 + int.from_bytes(record[2:])
            if behind > end:
                raise NotThisKindError("its directory is broken")
            tag = int.from_bytes(record[:2])
            tells = self._told(at + 4, behind) if tag in _KNOWN else UNKNOWN
            if tells:
                self._zero(at + 4, behind, f"directory:0x{tag:04x}", tells)
            at = behind
        self._keep(start, at)

    def _pixels(self, start: int, size: int) -> None:
        if not start:
            return
        size = size or end_without_trailers(self.source) - start
        if self.source.read(start, 4) in (b"II*\0", b"MM\0*"):
            self._file("image/tiff", start, size)
        else:
            self._keep(start, min(start + size, self.source.size))

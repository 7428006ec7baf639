"""Canon's raw photos in boxes (CR3): TIFF blocks, previews, and tracks of raw pixels and metadata.

A ``uuid`` box in ``moov`` holds the EXIF as four TIFF structures: CMT1 (its first directory), CMT2 (the EXIF
directory), CMT3 (Canon's maker notes), CMT4 (GPS). Two ``uuid`` boxes at the top of the file hold XMP and a
preview. One track is a JPEG as large as the picture, other tracks are raw pixels, and one track (CTMD)
repeats the metadata. Canon publishes no description. This module follows the layout on which ExifTool and
LibRaw agree.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from policyfs.redact.bitstreams.frame_table import form_of, look, table_of
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Found, Inner, Note, NotThisKindError, shifted
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import ByteSource, MemorySource, difference, zeros
from policyfs.redact.exif import tags
from policyfs.redact.exif.containers import MAX_BLOCK_BYTES, clean_xmp_block
from policyfs.redact.exif.exif import clean_tiff
from policyfs.redact.exif.makernote_tags import NOTE_TABLES
from policyfs.redact.exif.rules import Rule, whole_tells
from policyfs.redact.exif.tags import GPS, IMAGE, TagTable
from policyfs.redact.isobmff.box_file import BoxFile, movie_index
from policyfs.redact.isobmff.boxes import FREE, UUID, Box, Boxes, freed, read_boxes
from policyfs.redact.isobmff.tracks import Track

BRAND: Final = b"crx "
CANON_UUID: Final = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
PREVIEW_UUID: Final = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_NAME: Final = "CR3"
_TABLE_BYTES: Final = 4096
_HEADER_BYTES: Final = 64
_JPEG: Final = b"\xff\xd8\xff"
_COMPRESSOR: Final = re.compile(rb"Canon[A-Z0-9]{3}_\d{3}/\d\d\.\d\d\.\d\d/\d\d\.\d\d\.\d\d\0*")

_WHOLE: Final = {tag: Rule(whole_tells(rule)) for tag, rule in NOTE_TABLES["Canon"].items()}
_MAKER: Final = TagTable("Canon", MappingProxyType({IMAGE: MappingProxyType(_WHOLE)}))
_GPS: Final = TagTable("GPS", MappingProxyType({IMAGE: tags.EXIF_TABLE.rules[GPS]}))
_TIFFS: Final = MappingProxyType(
    {b"CMT1": tags.EXIF_TABLE, b"CMT2": tags.EXIF_TABLE, b"CMT3": _MAKER, b"CMT4": _GPS}
)
_RECORD_BYTES: Final = 12
_NO_TAGS: Final = bytes.fromhex("4d4d002a00000008000000000000")
"""A TIFF without tags, for one that is not understood. (No tag is known in all four of a file.)"""
_TABLES: Final = frozenset({b"CCTP", b"CTBO"})


def locate_cr3(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a CR3 file; return the changes that hide it.

    Raises NotThisKindError, TooMuchError.
    """
    return _Cr3File(source, inner).locate()


class _Cr3File(BoxFile):
    name = _NAME
    ftyp_bytes = 264
    brand = BRAND
    _index: Box

    def walk(self, boxes: Boxes, end: int) -> None:
        index = movie_index(boxes)
        if index is None:
            raise NotThisKindError("its index is missing, too long or cut off")
        self._index = index
        super().walk(boxes, end)

    def box(self, box: Box) -> bool:
        if box == self._index:
            self._movie(box)
            return True
        if box.cut:
            return False
        if box.extended == XMP_UUID:
            return self.block(box, clean_xmp_block)
        return box.extended == PREVIEW_UUID and self._preview(box)

    def _preview(self, box: Box) -> bool:
        inside = read_boxes(self.source, min(box.body + 8, box.end), box.end, self.inner.budget)
        first = next(iter(inside), None)
        if first is None or first.kind != b"PRVW" or first.cut or not self.block(first, _cleaner(first)):
            return False
        self.ground.area(first.end, box.end)
        return True

    def _movie(self, box: Box) -> None:
        data = bytearray(self.source.read(box.start, box.size))
        canon = [
            child
            for child in read_boxes(
                MemorySource(bytes(data)), box.body - box.start, len(data), self.inner.budget
            )
            if child.extended == CANON_UUID and not child.cut
        ]
        for child in canon:
            at = box.start
            self._canon(child._replace(start=at + child.start, body=at + child.body, end=at + child.end))
            # The walk over the other boxes then sees this box as free space.
            data[child.start : child.end] = freed(bytes(data[child.start : child.end]))
        self.movie(box, bytes(data), self._pictures, self._without_records)

    def _without_records(self, track: Track) -> Found | None:
        """Return the changes that make each sample of CTMD one record without a type, which readers skip;
        None for another track, and for samples that are too short or too long.
        """
        if track.entries.formats != (b"CTMD",):
            return None
        emptied, samples = Found(), track.samples()
        for at, size in samples.places(range(len(samples))):
            self.inner.budget.part()
            if not _RECORD_BYTES <= size <= MAX_BLOCK_BYTES or at + size > self.source.size:
                return None
            self.inner.budget.search(size)
            patches = list(
                difference(at, self.source.read(at, size), size.to_bytes(4, "little").ljust(size, b"\0"))
            )
            emptied.patches += patches
            if patches:
                emptied.notes.append(Note(at, size, _NAME, f"track {track.number}", UNKNOWN))
        return emptied

    def _pictures(self, track: Track) -> Found:
        """Return the changes to a track: a JPEG is cleaned as in a film, a broken one becomes zeros."""
        inside, form = Found(), form_of(None)
        samples = track.samples()
        for at, size in samples.places(range(len(samples))):
            self.inner.budget.part()
            end = min(at + size, self.source.size)
            table = table_of(array("Q", (at,)), array("Q", (end,)), array("H", (0,)), (form,))
            try:
                inside.add(look(table, self.source, self.inner))
            except NotThisKindError:
                note = Note(at, size, _NAME, "preview", UNKNOWN, broken=True)
                inside.add(Found(list(zeros(self.source, at, end)), [note]))
        return inside

    def _canon(self, canon: Box) -> None:
        inside = read_boxes(self.source, canon.body, canon.end, self.inner.budget)
        for box in inside:
            if box.cut or box.kind in (UUID, FREE) or not self.block(box, _cleaner(box)):
                self.free(box)
        self.ground.rest(inside.rest, canon.end)


def _cleaner(box: Box) -> Callable[[bytes, Inner], Cleaned | None]:
    """Return the cleaner of one of Canon's boxes. The cleaner returns None for unknown data."""
    kind = box.kind

    def clean(data: bytes, inner: Inner) -> Cleaned | None:
        if kind == b"CNCV":
            return Cleaned(data) if _COMPRESSOR.fullmatch(data) is not None else None
        if kind in _TABLES:
            held = told_in_kept(data, inner.hide & Tells.LOCATION, inner.budget, numbers=True)
            return Cleaned(data) if len(data) <= _TABLE_BYTES and not held else None
        note = Note(0, len(data), _NAME, kind.decode("latin-1"), UNKNOWN, broken=True)
        if kind in _TIFFS:
            empty = _NO_TAGS if len(data) >= len(_NO_TAGS) else b""
            return clean_tiff(data, inner, _TIFFS[kind]) or Cleaned(empty.ljust(len(data), b"\0"), (note,))
        if kind in (b"THMB", b"PRVW"):
            return _jpeg(data, inner) or Cleaned(bytes(len(data)), (note,))
        return None

    return clean


def _jpeg(data: bytes, inner: Inner) -> Cleaned | None:
    at = data.find(_JPEG, 0, _HEADER_BYTES)
    if at < 0 or told_in_kept(data[:at], inner.hide & Tells.LOCATION, inner.budget):
        return None
    cleaned = inner.jpeg(data[at:])
    return None if cleaned is None else Cleaned(data[:at] + cleaned.data, shifted(cleaned.notes, at))

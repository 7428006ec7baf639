"""Canon's raw photos in boxes (CR3): TIFF blocks, previews, and tracks of raw pixels and metadata.

A ``uuid`` box in ``moov`` holds the EXIF as four TIFF structures: CMT1 (its first directory), CMT2
(the EXIF directory), CMT3 (Canon's maker notes), CMT4 (GPS). Two more at the top hold XMP and a
preview. One track is a JPEG as large as the picture, others are raw pixels, one (CTMD) repeats the
metadata. Canon publishes no description; this is the common ground of readers of such files
(ExifTool, LibRaw).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Found, Inner, Note, NotThisKindError, shifted
from policyfs.redact.core.kinds import Part
from policyfs.redact.core.patches import ByteSource, MemorySource, SliceSource, difference, zeros
from policyfs.redact.exif import tags
from policyfs.redact.exif.containers import MAX_BLOCK_BYTES, clean_xmp_block, cleaned_at
from policyfs.redact.exif.exif import clean_tiff
from policyfs.redact.exif.makernote_tags import NOTE_TABLES
from policyfs.redact.exif.raw_tags import whole_tells
from policyfs.redact.exif.tags import Role, TagTable
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.boxes import FREE, UUID, Box, freed, read_boxes
from policyfs.redact.isobmff.item_data import Ground
from policyfs.redact.isobmff.moov import Track, clean_movie
from policyfs.redact.isobmff.mp4 import MAX_MOVIE_BYTES
from policyfs.redact.isobmff.picture_tracks import claim_tracks

BRAND: Final = b"crx "
CANON_UUID: Final = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
PREVIEW_UUID: Final = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_NAME: Final = "CR3"
_FTYP_BYTES: Final = 264
_TABLE_BYTES: Final = 4096
_HEADER_BYTES: Final = 64
_JPEG: Final = b"\xff\xd8\xff"
_COMPRESSOR: Final = re.compile(rb"Canon[A-Z0-9]{3}_\d{3}/\d\d\.\d\d\.\d\d/\d\d\.\d\d\.\d\d\0*")

_MAKER: Final = TagTable(
    "Canon",
    MappingProxyType(
        {Role.IMAGE: MappingProxyType({tag: whole_tells(rule) for tag, rule in NOTE_TABLES["Canon"].items()})}
    ),
)
_GPS: Final = TagTable("GPS", MappingProxyType({Role.IMAGE: tags.EXIF_TABLE.known[Role.GPS]}))
_TIFFS: Final = MappingProxyType(
    {b"CMT1": tags.EXIF_TABLE, b"CMT2": tags.EXIF_TABLE, b"CMT3": _MAKER, b"CMT4": _GPS}
)
_RECORD_BYTES: Final = 12
_NO_TAGS: Final = bytes.fromhex("4d4d002a00000008000000000000")
"""A TIFF structure of one directory without tags: no tag is known in all of these tables."""
_TABLES: Final = frozenset({b"CCTP", b"CTBO"})

PARTS: Final[tuple[Part, ...]] = (
    Part("CR3", "CMT1, CMT2", "EXIF", UNKNOWN, "cleaned as in a JPEG"),
    Part("CR3", "CMT3", "Canon's maker notes", UNKNOWN, "by tag; colour and sensor data stay"),
    Part("CR3", "CMT4", "GPS", Tells.LOCATION | Tells.TIME, "a TIFF structure that tells nothing"),
    Part("CR3", "THMB, PRVW, track of a JPEG", "previews", NOTHING, "cleaned as JPEGs"),
    Part("CR3", "tracks of raw pixels; CNCV, CCTP, CTBO", "the picture", NOTHING, "stay"),
    Part("CR3", "CTMD track", "time, exposure, EXIF and maker notes again", UNKNOWN, "empty records"),
    Part("CR3", "uuid box with XMP", "XMP", UNKNOWN, "cleaned as in a JPEG"),
    Part("CR3", "times of the movie and its tracks", "when it was taken", Tells.TIME, "zeros"),
    Part("CR3", "any other box, what lies between", "anything", UNKNOWN, "free space that holds zeros"),
)


def locate_cr3(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a CR3 file, with its replacement.

    Raises NotThisKindError, TooMuchError.
    """
    return _Locator(source, inner).locate()


@dataclass(slots=True)
class _Locator:
    """One run over one file."""

    source: ByteSource
    inner: Inner
    found: Found = field(default_factory=Found)
    ground: Ground = field(init=False)

    def __post_init__(self) -> None:
        self.ground = Ground(self.source, self.inner.budget)

    def locate(self) -> Found:
        top = read_boxes(self.source, 0, self.source.size, self.inner.budget, to_end=True)
        first = next(iter(top), None)
        if first is None or first.kind != b"ftyp" or self.source.read(first.body, 4) != BRAND:
            raise NotThisKindError("it does not start like a CR3 file")
        movie = top.first(b"moov")
        if movie is None or movie.cut or movie.size > MAX_MOVIE_BYTES or first.size > _FTYP_BYTES:
            raise NotThisKindError("its index is missing, too long or cut off")
        for box in top:
            small = box.size <= MAX_BLOCK_BYTES and not box.cut
            if box == movie:
                self._movie(box)
            elif box.kind == b"mdat":
                self.ground.area(box.body, box.end)
            elif box.extended == XMP_UUID and small:
                data = self.source.read(box.body, box.end - box.body)
                self.found.add(cleaned_at(box.body, data, clean_xmp_block(data, self.inner)))
            elif box.extended == PREVIEW_UUID and small:
                self._preview(box)
            elif box.start:
                self.ground.free(box, _NAME)
        self.ground.rest(top.rest, self.source.size)
        if not any(claim.media for claim in self.ground.claims):
            raise NotThisKindError("there is no picture in it")
        self.found.add(self.ground.settle(_NAME, self.found.patches))
        return self.found

    def _preview(self, box: Box) -> None:
        """Clean a preview: a header, and a box of one JPEG."""
        inside = read_boxes(self.source, min(box.body + 8, box.end), box.end, self.inner.budget)
        first = next(iter(inside), None)
        if first is None or first.kind != b"PRVW" or first.cut:
            self.ground.free(box, _NAME)
            return
        self._block(first, self.source.read(first.body, first.end - first.body))
        self.ground.area(first.end, box.end)

    def _movie(self, box: Box) -> None:
        data = bytearray(self.source.read(box.start, box.size))
        header = box.body - box.start
        canon = [
            child
            for child in read_boxes(MemorySource(bytes(data)), header, len(data), self.inner.budget)
            if child.extended == CANON_UUID and not child.cut
        ]
        for child in canon:
            at = box.start
            self._canon(child._replace(start=at + child.start, body=at + child.body, end=at + child.end))
            # For the walk over the rest it is free space.
            data[child.start : child.end] = freed(bytes(data[child.start : child.end]))
        block = Block(bytes(data), box.start, self.inner)
        movie = clean_movie(block, box._replace(start=0, body=header, end=box.size))
        self.found.add(block.found)
        claim_tracks(
            self.source, self.inner, movie, self.ground, _NAME, self._pictures, self._without_records
        )

    def _without_records(self, track: Track) -> Found | None:
        """Turn samples of CTMD into one record of no type each, which readers skip."""
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
        """Keep raw pixels; clean JPEGs, each by itself."""
        inside = Found()
        samples = track.samples()
        for at, size in samples.places(range(len(samples))):
            self.inner.budget.part()
            if self.source.read(at, 3) == _JPEG:
                found = self.inner.file("image/jpeg", SliceSource(self.source, at, size))
                if found is None:
                    patches = list(zeros(self.source, at, min(at + size, self.source.size)))
                    found = Found(patches, [Note(at, size, _NAME, "preview", UNKNOWN, broken=True)])
                    inside.add(found)
                else:
                    inside.add(found, at)
        return inside

    def _canon(self, canon: Box) -> None:
        """Clean the boxes inside Canon's own box."""
        inside = read_boxes(self.source, canon.body, canon.end, self.inner.budget)
        for box in inside:
            if box.cut or box.end - box.body > MAX_BLOCK_BYTES or not self._known(box):
                self.ground.free(box, _NAME)
        self.ground.rest(inside.rest, canon.end)

    def _known(self, box: Box) -> bool:
        if box.kind in (UUID, FREE):
            return False
        data = self.source.read(box.body, box.end - box.body)
        if box.kind == b"CNCV":
            return _COMPRESSOR.fullmatch(data) is not None
        if box.kind in _TABLES:
            return len(data) <= _TABLE_BYTES
        return self._block(box, data)

    def _block(self, box: Box, data: bytes) -> bool:
        """Clean a TIFF structure or a preview; return False for anything else."""
        if box.kind in _TIFFS:
            cleaned = clean_tiff(data, self.inner, _TIFFS[box.kind])
            if cleaned is None:
                note = Note(0, len(data), _NAME, box.kind.decode(), UNKNOWN, broken=True)
                empty = _NO_TAGS if len(data) >= len(_NO_TAGS) else b""
                cleaned = Cleaned(empty.ljust(len(data), b"\0"), (note,))
        elif box.kind in (b"THMB", b"PRVW"):
            cleaned = self._jpeg(data, box)
        else:
            return False
        self.found.add(cleaned_at(box.body, data, cleaned))
        return True

    def _jpeg(self, data: bytes, box: Box) -> Cleaned:
        """Clean numbers with a JPEG behind them; without one, return zeros."""
        at = data.find(_JPEG, 0, _HEADER_BYTES)
        cleaned = self.inner.jpeg(data[at:]) if at >= 0 else None
        if cleaned is None:
            note = Note(0, len(data), _NAME, box.kind.decode(), UNKNOWN, broken=True)
            return Cleaned(bytes(len(data)), (note,))
        return Cleaned(data[:at] + cleaned.data, shifted(cleaned.notes, at))

"""Picture files made of boxes: the walk that HEIF, CR3, JPEG 2000 and JPEG XL share.

Each format is a subclass, and cleans the boxes that it knows. Any other box becomes free space. In media
data, only the pieces that the format claims stay: pieces of its pictures and of cleaned metadata
(item_data.py). Bytes behind the last box become zeros. Filler (core/filler.py) may stay.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, Final

from policyfs.redact.core.cleaners import Cleaned, Found, Inner, Note, NotThisKindError, shifted
from policyfs.redact.core.patches import ByteSource, difference, zeros
from policyfs.redact.isobmff.box_edits import Block
from policyfs.redact.isobmff.boxes import FREE, Box, Boxes, kept_brands, read_boxes
from policyfs.redact.isobmff.item_data import Gathered, Ground, Span
from policyfs.redact.isobmff.moov import MAX_MOVIE_BYTES, clean_movie
from policyfs.redact.isobmff.samples import sample_tells
from policyfs.redact.isobmff.tracks import Track

MAX_PAYLOAD_BYTES: Final = 1 << 22
"""Maximum size of a box of metadata that is read. A larger box becomes free space."""


class BoxFile(abc.ABC):
    """The search for the parts to hide in one file of boxes: its state and its steps. Each format is a
    subclass.
    """

    name: ClassVar[str]
    """The format's name, in records of removed parts and in errors."""
    start: ClassVar[int] = 0
    """Offset of the first box, behind the file's signature."""
    ftyp_bytes: ClassVar[int]
    """Maximum size of the file type box (``ftyp``)."""
    brand: ClassVar[bytes] = b""
    """The major brand that the file must have; empty if the format allows any brand."""
    media: ClassVar[frozenset[bytes]] = frozenset({b"mdat"})
    """Types of boxes with media data, of which only claimed pieces stay."""
    spare: ClassVar[bytes] = FREE
    """Type of a removed box (Ground.spare)."""
    uuid_stays: ClassVar[bool] = False
    """True if a removed ``uuid`` box keeps its type (Ground.uuid_stays)."""

    def __init__(self, source: ByteSource, inner: Inner) -> None:
        self.source: Final = source
        self.inner: Final = inner
        self.found: Final = Found()
        self.ground: Final = Ground(source, inner.budget, spare=self.spare, uuid_stays=self.uuid_stays)

    def locate(self) -> Found:
        """Locate everything to hide in the file. Raises NotThisKindError, TooMuchError."""
        top = read_boxes(self.source, self.start, self.source.size, self.inner.budget, to_end=True)
        first = next(iter(top), None)
        if first is None or first.kind != b"ftyp" or first.cut or first.size > self.ftyp_bytes:
            raise NotThisKindError(f"it does not start like a {self.name} file")
        if not self.source.read(first.body, 4).startswith(self.brand):
            raise NotThisKindError(f"it does not start like a {self.name} file")
        kept = first.body + kept_brands(self.source, first, self.ftyp_bytes)
        if told := list(zeros(self.source, kept, first.end)):
            self.found.add(Found(told, [Note(kept, first.end - kept, self.name, "brands")]))
        self.walk(Boxes(top.boxes[1:], top.rest), self.source.size)
        if not self.has_picture():
            raise NotThisKindError("there is no picture in it")
        self.found.add(self.ground.settle(self.name, self.found.patches))
        return self.found

    def walk(self, boxes: Boxes, end: int) -> None:
        """Clean the boxes of one level, and the bytes between the last box and `end`."""
        for box in boxes:
            if box.kind in self.media:
                self.ground.area(box.body, box.end)
            elif not self.box(box):
                self.free(box)
        self.ground.rest(boxes.rest, end)

    @abc.abstractmethod
    def box(self, box: Box) -> bool:
        """Clean a box that the format knows. Return False if the box must become free space."""

    def free(self, box: Box) -> None:
        """Turn a box into free space: a box of the same size with zeros."""
        self.ground.free(box, self.name)

    def has_picture(self) -> bool:
        """Return True if the file holds a picture."""
        return any(claim.media for claim in self.ground.claims)

    def block(self, box: Box, clean: Callable[[bytes, Inner], Cleaned | None]) -> bool:
        """Clean a box's payload in memory. Return False if the payload is too long, or if the cleaner returns
        None.
        """
        size = box.end - box.body
        if size > MAX_PAYLOAD_BYTES:
            return False
        data = self.source.read(box.body, size)
        cleaned = clean(data, self.inner)
        if cleaned is None:
            return False
        patches = list(difference(box.body, data, cleaned.data))
        if patches:
            self.found.add(Found(patches, list(shifted(cleaned.notes, box.body))))
        return True

    def movie(
        self,
        box: Box,
        data: bytes,
        pictures: Callable[[Track], Found],
        emptied: Callable[[Track], Found | None] = lambda _: None,
    ) -> None:
        """Clean a ``moov`` box, and decide for each track if its samples stay.

        If a track has samples with data to hide, all its samples are removed. data: the bytes of the box.
        pictures: returns the changes within the samples of a kept track, in offsets of the file. emptied:
        returns the changes that empty the samples of a removed track. If emptied returns None, the samples
        become zeros.

        Raises TooMuchError; NotThisKindError if the tables of a kept track contradict each other.
        """
        block = Block(data, box.start, self.inner)
        movie = clean_movie(block, box._replace(start=0, body=box.body - box.start, end=box.size))
        self.found.add(block.found)
        kept, changed = list[Span](), False
        for track in movie.tracks:
            tells = sample_tells(track, self.source)
            goes = bool(tells & self.inner.hide)
            try:
                extents = track.samples().extents(self.source.size, track.entries.sounds)
            except NotThisKindError:
                if goes:
                    continue  # nothing to do: the samples are not claimed, so they become zeros
                raise
            self.inner.budget.part(len(extents.starts))
            samples = Gathered(self.source, map(Span, extents.starts, extents.ends))
            empty = emptied(track) if goes else None
            if empty is not None:
                self.ground.placed(samples, empty, media=False)
            elif goes:
                self.ground.blank(samples, Note(0, 0, self.name, f"track {track.number}", tells))
            else:
                found = pictures(track)
                changed = changed or bool(found.patches)
                kept += samples.spans
                self.ground.placed(samples, found, media=True)
        # A change in one frame could be a part of the framing of another: the result would have other units.
        if changed and any(two.start < one.end for one, two in pairwise(sorted(kept))):
            raise NotThisKindError("some of its frames overlap other frames")


def movie_index(boxes: Boxes) -> Box | None:
    """Return the file's ``moov`` box. Return None if the box is missing, cut off, or too long to be read."""
    box = boxes.first(b"moov")
    return None if box is None or box.cut or box.size > MAX_MOVIE_BYTES else box

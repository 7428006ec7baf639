"""Claims on the data areas of a picture file: records of pieces that the file's pictures and metadata need.
Only claimed pieces and filler (core/filler.py) stay.

A picture file refers to the data of its items by ranges. One item may have several ranges, and two items may
have the same range. `Gathered` reads the ranges of one item as one block, and maps patches of the block back
to the file. `Ground` records the claimed ranges. It neutralises the rest of the areas that hold data (mdat,
idat, free space, trailers).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from policyfs.domain import Patch
from policyfs.redact.core.categories import UNKNOWN
from policyfs.redact.core.cleaners import Budget, Found, Note, NotThisKindError
from policyfs.redact.core.filler import range_says_nothing
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.patches import ByteSource, difference, zeros
from policyfs.redact.isobmff.boxes import FREE, HEADER_BYTES, UUID, Box

BLIND_BYTES: Final = 1 << 25
"""Maximum size of a range that is read to find out if it is zero. A longer one is zeroed unread."""


class Span(NamedTuple):
    """The bytes [start, end) of a file."""

    start: int
    end: int


class Gathered:
    """A ByteSource over pieces of another source, in the given order.

    cut: True if a piece was shortened or dropped.
    """

    __slots__ = ("_at", "_source", "cut", "size", "spans")

    def __init__(self, source: ByteSource, spans: Iterable[Span]) -> None:
        """Set the source and the pieces of it. Pieces are cut at the ends of the source, and empty pieces are
        dropped.
        """
        said = tuple(spans)
        there = (Span(max(0, s.start), min(s.end, source.size)) for s in said)
        self.spans: Final = tuple(span for span in there if span.start < span.end)
        self.cut: Final = self.spans != said
        self._source = source
        self._at = [0, *accumulate(span.end - span.start for span in self.spans)]
        self.size: Final = self._at[-1]

    def read(self, offset: int, size: int, /) -> bytes:
        """Return up to *size* bytes of the joined pieces, from *offset* on."""
        pieces = self.pieces(offset, offset + size)
        return b"".join(self._source.read(s.start, s.end - s.start) for s in pieces)

    def place(self, offset: int) -> int:
        """Return the offset in the source of one byte of the joined pieces; 0 if the pieces have no such
        byte.
        """
        return next((span.start for span in self.pieces(offset, offset + 1)), 0)

    def patches(self, patches: Iterable[Patch]) -> Iterator[Patch]:
        """Convert patches of the joined pieces to patches of the source."""
        for patch in patches:
            at = patch.offset
            for span in self.pieces(patch.offset, patch.end):
                size = span.end - span.start
                if patch.zeros:
                    yield Patch(span.start, zeros=size)
                else:
                    yield Patch(span.start, patch.part(at, at + size))
                at += size

    def pieces(self, start: int, end: int) -> Iterator[Span]:
        """Yield the ranges of the source that hold the bytes [start, end) of the joined pieces."""
        index = max(0, bisect_right(self._at, start) - 1)
        while index < len(self.spans) and start < min(end, self.size):
            base = self.spans[index].start - self._at[index]
            stop = min(end, self._at[index + 1])
            yield Span(base + start, base + stop)
            start = stop
            index += 1


def clear(source: ByteSource, start: int, end: int, budget: Budget) -> Iterator[Patch]:
    """Yield patches that make [start, end) zero; no patch if a read shows that all these bytes are zero
    already.
    """
    if end - start > BLIND_BYTES:
        yield Patch(start, zeros=end - start)
    elif start < end:
        budget.search(end - start)
        yield from zeros(source, start, end)


@dataclass(frozen=True, slots=True)
class Claim:
    """A record that some bytes of a file belong to a picture or to metadata. The bytes stay, with the patches
    applied.

    media: True for media, False for metadata. If two different claims share bytes of metadata, the bytes of
    both become zeros. blank: True if the claimed bytes do not stay, but must be removed. Then the notes
    (records of removed parts) count only if some byte is not zero yet. walked: True if the structure of the
    media was read and is sound.
    """

    spans: tuple[Span, ...]
    patches: tuple[Patch, ...]
    media: bool
    notes: tuple[Note, ...] = ()
    blank: bool = False
    walked: bool = False


@dataclass(slots=True)
class Ground:
    """The areas of a file that hold data, and the claims on pieces of them. Other pieces become zeros, except
    filler.

    noted: areas whose removal is already recorded. rests: bytes behind the last box of a container.
    heads: ranges in which a reader expects a box header.
    """

    source: ByteSource
    budget: Budget
    areas: list[Span] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    noted: list[Span] = field(default_factory=list)
    rests: list[Span] = field(default_factory=list)
    heads: list[Span] = field(default_factory=list)
    found: Found = field(default_factory=Found)
    spare: bytes = FREE
    """Type of a removed box. FFmpeg takes JPEG XL and JPEG 2000 with ``free`` for a movie."""
    uuid_stays: bool = False
    """True if a removed ``uuid`` box keeps its type, and gets zeros for its extended type (JPEG 2000)."""

    def area(self, start: int, end: int, *, noted: bool = False) -> None:
        """Add an area of data. Those of its bytes that no claim covers become zeros, except filler.

        noted: True if the removal of the area is already recorded.
        """
        if start < end:
            self.areas.append(Span(start, end))
            if noted:
                self.noted.append(Span(start, end))

    def rest(self, start: int, end: int, *, framed: bool = True) -> None:
        """Add the bytes behind the last box as an area of data.

        No claim may cover the bytes in which a reader expects the next box header. Changes around the claimed
        bytes could make these bytes a header. If bytes become zeros, they get the header of a removed box:
        some readers refuse a box of size 0. framed: False where the number of boxes counts.
        """
        self.area(start, end)
        self.heads.append(Span(start, min(start + HEADER_BYTES, end)))
        if framed and end - start >= HEADER_BYTES:
            self.rests.append(Span(start, end))

    def free(self, box: Box, container: str, tag: str = "", *, broken: bool = False) -> None:
        """Turn a box into free space. Its body becomes an area of data, so items may claim pieces of the
        body.

        container: the name of the format, for the record of the removal. Zeros up to the end of the file look
        like a box, but are treated like bytes behind the last box.
        """
        if box.to_end and not any(box.kind):
            self.rest(box.start, box.end)
            return
        empty = box.kind == UUID and self.uuid_stays
        was_empty = box.kind in (FREE, b"skip") or (empty and not any(box.extended))
        self.area(box.body - len(box.extended), box.end, noted=not was_empty)
        if not was_empty:
            self.found.patches += difference(box.start + 4, box.kind, box.kind if empty else self.spare)
            name = box.kind.decode("latin-1") if box.kind.isascii() else box.kind.hex()
            note = Note(box.start, box.size, container, tag or f"box {name}", UNKNOWN, broken)
            self.found.notes.append(note)

    def claim(self, data: Gathered, found: Found, *, media: bool) -> None:
        """Claim pieces that are understood, as media or metadata: they stay, with the changes *found*.
        Offsets in *found* count from the start of the joined pieces.
        """
        patches = tuple(data.patches(found.patches))
        notes = tuple(note._replace(offset=data.place(note.offset)) for note in found.notes)
        self._claim(Claim(data.spans, patches, media, notes, walked=media))

    def placed(self, data: Gathered, found: Found, *, media: bool) -> None:
        """Claim pieces as claim() does, with offsets of the file in *found*."""
        self._claim(Claim(data.spans, tuple(found.patches), media, tuple(found.notes)))

    def blank(self, data: Gathered, note: Note) -> None:
        """Record that pieces must be removed as a whole. The record *note* gets their offset and size."""
        if data.spans:
            whole = note._replace(offset=data.spans[0].start, length=data.size)
            self._claim(Claim(data.spans, (), False, (whole,), True))

    def _claim(self, claim: Claim) -> None:
        if claim.spans:
            self.budget.part(len(claim.spans))
            self.claims.append(claim)

    def settle(self, container: str, structure: Iterable[Patch] = ()) -> Found:
        """Return the changes to the areas of data: claimed pieces get their patches, other bytes become
        zeros. Filler may stay (_is_filler).

        container: the name of the format, for records of removed parts. structure: the changes outside of the
        areas. Raises NotThisKindError in each of these cases: bytes are both picture and metadata; metadata
        or a patch lies outside of the areas; a claim overlaps structure that changes; claims contradict each
        other.
        """
        self._one_reading()
        changed = Extents([*self.heads, *((p.offset, p.end) for p in (*self.found.patches, *structure))])
        if any(changed.hits(*span) for claim in self.claims for span in claim.spans):
            raise NotThisKindError("its pictures overlap its structure")
        areas, doubtful = Extents(self.areas), Extents(self._claimed_twice())
        media = Extents(s for claim in self.claims if claim.media for s in claim.spans)
        found, kept = self.found, list(media)
        told: list[Patch] = []
        gone: list[Claim] = []
        metadata = Extents(span for claim in self.claims if not claim.media for span in claim.spans)
        if any(media.hits(*span) for span in metadata):
            raise NotThisKindError("its pictures and its metadata share bytes")
        if metadata.without(areas):
            raise NotThisKindError("its metadata overlaps its structure")
        for claim in self.claims:
            if claim.blank or (not claim.media and any(doubtful.hits(*span) for span in claim.spans)):
                gone.append(claim)
                continue
            if not claim.media:
                kept += claim.spans
            told += claim.patches
            found.notes += claim.notes
        changed_too = (claim for claim in self.claims if not claim.media and claim.patches)
        spans = (span for claim in (*gone, *changed_too) for span in claim.spans)
        hidden = Extents([*self.noted, *spans])
        gaps = (gap for gap in areas.without(Extents(kept)) if not self._is_filler(*gap, hidden))
        blank = [p for gap in gaps for p in clear(self.source, *gap, self.budget)]
        found.notes += _notes(blank, gone, self.noted, container)
        found.patches += [*self._framed(blank), *self._consistent(told, areas)]
        return found

    def _framed(self, blank: list[Patch]) -> Iterator[Patch]:
        """Yield the patches *blank*, with the header of a removed box for rests that they change."""
        holes = Extents((patch.offset, patch.end) for patch in blank)
        framed = [rest for rest in self.rests if holes.hits(*rest)]
        heads = Extents((start, start + HEADER_BYTES) for start, _ in framed)
        for start, end in holes.without(heads):
            yield Patch(start, zeros=end - start)
        for start, end in framed:
            size = end - start if end - start < 1 << 32 else 0
            old = self.source.read(start, HEADER_BYTES)
            yield from difference(start, old, size.to_bytes(4) + self.spare)

    def _is_filler(self, start: int, end: int, hidden: Extents) -> bool:
        """Return True if an unclaimed gap may stay: filler, neither beside nor among removed bytes."""
        short = end - start <= BLIND_BYTES and not hidden.hits(start - 1, end + 1)
        return short and range_says_nothing(self.source, start, end)

    def _one_reading(self) -> None:
        """Raise NotThisKindError if claims on shared picture bytes need different changes: a reader of the
        other picture may then find data that was not checked.
        """
        told = {(claim.spans, claim.patches) for claim in self.claims if claim.walked}
        starts = sorted(span.start for spans, _ in told for span in spans)
        ends = sorted(span.end for spans, _ in told for span in spans)
        wanted = Counter(patch for _, patches in told for patch in patches)
        for patch, count in wanted.items():
            if bisect_left(starts, patch.end) - bisect_right(ends, patch.offset) != count:
                raise NotThisKindError("two entries of its tables contradict each other")

    def _claimed_twice(self) -> Iterator[Span]:
        told = {(claim.spans, claim.patches, claim.blank) for claim in self.claims if not claim.media}
        spans = sorted(span for those, _, _ in told for span in those)
        end = 0
        for span in spans:
            if span.start < end:
                yield Span(span.start, min(span.end, end))
            end = max(end, span.end)

    def _consistent(self, patches: Iterable[Patch], areas: Extents) -> Iterator[Patch]:
        """Yield each patch once. Raises NotThisKindError if patches overlap, or lie outside of the areas."""
        ordered = sorted(set(patches), key=lambda patch: (patch.offset, patch.size))
        if any(b.offset < a.end for a, b in pairwise(ordered)):
            raise NotThisKindError("two entries of its tables contradict each other")
        if Extents((p.offset, p.end) for p in ordered).without(areas):
            raise NotThisKindError("its pictures overlap its structure")
        yield from ordered


def _notes(
    blank: Sequence[Patch], gone: Iterable[Claim], noted: Sequence[Span], container: str
) -> Iterator[Note]:
    holes = Extents((patch.offset, patch.end) for patch in blank)
    for claim in gone:
        if any(holes.hits(*span) for span in claim.spans):
            start, end = claim.spans[0].start, claim.spans[-1].end
            shared = Note(start, max(0, end - start), container, "shared bytes", UNKNOWN, broken=True)
            yield from claim.notes if claim.blank else (shared,)
    spoken = Extents([*noted, *(span for claim in gone for span in claim.spans)])
    for start, end in holes.without(spoken):
        yield Note(start, end - start, container, "unreferenced")

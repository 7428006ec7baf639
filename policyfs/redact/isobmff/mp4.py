"""Movies in ISO base media files and QuickTime files: MP4, MOV, M4A, M4B, M4V, 3GP.

After redaction every byte is neutral, or belongs to a box in the shape that the standard prescribes, to a
sample of a kept track, or to cleaned metadata. In media data (``mdat``), in padding, in unknown boxes and
behind the last box, only kept samples and filler stay. Other bytes there become zeros, because dash-cams
write positions between the frames.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.bitstreams.digital_video import check_dated
from policyfs.redact.bitstreams.frame_table import FrameTable, look, merged
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, Found, Inner, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.filler import names_a_muxer, range_says_nothing
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, PatchedSource, in_order, is_blank
from policyfs.redact.isobmff.box_edits import Block, TextRoom, name_of
from policyfs.redact.isobmff.box_rules import BoxWalk, clean_children, container, fixed_size, rules, searched
from policyfs.redact.isobmff.boxes import FREE, HEADER_BYTES, Box, Boxes, kept_brands, read_boxes
from policyfs.redact.isobmff.moof import Fragments
from policyfs.redact.isobmff.moov import MAX_MOVIE_BYTES, clean_movie
from policyfs.redact.isobmff.samples import (
    clean_pictures,
    clean_sound,
    clean_telemetry,
    is_text,
    picture_frames,
    sample_tells,
)  # fmt: skip
from policyfs.redact.isobmff.stbl import Extents, Runs, common
from policyfs.redact.isobmff.tracks import Movie, Track
from policyfs.redact.isobmff.udta import FREE_KINDS, clean_meta, clean_user_data, clean_uuid

MAX_BOXES: Final = 150_000
"""Maximum number of boxes at the top of a file, and in all fragments. Many hours of video need so many."""
MAX_HOLES: Final = 100_000
"""Maximum number of zeroed ranges between samples. A day of telemetry has one range for each second."""
MAX_FILLER_HOLES: Final = 256
"""If there are more ranges between samples than this number, all these ranges become zeros, also filler."""
MAX_LINE_BYTES: Final = 256
MAX_META_BYTES: Final = 1 << 22
MAX_CHECKED_BYTES: Final = 1 << 26
"""Maximum number of bytes that are read to find out if ranges are zero already."""


_MEDIA: Final = b"mdat"
_IN_MEMORY: Final = frozenset({b"meta", b"udta", b"uuid"})
_FIRST: Final = frozenset(
    b"ftyp styp moov mdat wide free skip pnot moof sidx udta uuid meta junk PICT pict thum".split(b" ")
)
_MAX_BRANDS_BYTES: Final = 264


def locate_movie(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a movie; return the changes that hide it.

    Raises TooMuchError. Raises NotThisKindError, for example if the movie box is missing, cut off or
    compressed, or if tables contradict each other.
    """
    boxes = read_boxes(source, 0, source.size, Budget(MAX_BOXES, 0), to_end=True)
    if not boxes.boxes or boxes.boxes[0].kind not in _FIRST:
        raise NotThisKindError("it does not start like a movie")
    return _Locator(source, inner, boxes).locate()


@dataclass(slots=True)
class _Locator:
    """The search in one movie. judged: for each track, its runs in fragments, and True if it goes."""

    source: ByteSource
    inner: Inner
    boxes: Boxes
    found: Found = field(default_factory=Found)
    frames: Found = field(default_factory=Found)
    tables: list[FrameTable] = field(default_factory=list)
    kept: Extents = field(default_factory=Extents)
    gone: Extents = field(default_factory=Extents)
    judged: list[tuple[Track, Runs | None, bool]] = field(default_factory=list)
    _gone_starts: list[int] = field(default_factory=list)
    _gone_ends: list[int] = field(default_factory=list)
    read: int = 0
    text: TextRoom = field(default_factory=TextRoom)

    def locate(self) -> Found:
        movie_box = self.boxes.first(b"moov")
        if movie_box is None or movie_box.cut:
            raise NotThisKindError("its index is missing or cut off")
        block, box = self._load(movie_box, MAX_MOVIE_BYTES)
        movie = clean_movie(block, box)
        self.found.add(block.found)
        fragments = Fragments(movie.defaults, self.source.size)
        parts = Budget(MAX_BOXES, 0)
        for moof in self.boxes:
            if moof.kind == b"moof" and not self._is_open(moof):
                block, box = self._load(moof, MAX_MOVIE_BYTES)
                block.parts = parts
                fragments.read(block, box)
                self.found.add(block.found)
        self._tracks(movie, fragments)
        unread = [ends for box in self._sound() if (ends := self._top(box, movie_box)) is not None]
        self._behind(unread)
        self._zero(unread)
        table, within = merged(self.tables), self._is_within()
        # Only then has no change in a frame an effect elsewhere.
        apart = not (within or self._samples_overlap()) and table.lies_in(sorted(unread))
        if self.inner.frames_later and apart:
            self.found.frames = table if table.starts else None
        else:
            self.frames.add(look(table, self.source, self.inner))
        self._in_frames(unread)
        self._again(within=within)
        return self.found

    def _sound(self) -> Iterator[Box]:
        """Yield the boxes with a known end (_is_open), and in any case media data and the movie box."""
        return (box for box in self.boxes if not self._is_open(box))

    def _is_open(self, box: Box) -> bool:
        return (box.cut or box.to_end) and box.kind != _MEDIA and box != self.boxes.first(b"moov")

    def _in_frames(self, unread: list[tuple[int, int]]) -> None:
        """Add the changes within frames. Raises NotThisKindError if they overlap, or are outside of *unread*,
        the ranges that no cleaner has read.
        """
        patches = sorted(set(self.frames.patches), key=lambda patch: patch.offset)
        ranges, end = sorted(unread), 0
        for patch in patches:
            at = bisect_right(ranges, (patch.offset, self.source.size + 1)) - 1
            if at < 0 or patch.end > ranges[at][1] or patch.offset < end:
                raise NotThisKindError("some of its frames overlap other frames or its index")
            end = patch.end
        self.found.patches += patches
        self.found.notes += dict.fromkeys(self.frames.notes)

    def _samples_overlap(self) -> bool:
        samples = sum(self.kept.ends) - sum(self.kept.starts)
        return samples > self.kept.covered(self.source.size)

    def _is_within(self) -> bool:
        """Return True if the patches so far (outside of frames) change bytes of samples."""
        ranges = [(patch.offset, patch.end) for patch in self.found.patches]
        apart = sum(end - start for start, end in common(ranges, self.kept.gaps(self.source.size)))
        return apart < sum(end - start for start, end in ranges)

    def _again(self, *, within: bool) -> None:
        """Decide again from the patched bytes, on removed text tracks, and on all if patches change samples.
        Raises NotThisKindError if a decision differs; TooMuchError.
        """
        within = within or (bool(self.frames.patches) and self._samples_overlap())
        read = [judged for judged in self.judged if within or (judged[2] and is_text(judged[0]))]
        if not read:
            return
        after = PatchedSource(self.source, in_order(self.found.patches, self.source.size))
        for track, runs, goes in read:
            tells = sample_tells(track, after, runs, sorted_out=True)
            changed = not goes and clean_pictures(track, after, self.inner, runs).patches
            if changed or bool(tells & self.inner.hide) != goes:
                raise NotThisKindError("some of its frames overlap other frames or its index")

    def _load(self, box: Box, most: int) -> tuple[Block, Box]:
        """Read a box into a Block; return the Block, and the box with offsets in it. Raises TooMuchError."""
        self.read += box.size
        if self.read > MAX_MOVIE_BYTES or box.size > most:
            raise TooMuchError(f"its {name_of(box.kind)} boxes are too large")
        data = self.source.read(box.start, box.size)
        return Block(data, box.start, self.inner, text=self.text), Box(
            box.kind, 0, box.body - box.start, len(data), box.extended
        )

    def _tracks(self, movie: Movie, fragments: Fragments) -> None:
        size = self.source.size
        for track in movie.tracks:
            for code in () if track.entries.framings else track.entries.formats:
                check_dated(code, self.inner.hide)
            runs = fragments.runs.get(track.number)
            tells = sample_tells(track, self.source, runs, sorted_out=True)
            goes = bool(tells & self.inner.hide)
            try:
                extents = track.samples().extents(size, track.entries.sounds)
            except NotThisKindError:
                if not goes:
                    raise
                extents = Extents()
            self.judged.append((track, runs, goes))
            if runs is not None:
                extents.extend(runs)
            if goes:
                self._note(track, extents, tells)
                self.gone.extend(extents)
                continue
            self.kept.extend(extents)
            self.tables.append(picture_frames(track, size, runs))
            self.frames.add(clean_telemetry(track, self.source, self.inner, runs))
            self.frames.add(clean_sound(track, extents, self.source, self.inner))
        if self.gone.starts:
            together = Extents(self.kept.starts[:], self.kept.ends[:])
            together.extend(self.gone)
            if together.covered(size) < self.kept.covered(size) + self.gone.covered(size):
                raise NotThisKindError("metadata and media lie in the same bytes")

    def _note(self, track: Track, extents: Extents, tells: Tells) -> None:
        formats = " ".join(name_of(kind) for kind in track.entries.formats)
        if extents.starts and self._holds_bytes(list(zip(extents.starts, extents.ends, strict=True))):
            size = sum(extents.ends) - sum(extents.starts)
            self.found.notes.append(Note(min(extents.starts), size, f"track {track.number}", formats, tells))

    def _top(self, box: Box, movie_box: Box) -> tuple[int, int] | None:
        """Clean one box at the top of the file. Return the range to zero (except samples), or None."""
        kind = box.kind
        if box == movie_box or (kind == b"moof" and not box.cut):
            return None
        if kind in (b"ftyp", b"styp") and not box.cut:
            # The file type always stays, because readers look for it to find a movie behind a picture. If the
            # box is too large, only its first bytes stay.
            kept = box.body + kept_brands(self.source, box, _MAX_BRANDS_BYTES)
            return (kept, box.end) if box.end > kept else None
        if kind in INDEX_RULES and not box.cut and box.size <= MAX_META_BYTES:
            block, inside = self._load(box, MAX_META_BYTES)
            clean_children(block, 0, inside.end, INDEX_RULES, "file")
        elif kind in _IN_MEMORY and not box.cut and box.size <= MAX_META_BYTES:
            block, inside = self._load(box, MAX_META_BYTES)
            cleaners = {b"meta": clean_meta, b"udta": clean_user_data}
            if kind == b"uuid":
                clean_uuid(block, inside, "file")
            else:
                cleaners[kind](block, inside)
        else:
            if kind != _MEDIA and kind not in FREE_KINDS:
                self.found.patches.append(Patch(box.start + 4, FREE))
                self.found.notes.append(Note(box.start, box.size, "file", name_of(kind)))
            return (box.body - len(box.extended), box.end) if box.end > box.body else None
        self.found.add(block.found)
        return None

    def _behind(self, unread: list[tuple[int, int]]) -> None:
        last = self.boxes.boxes[-1]
        start = last.start if self._is_open(last) else self.boxes.rest
        end = self.source.size
        if end - start >= HEADER_BYTES and self._holds_bytes([(start, end)]):
            size = end - start if end - start < 1 << 32 else 0
            self.found.patches.append(Patch(start, size.to_bytes(4) + FREE))
            self.found.notes.append(Note(start, end - start, "file", "trailer", UNKNOWN))
            start += HEADER_BYTES
        if start < end:
            unread.append((start, end))

    def _zero(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Zero the bytes of these ranges outside of kept samples. Filler may stay. Raises TooMuchError."""
        self._gone_starts, self._gone_ends = sorted(self.gone.starts), sorted(self.gone.ends)
        holes = list(islice(common(ranges, self.kept.gaps(self.source.size)), MAX_HOLES + 1))
        total = sum(end - start for start, end in holes)
        if len(holes) <= MAX_FILLER_HOLES and total <= MAX_CHECKED_BYTES:
            holes = [hole for hole in holes if not self._is_filler(*hole)]
        if holes and self._holds_bytes(holes):
            if len(holes) > MAX_HOLES:
                raise TooMuchError(f"more than {MAX_HOLES:,} ranges between its samples must be removed")
            self.found.patches += [Patch(start, zeros=end - start) for start, end in holes]
            first, last = holes[0][0], holes[-1][1]
            self.found.notes.append(Note(first, last - first, "file", "bytes of no sample", UNKNOWN))

    def _is_filler(self, start: int, end: int) -> bool:
        """Return True if bytes may stay: filler or a muxer's text, with no removed sample beside them."""
        begun = bisect_left(self._gone_starts, end + 1)
        if begun > bisect_right(self._gone_ends, start - 1):
            return False
        if range_says_nothing(self.source, start, end):
            return True
        told = Tells.DEVICE | Tells.TIME | Tells.PEOPLE | Tells.OTHER
        short = end - start <= MAX_LINE_BYTES and not self.inner.hide & told
        return short and names_a_muxer(self.source.read(start, end - start))

    def _holds_bytes(self, ranges: list[tuple[int, int]]) -> bool:
        if sum(end - start for start, end in ranges) > MAX_CHECKED_BYTES:
            return True
        for start, end in ranges:
            for at in range(start, end, CHUNK_BYTES):
                size = min(CHUNK_BYTES, end - at)
                if not is_blank(self.source.read(at, min(size, 4096))):
                    return True
                if size > 4096 and not is_blank(self.source.read(at, size)):
                    return True
        return False


def _sidx(walk: BoxWalk, box: Box) -> None:
    """Clean ``sidx``, a segment index: a header of 24 or 32 bytes, then references of 12 bytes each."""
    block, body = walk.block, box.body
    head = 32 if block.data[body : body + 1] == b"\1" else 24
    if walk.holds(box, head):
        walk.trim(box, body + head + 12 * block.number(body + head - 2, 2))


def _tfra(walk: BoxWalk, box: Box) -> None:
    block, body = walk.block, box.body
    if not walk.holds(box, 16):
        return
    widths = block.number(body + 8)
    width = (16 if block.data[body] == 1 else 8) + sum((widths >> shift & 3) + 1 for shift in (0, 2, 4))
    walk.trim(box, body + 16 + width * block.number(body + 12))


INDEX_RULES: Final = rules(
    sidx=searched(_sidx), mfra=container(rules(tfra=searched(_tfra), mfro=fixed_size(8)))
)
"""Rules for the index boxes at the top of a file (ISO/IEC 14496-12 sections 8.8.9 and 8.16.3)."""

"""Matroska and WebM files (RFC 8794, RFC 9559): their elements, attached files, and the bytes between them.

The elements of the first level are read by range. Metadata is cleaned in memory. Clusters are walked block by
block (clusters.py), and the frames in the blocks are searched (frames.py). Bytes in no element, or behind the
last element, become Void.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.bitstreams.digital_video import check_dated
from policyfs.redact.bitstreams.frame_table import FrameTable, merged
from policyfs.redact.core.cleaners import Cleaned, Found, Inner, Note, NotThisKindError
from policyfs.redact.core.patches import ByteSource, skip_zeros
from policyfs.redact.matroska import tag_names
from policyfs.redact.matroska.clusters import Clusters, next_level_1
from policyfs.redact.matroska.ebml import CRC_32, VOID, ElementEdits, Head, head_at, head_before, void_patches
from policyfs.redact.matroska.elements import Tree, child_data
from policyfs.redact.matroska.tracks import codes_of, tracks_of

MAX_MASTER_BYTES: Final = 1 << 22
MAX_FILE_BYTES: Final = 12 << 20
"""Maximum sizes of a metadata element and of an attached file. A larger element or file is removed unread."""

_DOC_TYPES: Final = frozenset({b"matroska", b"webm"})
_NEEDS: Final = {
    tag_names.TAGS: tag_names.TAG,
    tag_names.SEEK_HEAD: tag_names.SEEK,
    tag_names.CUES: 0xBB,
}
_NAMES: Final = {
    tag_names.SEEK_HEAD: "SeekHead",
    tag_names.INFO: "Info",
    tag_names.TRACKS: "Tracks",
    tag_names.CUES: "Cues",
    tag_names.ATTACHMENTS: "Attachments",
    tag_names.CHAPTERS: "Chapters",
    tag_names.TAGS: "Tags",
}


def locate_matroska(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in a Matroska or WebM file; return the changes that hide it.

    Raises NotThisKindError if the file is of another kind, or if nothing in it can be played; TooMuchError.
    """
    return _Locator(source, inner, Tree(inner), ElementEdits(source, inner)).locate()


@dataclass(slots=True)
class _Locator:
    source: ByteSource
    inner: Inner
    tree: Tree
    edits: ElementEdits
    left: list[FrameTable] = field(default_factory=list)
    clusters: Clusters | None = None
    tracks: bytes = b""
    raw_tracks: bytes = b""
    early: int = -1
    indexes: list[tuple[int, Head]] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)

    def locate(self) -> Found:
        head = head_at(self.source.read(0, 12))
        if head is None or head.ident != tag_names.EBML:
            raise NotThisKindError("it does not start like EBML")
        at, segments = 0, 0
        while at < self.source.size:
            head = head_before(self.source, at, self.source.size)
            stop = None if head is None or head.size is None else at + head.length + head.size
            if head is not None and head.ident == tag_names.SEGMENT:
                at = self._segment(at, head)
                segments += 1
            elif head is not None and stop is not None and self._top(at, stop, head):
                at = stop
            else:
                self._void(at, self.source.size, "trailer")
                break
        if not segments:
            raise NotThisKindError("there is no segment in it")
        table = merged(self.left)
        self.edits.found.frames = table if table.starts else None
        return self.edits.found

    def _top(self, at: int, stop: int, head: Head) -> bool:
        """Clean EBML or Void outside of segments; False for any other. Raises NotThisKindError for other
        EBML.
        """
        self.inner.budget.part()
        if stop > self.source.size or head.ident not in (tag_names.EBML, VOID):
            return False
        if head.ident == VOID:
            self.edits.emptied(at, at + head.length, stop)
            return True
        if stop - at > 4096:
            return False
        data = self.source.read(at + head.length, stop - at - head.length)
        if (child_data(data, 0x4282) or b"").rstrip(b"\0") not in _DOC_TYPES:
            raise NotThisKindError("it is EBML of another type than Matroska or WebM")
        self._master(at, head)
        return True

    # --- one segment ---

    def _segment(self, start: int, head: Head) -> int:
        begin = start + head.length
        end = self.source.size if head.size is None else min(self.source.size, begin + head.size)
        self._begin(begin)
        before, frames = len(self.edits.found.patches), False
        at = checked = begin
        while at < end:
            peek = head_before(self.source, at, end)
            if peek is not None and head.size is None and peek.ident in (tag_names.EBML, tag_names.SEGMENT):
                end = at
                break
            if peek is not None and peek.ident == CRC_32 and at == begin and peek.size == 4:
                at = checked = at + peek.length + 4
                continue
            at = self._first_level(at, end, peek)
        if not self.tracks:
            raise NotThisKindError("there are no tracks in it")
        if self.clusters is not None:
            self.clusters.finish()
            self.edits.found.add(self.clusters.edits.found)
            self.left.append(self.clusters.left)
            frames = bool(self.clusters.left.starts)
        self._indexes()
        if checked > begin and (frames or len(self.edits.found.patches) > before):
            self.edits.found.patches += void_patches(self.source, begin, checked)
        return end

    def _begin(self, at: int) -> None:
        self.tree.segment_start, self.tracks, self.clusters = at, b"", None
        self.tree.file_end, self.tree.clusters_at = self.source.size, set()
        self.indexes, self.known, self.gone = [], set(), set()

    def _first_level(self, at: int, end: int, head: Head | None) -> int:
        """Clean one element of the first level. Return the offset of the next element."""
        self.inner.budget.part()
        ident = -1 if head is None else head.ident
        if head is None or (head.size is None and ident != tag_names.CLUSTER):
            return self._junk(at, end)
        stop = end if head.size is None else at + head.length + head.size
        if ident == tag_names.CLUSTER:
            self.tree.clusters_at.add(at)
            sized = head.size is not None and stop <= end
            clusters = self.clusters or self._first_cluster(stop if sized else end, end)
            return clusters.walk(at + head.length, stop if sized else end, sized)
        if stop > end:
            return self._junk(at, end)
        self.known.add(at)
        if ident == VOID:
            self.edits.emptied(at, at + head.length, stop)
        elif ident in (tag_names.SEEK_HEAD, tag_names.CUES):
            self.indexes.append((at, head))
        elif ident == tag_names.ATTACHMENTS:
            self._attachments(at, stop, head)
        elif at == self.early:
            pass  # cleaned before the first cluster
        elif ident == tag_names.TRACKS and self.tracks:
            data = self.source.read(at + head.length, min(stop - at - head.length, MAX_MASTER_BYTES))
            self._master(at, head) if data == self.raw_tracks else self._void(at, stop, "second Tracks")
        elif ident in _NAMES:
            self._master(at, head)
        else:
            self._void(at, stop, f"unknown element {ident:x}")
        return stop

    def _junk(self, at: int, end: int) -> int:
        """Void the bytes before the next known element, and return its offset. Leading zeros stay: return the
        offset behind them.
        """
        self.inner.budget.part(10)
        if self.source.read(at, 1) == b"\0":
            following = min(end, skip_zeros(self.source, at))
            self.inner.budget.search(following - at)
            return following
        following = next_level_1(self.source, at + 1, end, self.inner.budget)
        self._void(at, following, "junk", broken=True)
        return following

    def _first_cluster(self, at: int, end: int) -> Clusters:
        """Begin with a segment's clusters; first clean the tracks, which may come behind them. Raises
        NotThisKindError if the tracks cannot be found from size to size.
        """
        while not self.tracks:
            self.inner.budget.part()
            head = head_before(self.source, at, end)
            if head is None or head.size is None or head.ident in (tag_names.EBML, tag_names.SEGMENT):
                break
            stop = at + head.length + head.size
            if head.ident == tag_names.TRACKS and stop <= end:
                self._master(at, head)
                self.early = at
            at = stop
        if not self.tracks:
            raise NotThisKindError("its clusters come before its tracks")
        self.clusters = Clusters(self.source, self.inner, tracks_of(self.tracks))
        return self.clusters

    def _master(self, at: int, head: Head) -> None:
        """Clean an element of metadata in memory. Turn an element that is too large into a Void element."""
        start, ident, size = at + head.length, head.ident, head.size or 0
        stop = start + size
        if size > MAX_MASTER_BYTES:
            self._void(at, stop, "too large")
            return
        old = self.source.read(start, size)
        cleaned = self.tree.clean(ident, old, _NEEDS.get(ident, 0))
        if cleaned is None:
            self._void(at, stop, _NAMES.get(ident, "element"))
            return
        if ident == tag_names.TRACKS and not self.tracks:
            self.tracks, self.raw_tracks = cleaned.data, old
            for code in codes_of(old):
                check_dated(code, self.inner.hide)
        self.edits.block(start, old, cleaned)

    def _attachments(self, at: int, stop: int, head: Head) -> None:
        before = len(self.edits.found.patches)
        here, kept = at + head.length, 0
        first = checked = here
        while here < stop:
            self.inner.budget.part()
            child = head_before(self.source, here, stop)
            if child is None or child.size is None or here + child.length + child.size > stop:
                self._void(here, stop, "broken element", broken=True)
                break
            end = here + child.length + child.size
            if child.ident == tag_names.ATTACHED_FILE:
                kept += self._attached(here, end, child)
            elif child.ident == VOID:
                self.edits.emptied(here, here + child.length, end)
            elif child.ident == CRC_32 and here == first and child.size == 4:
                checked = end
            else:
                self._void(here, end, "unknown element")
            here = end
        if len(self.edits.found.patches) == before:
            return
        if not kept:
            del self.edits.found.patches[before:]
            self._void(at, stop, "Attachments")
        elif checked > first:
            self.edits.found.patches += void_patches(self.source, first, checked)

    def _attached(self, at: int, end: int, head: Head) -> bool:
        start, size = at + head.length, head.size or 0
        old = self.source.read(start, size) if size <= MAX_FILE_BYTES else b""
        cleaned = self.tree.clean(tag_names.ATTACHED_FILE, old) if old else None
        if cleaned is None:
            self._void(at, end, "attached file")
            return False
        notes = cleaned.notes or (Note(at - start, end - at, "Matroska", "picture"),)
        self.edits.block(start, old, Cleaned(cleaned.data, notes))
        return True

    def _indexes(self) -> None:
        """Clean the indexes last: no entry may point to a removed element, or into one."""
        for ident in (tag_names.CUES, tag_names.SEEK_HEAD):
            self.tree.known_at = (self.known | self.tree.clusters_at) - self.gone
            for at, head in self.indexes:
                if head.ident == ident:
                    self._master(at, head)

    def _void(self, at: int, stop: int, tag: str, *, broken: bool = False) -> None:
        self.edits.void(at, stop, tag, broken=broken)
        self.gone.add(at)

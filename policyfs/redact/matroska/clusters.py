"""Clusters of a Matroska file: the blocks of its tracks, read by their headers only.

Blocks of pictures and sound stay, except tags in MP3. Blocks of subtitles are read: if one holds data to
hide, all blocks of its track become spaces. Blocks of any other track become zeros. Known numbers (such as
the time of a cluster), and additions that belong to a picture, stay. Any other element in a cluster becomes
Void.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.redact.core.bounded_inflate import blank
from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import Budget, Found, Inner, Note, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.frame_table import SUM_BYTES, FrameTable, void_sum
from policyfs.redact.core.free_text import decode, tells_place
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import (
    CHUNK_BYTES,
    ByteSource,
    Window,
    difference,
    skip_zeros,
    uniform_difference,
)
from policyfs.redact.core.tag_names import tells_time
from policyfs.redact.matroska import tag_names
from policyfs.redact.matroska.ebml import (
    CRC_32,
    VOID,
    ElementEdits,
    Head,
    head_at,
    head_before,
    number_at,
    void_patches,
    zero_patches,
)
from policyfs.redact.matroska.elements import children
from policyfs.redact.matroska.frames import BlockFrames, is_of_the_picture
from policyfs.redact.matroska.tag_names import BLOCK, BLOCK_GROUP, REFERENCE_BLOCK, SIMPLE_BLOCK
from policyfs.redact.matroska.tracks import Role, Track
from policyfs.redact.tags.sound_streams import StreamSound

MAX_BLOCKS: Final = 1_000_000
"""Maximum number of blocks in a file with other tracks than pictures and sound; with more it is refused."""
MAX_MEDIA_BLOCKS: Final = 1 << 23
"""Maximum number of blocks in any other file. Fourteen hours of film with sound have so many."""
MAX_TEXTS: Final = 80_000

_JUNK_PARTS: Final = 10
"""Cost of a search for the next element behind junk, in parts of the file's budget (cleaners.Budget)."""
_CLUSTER: Final = tag_names.CLUSTER.to_bytes(4)
_ADDITIONS: Final = 0x75A1
_MORE: Final = 0xA6
_CLUSTER_NUMBERS: Final = frozenset({0xE7, 0xA7, 0xAB})
_GROUP_NUMBERS: Final = frozenset({0x9B, 0xFA, REFERENCE_BLOCK, 0x75A2})
_ENDS: Final = tag_names.LEVEL_1 | {tag_names.EBML, tag_names.SEGMENT}
_LEVEL_1: Final = re.compile(b"|".join(re.escape(ident.to_bytes(4)) for ident in sorted(tag_names.LEVEL_1)))
_PEEK_BYTES: Final = 24
_LACED: Final = 0x06
_MAX_TEXT_BYTES: Final = 1 << 16
_MAX_ADDITIONS_BYTES: Final = 1 << 22
_PLACE_HINT: Final = re.compile(r"[\d$+/]|maps|openstreetmap|osm\.org|google\.nav", re.IGNORECASE)
"""Pattern: a digit, or a part of a link to a map. Without a match, free_text.tells_place finds no place."""
_DATE: Final = re.compile(
    rb"(?:19|20)\d\d[-./:]\s?\d{1,2}[-./:]\s?\d{1,2}|\d{1,2}[-./:]\d{1,2}[-./:](?:19|20)\d\d"
)

_YEAR: Final = re.compile(rb"(?:19|20)\d\d")


_NOBODYS: Final = Track(Role.OTHER)


class _Text(NamedTuple):
    offset: int
    size: int
    cluster: int


def _passed_over(peek: bytes, at: int, media: frozenset[int]) -> int:
    """Return the offset behind a simple block of sound, or of pictures that are not searched; else 0."""
    if len(peek) < 10 or peek[0] != SIMPLE_BLOCK:
        return 0
    length = 9 - peek[1].bit_length()
    if length > 7 or peek[1 + length] not in media:
        return 0
    size = int.from_bytes(peek[1 : 1 + length]) & ((1 << 7 * length) - 1)
    return 0 if size in (0, (1 << 7 * length) - 1) else at + 1 + length + size


def next_level_1(source: ByteSource, start: int, end: int, budget: Budget) -> int:
    """Return the offset of the next first-level element at which a reader could continue; `end` if there is
    none.
    """
    at, size = start, 4096
    while at < end:
        chunk = source.read(at, min(size, end - at))
        budget.search(len(chunk))
        for found in _LEVEL_1.finditer(chunk):
            here = at + found.start()
            head = head_before(source, here, end)
            if head is not None and (head.size is None or here + head.length + head.size <= end):
                return here
        if at + len(chunk) >= end:
            break
        at += len(chunk) - 3
        size = min(2 * size, CHUNK_BYTES)
    return end


@dataclass(slots=True)
class Clusters:
    """The walk over the clusters of one file: its state, and the changes so far.

    left: after finish(), the frames that the caller must search (Inner.frames_later), and the checksums of
    clusters that are unchanged so far.
    """

    source: ByteSource
    inner: Inner
    tracks: Mapping[int, Track]
    edits: ElementEdits = field(init=False)
    blocks: int = 0
    left: FrameTable = field(default_factory=FrameTable)
    _texts: dict[int, list[_Text]] = field(default_factory=dict)
    _additions: dict[int, list[_Text]] = field(default_factory=dict)
    _ahead: Window = field(init=False)
    _starts: list[int] = field(default_factory=list)
    _frames: BlockFrames = field(init=False)
    _most: int = field(init=False)
    _tags: Edits = field(init=False)
    _sounds: dict[int, StreamSound] = field(init=False)
    _sums: dict[int, int] = field(default_factory=dict)
    _touched: set[int] = field(default_factory=set)
    _cluster: int = 0
    _zeroed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        coded = {number: track.coding for number, track in self.tracks.items() if track.coding is not None}
        whole = coded and not self.inner.frames_later  # then all of a coded frame is read
        self._ahead = Window(self.source, CHUNK_BYTES if whole else _PEEK_BYTES)
        self.edits = ElementEdits(self.source, self.inner)
        self._tags = Edits(self.source, self.inner, "Matroska")
        self._sounds = {n: StreamSound(self._tags) for n, track in self.tracks.items() if track.tagged}
        self._frames = BlockFrames(coded, self.source, self.inner)
        media = all(track.role is Role.MEDIA for track in self.tracks.values())
        self._most = MAX_MEDIA_BLOCKS if media else MAX_BLOCKS

    def walk(self, start: int, end: int, sized: bool) -> int:
        """Walk the data of one cluster; return its end. sized: True if the cluster states that it ends at
        `end`.
        """
        self._cluster, at, before = start, start, len(self.edits.found.patches)
        self._starts.append(start)
        read, media = self._ahead.read, self._media
        while at < end:
            peek = read(at, min(_PEEK_BYTES, end - at))
            if self.blocks > self._most:
                raise TooMuchError("too many blocks")
            stop = _passed_over(peek, at, media)
            if at < stop <= end:
                self.blocks += 1
                at = stop
                continue
            head = head_at(peek)
            if head is not None and head.ident in _ENDS and not sized:
                break
            if head is not None and head.size is not None and at + head.length + head.size <= end:
                stop = at + head.length + head.size
                self._element(at, stop, head)
            elif read(at, 1) == b"\0":
                stop = min(end, skip_zeros(self.source, at))
                self.inner.budget.search(stop - at)
                self.inner.budget.part(_JUNK_PARTS)
            else:
                stop = end if sized else next_level_1(self.source, at + 1, end, self.inner.budget)
                self.inner.budget.part(_JUNK_PARTS)
                lasting = stop == end or read(stop, 4) == _CLUSTER
                self._broken(at, stop, head, lasting=lasting)
            at = stop
        if len(self.edits.found.patches) > before:
            self._touched.add(self._cluster)
        if start in self._sums:
            self._sums[start] = at
        return at

    @property
    def _media(self) -> frozenset[int]:
        """The first bytes of blocks of media that are not searched, for track numbers that take one byte."""
        return frozenset(
            number | 0x80
            for number, track in self.tracks.items()
            if number < 0x7F and track.role is Role.MEDIA and track.coding is None and not track.tagged
        )

    def _element(self, at: int, stop: int, head: Head) -> None:
        self.blocks += 1
        ident = head.ident
        if ident == SIMPLE_BLOCK:
            self._block(at, at + head.length, stop)
        elif ident == BLOCK_GROUP:
            self._group(at + head.length, stop)
        elif ident == CRC_32 and at == self._cluster and stop - at == SUM_BYTES:
            self._sums[at] = stop
        else:
            self._plain(at, stop, head, _CLUSTER_NUMBERS)

    def _broken(self, at: int, stop: int, head: Head | None, *, lasting: bool) -> None:
        """Void an element that is cut off or malformed. A block of media stays (the last of a broken
        recording) if the bytes at `stop` never change (lasting): its end would change, too. One of unknown
        size goes: some readers find other blocks in its data.
        """
        if lasting and head is not None and head.ident == SIMPLE_BLOCK and head.size is not None:
            found = number_at(self.source.read(at + head.length, min(8, stop - at - head.length)))
            if found is not None and self.tracks.get(found[0], _NOBODYS).role is Role.MEDIA:
                self._block(at, at + head.length, stop)
                return
        self._void(at, stop, "broken element", broken=True)

    def _plain(self, at: int, stop: int, head: Head, numbers: frozenset[int]) -> None:
        """Clean an element that is not a block. A number stays; other data becomes Void."""
        if head.ident == VOID:
            self.inner.budget.part(self.edits.emptied(at, at + head.length, stop))
        elif head.ident not in numbers or stop - at - head.length > 8:
            self._void(at, stop, f"unknown element {head.ident:x}")

    def _group(self, start: int, end: int) -> None:
        at, number = start, -1
        while at < end:
            head = head_before(self._ahead, at, end)
            if head is None or head.size is None or (stop := at + head.length + head.size) > end:
                if head is not None and head.ident == BLOCK and head.size is not None:
                    self._block(at, at + head.length, end)
                else:
                    self._void(at, end, "broken element", broken=True)
                return
            self.blocks += 1
            if head.ident == BLOCK:
                number = self._block(at, at + head.length, stop)
            elif head.ident == _ADDITIONS:
                self._added(number, at, stop, head)
            else:
                self._plain(at, stop, head, _GROUP_NUMBERS)
            at = stop

    def _block(self, at: int, start: int, stop: int) -> int:
        """Clean a block by the treatment of its track; return the track's number; -1 if the block goes."""
        peek = self._ahead.read(start, min(12, stop - start))
        found = number_at(peek)
        number, width = found if found is not None else (-1, 1)
        track = self.tracks.get(number, _NOBODYS)
        first = start + width + 3
        if track.role is Role.MEDIA:
            if number in self._sounds and first < stop:
                self._sounds[number].add(first, stop)
            if first > stop or self._frames.add(number, first, stop, peek[width + 2]):
                return number
            self._void(at, stop, f"block of track {number}")
            return -1
        if found is None or first > stop or peek[width + 2] & _LACED:
            self._void(at, stop, f"block of track {number}")
            return -1
        if track.role is Role.TEXT:
            texts = self._texts.setdefault(number, [])
            if len(texts) >= MAX_TEXTS:
                raise TooMuchError("too many subtitles")
            texts.append(_Text(first, stop - first, self._cluster))
        else:
            self._other(number, track, first, stop)
        return number

    def _other(self, number: int, track: Track, start: int, stop: int) -> None:
        before = len(self.edits.found.patches)
        if track.packed:
            self.edits.put(start, self.source.read(start, stop - start), blank(stop - start))
        else:
            self.edits.found.patches += zero_patches(self.source, start, stop)
        if len(self.edits.found.patches) > MAX_TEXTS:
            raise TooMuchError("too many blocks of metadata")
        if len(self.edits.found.patches) > before and number not in self._zeroed:
            self._zeroed.add(number)
            self.edits.found.notes.append(Note(start, stop - start, "Matroska", f"blocks of track {number}"))

    def _added(self, number: int, at: int, stop: int, head: Head) -> None:
        """Clean the additions of a block (BlockAdditions). number: the number of the block's track, or -1."""
        role = self.tracks.get(number, _NOBODYS).role
        if role is Role.TEXT:
            self._additions.setdefault(number, []).append(_Text(at, stop - at, self._cluster))
            return
        size = stop - at - head.length
        if role is Role.MEDIA and size <= _MAX_ADDITIONS_BYTES:
            data = self.source.read(at + head.length, size)
            more = list(children(data))
            known = all(
                child.head.ident == _MORE and is_of_the_picture(child.payload(data), self.inner)
                for child in more
            )
            known = known and not told_in_kept(
                data, self.inner.hide & Tells.LOCATION, self.inner.budget, numbers=True
            )
            if more and known and more[-1].end == size:
                return
        self._void(at, stop, "BlockAdditions")

    def _void(self, at: int, stop: int, tag: str, *, broken: bool = False) -> None:
        self.inner.budget.part(self.edits.void(at, stop, tag, broken=broken))

    def finish(self) -> None:
        """Decide if subtitles stay, and turn checksums of changed data into Void.

        Raises NotThisKindError, TooMuchError.
        """
        for number, texts in self._texts.items():
            tells = self._told(number, [*texts, *self._additions.get(number, ())])
            if not tells:
                continue
            before = len(self.edits.found.patches)
            for text in texts:
                self._blank(text, self.tracks[number].packed)
            for added in self._additions.get(number, ()):
                self.edits.found.patches += void_patches(self.source, added.offset, added.offset + added.size)
                self._touched.add(added.cluster)
            if len(self.edits.found.patches) > before:
                note = Note(texts[0].offset, texts[0].size, "Matroska", f"subtitles of track {number}", tells)
                self.edits.found.notes.append(note)
        for sound in self._sounds.values():
            sound.finish()
        self._within(self._tags.found)
        if self.inner.frames_later:
            self._leave()
        else:
            self._frames.looks.finish()
            self._within(self._frames.looks.found)
        for at in self._sums.keys() & self._touched:
            self.edits.found.patches += void_sum(at)

    def _leave(self) -> None:
        self.left = self._frames.looks.left()
        for at in sorted(self._sums.keys() - self._touched):
            first = bisect_right(self.left.starts, at)
            if first < len(self.left) and self.left.starts[first] < self._sums[at]:
                self.left.sums.append(at)
                self.left.covered.append(self._sums[at])

    def _within(self, found: Found) -> None:
        self._touched |= {self._starts[bisect_right(self._starts, p.offset) - 1] for p in found.patches}
        self.edits.found.add(found)

    def _blank(self, text: _Text, packed: bool) -> None:
        old = self.source.read(text.offset, text.size)
        new = blank(text.size, b" ") if packed else _blanked(old)
        if new != old:
            changes = difference if packed else uniform_difference
            self.edits.found.patches += changes(text.offset, old, new)
            self._touched.add(text.cluster)

    def _told(self, number: int, texts: list[_Text]) -> Tells:
        """Return the categories to hide of a track's subtitles. One subtitle is enough."""
        hide = self.inner.hide
        if self.tracks[number].packed:
            return hide
        told = hide & (Tells.PEOPLE | Tells.OTHER)
        if told:
            return told
        for data in self._read(texts) if hide & (Tells.LOCATION | Tells.TIME) else ():
            if hide & Tells.LOCATION and (len(data) > _MAX_TEXT_BYTES or self._tells_place(decode(data))):
                return Tells.LOCATION
            if hide & Tells.TIME and (len(data) > _MAX_TEXT_BYTES or self._dated(data)):
                return Tells.TIME
        return Tells(0)

    def _tells_place(self, text: str) -> bool:
        """Apply tells_place to the few lines that match _PLACE_HINT; only they count in the budget."""
        if _PLACE_HINT.search(text) is None:
            return False
        return not self.inner.budget.look(len(text)) or tells_place(text)

    def _dated(self, data: bytes) -> bool:
        """Return True for a date, or a year without a budget. Lines without a year do not count in it."""
        if _DATE.search(data):
            return True
        if _YEAR.search(data) is None:
            return False
        return not self.inner.budget.look(len(data)) or tells_time(decode(data))

    def _read(self, texts: list[_Text]) -> Iterator[bytes]:
        for text in texts:
            self.inner.budget.search(min(text.size, _MAX_TEXT_BYTES))
            yield self.source.read(text.offset, min(text.size, _MAX_TEXT_BYTES + 1))


def _blanked(text: bytes) -> bytes:
    """Return a subtitle's line as spaces. The commas, margins of 0 and the number of a script's line stay."""
    fields = text.split(b",", 8)
    if len(fields) == 9 and (fields[0].strip() or b"0").isdigit():
        order = fields[0] if len(fields[0]) < 6 else b" " * len(fields[0])
        return b",".join([order, *(part if part == b"0" else b" " * len(part) for part in fields[1:])])
    return b" " * len(text)

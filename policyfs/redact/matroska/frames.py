"""Search for messages in the coded frames of a Matroska file's blocks.

First, some frames are searched. All frames of a film are listed only if one of these frames has a message to
remove. The frames that are searched first come from some of the clusters: a cluster lasts some seconds, and
its start is known without a look at any block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from policyfs.redact.bitstreams.frames import MAX_SCANNED, ROW, TOO_MANY_FRAMES, Frame, clean_frames, spread
from policyfs.redact.bitstreams.nal_units import MPEG
from policyfs.redact.bitstreams.photos import clean_photos
from policyfs.redact.bitstreams.sei import registered_tells
from policyfs.redact.core.categories import NOTHING
from policyfs.redact.core.cleaners import Found, Inner, TooMuchError
from policyfs.redact.core.patches import ByteSource, skip_zeros
from policyfs.redact.matroska.ebml import head_at, head_before, number_at
from policyfs.redact.matroska.elements import child_data
from policyfs.redact.matroska.tag_names import BLOCK, BLOCK_GROUP, REFERENCE_BLOCK, SIMPLE_BLOCK
from policyfs.redact.matroska.tracks import Coding

MAX_LISTED_BLOCKS: Final = 1_000_000
"""Maximum number of blocks that are listed after user data was found in some frames."""
_TRIED_BLOCKS: Final = 4096
"""Maximum number of block headers that are read in all clusters together, to find the frames that are
searched first.
"""
_TRIED_FRAMES: Final = 16
_PEEK_BYTES: Final = 24
_KEY: Final = 0x80
_LACING: Final = 0x06
_XIPH, _FIXED = 2, 4
_LACING_BYTES: Final = 1 << 16
_MAX_NUMBER_BYTES: Final = 8
_ADD_ID: Final = 0xEE
_ADDITIONAL: Final = 0xA5
_ALPHA, _T35 = 1, 4
"""Ids of additions to a block: the alpha channel, and messages that ITU-T T.35 registers."""


class Cluster(NamedTuple):
    """The data of a cluster, [start, end)."""

    start: int
    end: int


class Block(NamedTuple):
    """A block: the number of its track, the range [start, end) of its frames, and the type of its lacing.

    Lacing packs several frames into one block. key: True if a player can start from the block.
    """

    track: int
    start: int
    end: int
    lacing: int
    key: bool


def clean_messages(
    clusters: Sequence[Cluster], tracks: Mapping[int, Coding], source: ByteSource, inner: Inner
) -> Found:
    """Clean the messages in the frames of these tracks, and frames that are whole pictures.

    Raises NotThisKindError, TooMuchError.
    """
    found, film = Found(), _Film(clusters, tracks, source, inner, MAX_LISTED_BLOCKS)
    tried = film.tried()
    for number, coding in tracks.items():
        frames = _BlockFrames(film, number, tried[number])
        if coding.framing is None:
            found.add(clean_photos(frames, source, inner))
        else:
            found.add(clean_frames(frames, coding.framing, source, inner))
            if coding.framing.codec is MPEG:  # as in AVI, it may be Motion JPEG
                found.add(clean_photos(frames, source, inner))
    return found


def is_of_the_picture(more: bytes, inner: Inner) -> bool:
    """Return True if an addition to a block belongs to the picture: its alpha channel, its dynamic range.

    more: the data of a BlockMore element.
    """
    number = int.from_bytes(child_data(more, _ADD_ID) or b"\1")
    if number != _T35:
        return number == _ALPHA
    return registered_tells(child_data(more, _ADDITIONAL) or b"", inner) == NOTHING


@dataclass(slots=True)
class _Film:
    """The clusters of a segment, and the coding of the tracks that are searched.

    left: the number of blocks that may still be listed.
    """

    clusters: Sequence[Cluster]
    tracks: Mapping[int, Coding]
    source: ByteSource
    inner: Inner
    left: int

    def tried(self) -> dict[int, dict[int, Frame]]:
        """Return the frames that are searched first: a dictionary from track number to (offset -> frame).

        The frames are from the first cluster, the last cluster, and some clusters between these two.
        """
        count = len(self.clusters)
        picked = sorted({0, count - 1, *spread(range(count))}) if count else []
        tried: dict[int, dict[int, Frame]] = {number: {} for number in self.tracks}
        for index in picked:
            first, last = 3 * (index == 0), index == count - 1
            for number, frames in self._beginning(self.clusters[index], _TRIED_BLOCKS // len(picked)).items():
                some, keys = [frame for frame, _ in frames], [frame for frame, key in frames if key]
                wanted = max(2, _TRIED_FRAMES // len(picked))
                ends = (*some[:first], *some[-1:][:last])
                chosen = (*spread(some, wanted), *spread(keys, wanted), *ends)
                tried[number] |= {frame.at: frame for frame in chosen}
        return tried

    def _beginning(self, cluster: Cluster, most: int) -> dict[int, list[tuple[Frame, bool]]]:
        """Return the frames at the start of a cluster.

        The result is a dictionary from the number of a track to pairs: a frame, and True if a player can
        start from it. most: the maximum number of blocks of all tracks, or of frames if a block has several.
        """
        seen: dict[int, list[tuple[Frame, bool]]] = {number: [] for number in self.tracks}
        for block in self.blocks(cluster):
            if most <= 0:
                break
            frames = list(self.frames(block)) if block.track in seen else []
            most -= max(1, len(frames))
            if frames:
                seen[block.track] += ((frame, block.key) for frame in frames)
        return seen

    def row(self, number: int, first: int) -> Iterator[Frame]:
        """Yield the frames of a track in the clusters from number *first* on, up to _TRIED_BLOCKS blocks."""
        blocks = (block for cluster in self.clusters[first:] for block in self.blocks(cluster))
        for block in islice(blocks, _TRIED_BLOCKS):
            if block.track == number:
                yield from self.frames(block)

    def listed(self, number: int, *, keys: bool) -> Iterator[Frame]:
        """Yield the frames of a track.

        keys: True to yield only frames from which a player can start. Raises TooMuchError.
        """
        for cluster in self.clusters:
            for block in self.blocks(cluster):
                self.left -= 1
                if self.left < 0:
                    raise TooMuchError("too many blocks")
                if block.track == number and (block.key or not keys):
                    yield from self.frames(block)

    def blocks(self, cluster: Cluster) -> Iterator[Block]:
        """Yield the blocks of a cluster, up to the first broken element.

        Zeros between elements are skipped.
        """
        at, end = cluster
        while at < end:
            peek = self.source.read(at, min(_PEEK_BYTES, end - at))
            head = head_at(peek)
            if head is None and peek[:1] == b"\0":
                start, at = at, min(end, skip_zeros(self.source, at))
                self.inner.budget.search(at - start)
                continue
            if head is None:
                return
            start = at + head.length
            at = end if head.size is None else min(start + head.size, end)
            if head.ident == SIMPLE_BLOCK:
                yield from _block(peek[head.length :], start, at, key=None)
            elif head.ident == BLOCK_GROUP and head.size is not None:
                yield from self._group(start, at)

    def _group(self, at: int, end: int) -> Iterator[Block]:
        found: list[tuple[bytes, int, int]] = []
        key = True
        while at < end and (head := head_before(self.source, at, end)) is not None:
            start = at + head.length
            at = end if head.size is None else min(start + head.size, end)
            if head.ident == BLOCK:
                found.append((self.source.read(start, min(_PEEK_BYTES, at - start)), start, at))
            elif head.ident == REFERENCE_BLOCK and at - start <= _MAX_NUMBER_BYTES:
                key = False
        for peek, start, stop in found:
            yield from _block(peek, start, stop, key=key)

    def frames(self, block: Block) -> Iterator[Frame]:
        """Yield the frames of a block. A block with lacing has several frames."""
        lead, at, sizes = self.tracks[block.track].lead, block.start, [block.end - block.start]
        if block.lacing:
            head = self.source.read(at, min(_LACING_BYTES, block.end - at))
            sizes, length = _laced(head, block.lacing, block.end - at)
            at += length
        for size in sizes:
            if 0 < size <= block.end - at:
                yield Frame(at, size, lead)
                at += size


@dataclass(slots=True)
class _BlockFrames:
    """The frames of one track, for the search in bitstreams.frames."""

    film: _Film
    number: int
    by_offset: Mapping[int, Frame]
    _ordered: list[Frame] = field(init=False)

    def __post_init__(self) -> None:
        self._ordered = [self.by_offset[at] for at in sorted(self.by_offset)]

    def tried(self) -> Sequence[Frame]:
        return self._ordered

    def each(self) -> Iterator[Frame]:
        return self.film.listed(self.number, keys=False)

    def rows(self) -> Iterator[Frame]:
        for first in sorted({0, len(self.film.clusters) // 2}):
            yield from islice(self.film.row(self.number, first), ROW)

    def others(self, *, keys: bool) -> Iterator[Frame]:
        for number, frame in enumerate(self.film.listed(self.number, keys=keys)):
            if number >= MAX_SCANNED:
                raise TooMuchError(TOO_MANY_FRAMES)
            if frame.at not in self.by_offset:
                yield frame


def _block(head: bytes, start: int, end: int, *, key: bool | None) -> Iterator[Block]:
    """Yield the block whose data begins with *head*; yield nothing if the block is cut off.

    key: True if a player can start from the block; None if the block's flags state this.
    """
    found = number_at(head)
    if found is None or start + found[1] + 3 > end or found[1] + 3 > len(head):
        return
    number, width = found
    flags = head[width + 2]
    yield Block(number, start + width + 3, end, flags & _LACING, bool(flags & _KEY) if key is None else key)


def _laced(data: bytes, lacing: int, size: int) -> tuple[list[int], int]:
    """Return the sizes of a block's frames, and the length of the lacing header before them (RFC 9559 section
    10.3).

    data: the start of the block's data. size: the length of all its data. If the header makes no sense, all
    data behind the readable part of the header is one frame.
    """
    count, at = data[0] if data else 0, 1
    sizes: list[int] = []
    if lacing == _FIXED:
        return [(size - at) // (count + 1)] * (count + 1), at
    for _ in range(count):
        if lacing == _XIPH:
            start = at
            while data[at : at + 1] == b"\xff":
                at += 1
            found: tuple[int, int] | None = (255 * (at - start) + data[at], 1) if at < len(data) else None
        else:
            found = number_at(data, at)
        if found is None:
            return [size - at], at
        value, length = found
        if sizes and lacing != _XIPH:  # signed difference to the last size; the middle of the range is 0
            value += sizes[-1] - ((1 << 7 * length - 1) - 1)
        sizes.append(value)
        at += length
    return [*sizes, size - at - sum(sizes)], at

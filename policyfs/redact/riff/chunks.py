"""Chunks of RIFF files (WebP, WAV, AVI; Microsoft and IBM, 1991): a name of four letters, a length, data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Inner, NotThisKindError, TooMuchError
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import ByteSource, PatchedSource, Window, in_order, skip_zeros

HEAD_BYTES: Final = 8
JUNK: Final = b"JUNK"
"""Name of padding chunks in RIFF (Multimedia Programming Interface 1.0). Every reader skips them."""
_AT_ONCE: Final = (JUNK, b"FLLR", b"LIST")
"""Names that always start a chunk: a removed chunk (JUNK) must be found at the same offset again."""
LIKELY_NAME: Final = re.compile(rb"[A-Za-z0-9_\xa9(][\x20-\x7e\xa9]{3}")
METADATA_NAME: Final = re.compile(
    rb"LIST|RIFF|JUN[KQ]|IDIT|ISMP|CSET|bext|[ai]XML|axml|cart|olym|LGWV|S[GL]LT|gps0|gsen|guan|str[dn]"
    rb"|_PMX|XMP[ _]|EXIF|exif|C2PA|[Ii][Dd]3[ 2]|labl|note|ltxt|\d\dtx"
)
"""Names of chunks of metadata. Compressed pictures rarely have them, but often a LIKELY_NAME."""
_MAX_HEADERS: Final = 400_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk.

    at: offset of its name. size: length of its data, cut at the container's end. whole: True if the data was
    not cut. next: offset of the following chunk, behind the padding byte if there is one.
    """

    at: int
    name: bytes
    size: int
    whole: bool
    next: int

    @property
    def start(self) -> int:
        """Offset of the chunk's data."""
        return self.at + HEAD_BYTES

    @property
    def end(self) -> int:
        """Offset behind the chunk's data, without padding."""
        return self.start + self.size


@dataclass(slots=True)
class Doubts:
    """The places of one file where some readers go on at another offset than the locator.

    At such a place the writer forgot a padding byte, but most readers skip one byte there. Or a chunk ends
    behind the end of its list, or a list ends behind its last chunk, and some readers ignore the list's end.
    From the place on, these readers take other bytes for the headers of chunks. places: for each place, the
    offset at which these readers go on, and a pattern for names of chunks that they must not find. starts:
    offsets of the chunks that the locator has found behind the first place.
    """

    places: list[tuple[int, re.Pattern[bytes]]] = field(default_factory=list)
    starts: set[int] = field(default_factory=set)

    def chunk(self, at: int) -> None:
        """Record that the locator has found a chunk at an offset."""
        if self.places:
            self.starts.add(at)

    def check(self, edits: Edits) -> None:
        """Read the redacted file as the readers of *places* do.

        Raises NotThisKindError if such a reader would find a chunk within data that the locator has not read
        as chunks. Raises TooMuchError.
        """
        if not self.places:
            return
        source = PatchedSource(edits.source, in_order(edits.found.patches, edits.source.size))
        window, left = Window(source), _MAX_HEADERS
        for start, names in self.places:
            at = start
            while at + HEAD_BYTES <= source.size and at not in self.starts:
                # behind a forgotten padding byte, the rest of a name ("UNK ") may look like a name
                if (METADATA_NAME if at == start else names).fullmatch(window.read(at, 4)):
                    raise NotThisKindError("readers disagree about the start of its chunks")
                left -= 1
                if left < 0:
                    raise TooMuchError("readers may disagree about too many chunks")
                head = window.read(at, HEAD_BYTES)
                if any(head):
                    size = int.from_bytes(head[4:], "little")
                    at += HEAD_BYTES + size + (size & 1)
                else:
                    blank = skip_zeros(source, at) - at
                    edits.inner.budget.search(blank)
                    at += blank // HEAD_BYTES * HEAD_BYTES


def chunks(
    source: ByteSource, inner: Inner | None, start: int, end: int,
    *, padded: bool = True, doubts: Doubts | None = None,
) -> Iterator[Chunk]:  # fmt: skip
    """Yield the chunks of [start, end), up to bytes that cannot be a chunk. The last chunk may be cut off.
    (ImageMagick 6 writes the name "XMP\\0".)

    A padding byte should follow a chunk of odd size. If a name directly follows the chunk's data, and no name
    begins one byte later, the writer forgot the padding byte. inner: its budget counts the chunks; None if
    the caller counts them. padded: False for formats without padding bytes.
    doubts: collects the places where other readers go on elsewhere. Raises TooMuchError.
    """
    window, at = Window(source), start
    end = min(end, source.size)
    while at + HEAD_BYTES <= end:
        head = window.read(at, HEAD_BYTES)
        told = int.from_bytes(head[4:], "little")
        if LIKELY_NAME.fullmatch(head[:4]) is None:
            following = at + HEAD_BYTES + told + (told & 1 if padded else 0)
            if not any(head[:4]) or not leads_on(window, following, end):
                break
        if inner is not None:
            inner.budget.part()
        size = min(told, end - at - HEAD_BYTES)
        after = at + HEAD_BYTES + size
        if doubts is not None:
            doubts.chunk(at)
            if told > size:
                doubts.places.append((at + HEAD_BYTES + told + (told & 1), LIKELY_NAME))
        if padded and size & 1:
            padding = padding_at(window, after, end)
            if not padding and doubts is not None:
                doubts.places.append((after + 1, LIKELY_NAME))
            after = min(after + padding, end)
        yield Chunk(at, head[:4], size, told == size, after)
        at = after
    if doubts is not None and at < end < source.size:
        doubts.places.append((at, LIKELY_NAME))


def leads_on(window: Window, following: int, end: int) -> bool:
    """Return True if a chunk of an unlikely name ends at the end of its list, or at a likely name."""
    return following == end or (
        following < end and LIKELY_NAME.fullmatch(window.read(following, 4)) is not None
    )


def padding_at(window: Window, after: int, end: int) -> int:
    """Return the length of the padding behind a chunk of odd size: 1, or 0 if the writer forgot the padding
    byte.

    after: end of the chunk's data. Only bytes before `end` count. Bytes behind `end` belong to another chunk,
    and redaction may change the name of that chunk.
    """
    here, there = (window.read(at, max(0, min(4, end - at))) for at in (after, after + 1))
    padded = LIKELY_NAME.fullmatch(there) is not None and here not in _AT_ONCE
    return 1 if padded or after + 1 >= end or LIKELY_NAME.fullmatch(here) is None else 0


def drop(edits: Edits, chunk: Chunk, tells: Tells = UNKNOWN, *, broken: bool = False) -> None:
    """Turn a chunk into padding full of zeros, and record the removal. tells: the categories of its data."""
    tag = printable(chunk.name)
    before = len(edits.found.notes)
    renamed = edits.put(chunk.at, chunk.name, JUNK)
    edits.zero(chunk.start, chunk.next, tag, tells, broken=broken)
    if renamed and len(edits.found.notes) == before:
        edits.note(chunk.at, HEAD_BYTES, tag, tells, broken=broken)


def holds_more(edits: Edits, start: int, end: int) -> bool:
    """Return True if numbers in [start, end) of a file hold a block of metadata, or a place if LOCATION is
    hidden. Raises TooMuchError.
    """
    asked, end = edits.inner.hide & Tells.LOCATION, min(end, edits.source.size)
    return bool(told_in_range(edits.source, start, end, asked, edits.inner.budget, numbers=True))


def pad(edits: Edits, chunk: Chunk) -> None:
    """Zero the padding byte of a chunk that stays."""
    edits.zero(chunk.end, chunk.next, f"behind {printable(chunk.name)}")


def printable(name: bytes) -> str:
    """Return a chunk's name as text."""
    return name.decode("latin-1").strip()

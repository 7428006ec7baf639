"""What locators and the cleaners of metadata blocks have in common.

A **locator** takes a whole file, read by range, and answers with patches. A **cleaner** takes the
bytes of one block (a TIFF structure, an XMP packet, an IPTC record list, an embedded image) and
returns as many bytes in which nothing tells what is to be hidden. A block that cannot be understood
yields None, and whoever holds it blanks it whole: never its raw bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from policyfs.domain import Patch
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.patches import ByteSource, is_blank

MAX_NESTING: Final = 3
"""How many files may be embedded in one another (a thumbnail in a thumbnail in a photo)."""
MAX_PARTS: Final = 50_000
"""Segments, boxes, chunks, elements over a whole file with all that is embedded in it."""
SEARCH_FLOOR_BYTES: Final = 1 << 18
MAX_SEARCHED_BYTES: Final = 1 << 29
"""A file may say that it is a terabyte, and be a hole; no more than this is looked through byte by byte."""
MAX_INFLATED_BYTES: Final = 16 << 20
MAX_TEXTS_BYTES: Final = 3 << 17
"""Free text takes a microsecond a byte where it is made of numbers."""


class NotThisKindError(Exception):
    """The bytes are no file of the kind that they are called. The message says why, for people."""


class TooMuchError(Exception):
    """The file asks for more work than any honest one does."""


class Note(NamedTuple):
    """One thing taken out: where it was (bytes from the block's start), and what it is called.

    tells: what it may have told. broken: it went because its structure could not be understood, so
    that a rule with ``on_unknown: deny`` refuses the file. bare: it is known, and holds nothing of what
    it is there for (a GPS directory with only its version).
    """

    offset: int
    length: int
    container: str
    tag: str
    tells: Tells = UNKNOWN
    broken: bool = False
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A block in which nothing is told: as long as the original, with notes on what was taken out."""

    data: bytes
    notes: tuple[Note, ...] = ()


@dataclass(slots=True)
class Found:
    """What is to be done in a file: patches (any order, never overlapping), and what they take out."""

    patches: list[Patch] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(self, other: Found, by: int = 0) -> None:
        """Takes over what was found in a file that lies `by` bytes into this one."""
        self.patches += [p.shifted(by) for p in other.patches]
        self.notes += shifted(other.notes, by)


@dataclass(slots=True)
class Budget:
    """Work that may be done on one file with all that is in it: parts, bytes searched, and bytes of free
    text looked into, which cost a thousand times as much; bytes that items of tables refer to, which may be
    the same again and again, and bytes that compressed data grow to.
    """

    parts: int
    searched: int
    texts: int = MAX_TEXTS_BYTES
    extents: int = MAX_SEARCHED_BYTES
    inflated: int = MAX_INFLATED_BYTES

    def part(self, count: int = 1) -> None:
        """Counts parts (segments, boxes, chunks). Raises TooMuchError."""
        self.parts -= count
        if self.parts < 0:
            raise TooMuchError("too many parts")

    def search(self, size: int) -> None:
        """Counts bytes that are looked through one by one. Raises TooMuchError."""
        self.searched -= size
        if self.searched < 0:
            raise TooMuchError("too much to look through")

    def search_chunk(self, chunk: bytes) -> bool:
        """Count a chunk that is to be looked through; False if there are only zeros in it.

        Zeros cost twice as much: they may be a hole, which takes its writer nothing and the reader memory.

        Raises TooMuchError.
        """
        blank = is_blank(chunk)
        self.search(2 * len(chunk) if blank else len(chunk))
        return not blank

    def extent(self, size: int) -> None:
        """Count bytes that an item refers to. Raises TooMuchError where items share too many of them."""
        self.extents -= size
        if self.extents < 0:
            raise TooMuchError("too much that its tables refer to")

    def inflate(self, size: int) -> None:
        """Count bytes that compressed data have grown to. Raises TooMuchError."""
        self.inflated -= size
        if self.inflated < 0:
            raise TooMuchError("too much that is compressed")

    def look(self, size: int) -> bool:
        """Whether so many bytes of text may still be looked into; if not, they are as good as unknown."""
        if size > self.texts:
            return False
        self.texts -= size
        return True


def budget_for(source: ByteSource) -> Budget:
    """Enough to search every byte of the file a few times, and to read each for two items."""
    searched = min(4 * source.size + SEARCH_FLOOR_BYTES, MAX_SEARCHED_BYTES)
    return Budget(MAX_PARTS, searched, extents=2 * source.size + SEARCH_FLOOR_BYTES)


class Inner(Protocol):
    """What is to be hidden, and the cleaners of what a file may embed.

    Each cleaner answers None if it does not understand the block.
    """

    @property
    def hide(self) -> Tells:
        """What is to be hidden; a piece goes if ``tells & hide``."""

    @property
    def budget(self) -> Budget:
        """Shared by a file and all that it embeds."""

    def jpeg(self, data: bytes) -> Cleaned | None:
        """An embedded JPEG, from SOI to EOI, with nothing but zeros behind."""

    def tiff(self, data: bytes) -> Cleaned | None:
        """A TIFF structure with EXIF tags, from its byte-order mark on."""

    def xmp(self, data: bytes) -> Cleaned:
        """An XMP packet; one that is not understood comes back empty."""

    def iim(self, data: bytes) -> Cleaned:
        """IPTC-IIM records; what is not understood comes back as zeros."""

    def irb(self, data: bytes) -> Cleaned | None:
        """Photoshop image resource blocks."""

    def image(self, data: bytes) -> Cleaned | None:
        """An embedded still picture of any kind that has a locator, told by its first bytes."""

    def file(self, kind: str, source: ByteSource) -> Found | None:
        """An embedded file of this content kind, read by range (a motion photo's video); None if it
        is none, if its kind has no locator, or if it is embedded too deep.
        """

    def text(self, data: bytes) -> bool:
        """Whether free text of any encoding (a comment, a title, a tag's value) has to go: because
        people's words are hidden, or because coordinates, a moment or a device stand in it and are.
        """


Locator = Callable[[ByteSource, Inner], Found]
"""Finds what is to be hidden in a file of its kind. Raises NotThisKindError, TooMuchError."""


def shifted(notes: Iterable[Note], by: int) -> tuple[Note, ...]:
    """The notes of a block that starts `by` bytes into another, in terms of the other."""
    return tuple(note._replace(offset=note.offset + by) for note in notes)

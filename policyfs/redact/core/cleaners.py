"""Types that locators and cleaners of metadata blocks share.

A **locator** reads a whole file by range and returns patches. A **cleaner** takes the bytes of one
block (a TIFF structure, an XMP packet, an IPTC record list, an embedded image) and returns the same
number of bytes, without the facts to hide. For a block that cannot be understood it returns None, and
the caller blanks the whole block: raw bytes never stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from policyfs.domain import Patch
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.patches import ByteSource, is_blank

MAX_NESTING: Final = 3
"""Depth to which files may be embedded in one another (a thumbnail in a thumbnail in a photo)."""
MAX_PARTS: Final = 50_000
"""Most segments, boxes, chunks and elements in a file, with all files embedded in it."""
SEARCH_FLOOR_BYTES: Final = 1 << 18
MAX_SEARCHED_BYTES: Final = 1 << 29
"""Most bytes searched one by one: a file with the size of a terabyte may be a single hole."""
MAX_INFLATED_BYTES: Final = 16 << 20
MAX_TEXTS_BYTES: Final = 3 << 17
"""Most bytes of free text that are searched: a text of numbers costs a microsecond for each byte."""


class NotThisKindError(Exception):
    """The bytes are not a file of the claimed kind. The message has the reason, for people."""


class TooMuchError(Exception):
    """The file needs more work than its budget allows."""


class Note(NamedTuple):
    """One removed thing: its offset (bytes from the block's start), length and name.

    tells: the categories of facts that it may have held. broken: removed because its structure could not be
    understood, so that a rule with ``on_unknown: deny`` refuses the file. bare: the thing is known, but held
    no data of its categories (a GPS directory with only its version).
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
    """A cleaned block, as long as the original, with notes on the removed parts."""

    data: bytes
    notes: tuple[Note, ...] = ()


@dataclass(slots=True)
class Found:
    """Changes to a file: patches (any order, never overlapping), and notes on the removed parts."""

    patches: list[Patch] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(self, other: Found, by: int = 0) -> None:
        """Add the changes of a file that is embedded `by` bytes into this one."""
        self.patches += [p.shifted(by) for p in other.patches]
        self.notes += shifted(other.notes, by)


@dataclass(slots=True)
class Budget:
    """Work allowed on one file with everything embedded in it.

    A budget counts parts, bytes searched, and bytes of free text, whose search costs a thousand times as
    much. It also counts the bytes to which items of tables refer (many items may refer to the same bytes),
    and the bytes that result from inflating compressed data.
    """

    parts: int
    searched: int
    texts: int = MAX_TEXTS_BYTES
    extents: int = MAX_SEARCHED_BYTES
    inflated: int = MAX_INFLATED_BYTES

    def part(self, count: int = 1) -> None:
        """Count parts (segments, boxes, chunks). Raises TooMuchError."""
        self.parts -= count
        if self.parts < 0:
            raise TooMuchError("too many parts")

    def search(self, size: int) -> None:
        """Count bytes that are searched one by one. Raises TooMuchError."""
        self.searched -= size
        if self.searched < 0:
            raise TooMuchError("too much data to search")

    def search_chunk(self, chunk: bytes) -> bool:
        """Count a chunk before a search; False if it holds only zeros.

        Zeros cost twice as much: they may be a hole, which costs nothing to write, but takes memory when
        read.

        Raises TooMuchError.
        """
        blank = is_blank(chunk)
        self.search(2 * len(chunk) if blank else len(chunk))
        return not blank

    def extent(self, size: int) -> None:
        """Count bytes that an item refers to. Raises TooMuchError if items share too many of them."""
        self.extents -= size
        if self.extents < 0:
            raise TooMuchError("its tables refer to too much data")

    def inflate(self, size: int) -> None:
        """Count bytes that compressed data inflated to. Raises TooMuchError."""
        self.inflated -= size
        if self.inflated < 0:
            raise TooMuchError("too much compressed data")

    def look(self, size: int) -> bool:
        """Count bytes of text; return True if they may be searched. If False, the caller treats the text as
        unknown.
        """
        if size > self.texts:
            return False
        self.texts -= size
        return True


def budget_for(source: ByteSource) -> Budget:
    """Return a budget in which each byte may be searched four times, and referred to by two items."""
    searched = min(4 * source.size + SEARCH_FLOOR_BYTES, MAX_SEARCHED_BYTES)
    return Budget(MAX_PARTS, searched, extents=2 * source.size + SEARCH_FLOOR_BYTES)


class Inner(Protocol):
    """The words to hide, and the cleaners of embedded blocks and files.

    Each cleaner returns None if it does not understand the block.
    """

    @property
    def hide(self) -> Tells:
        """The categories to hide; a piece is removed if ``tells & hide``."""

    @property
    def budget(self) -> Budget:
        """Budget shared by a file and everything embedded in it."""

    def jpeg(self, data: bytes) -> Cleaned | None:
        """Clean an embedded JPEG, from SOI to EOI; only zeros may follow."""

    def tiff(self, data: bytes) -> Cleaned | None:
        """Clean a TIFF structure with EXIF tags, from its byte-order mark on."""

    def xmp(self, data: bytes) -> Cleaned:
        """Clean an XMP packet; return an empty packet if it is not understood."""

    def iim(self, data: bytes) -> Cleaned:
        """Clean IPTC-IIM records; return zeros for records that are not understood."""

    def irb(self, data: bytes) -> Cleaned | None:
        """Clean Photoshop image resource blocks."""

    def image(self, data: bytes) -> Cleaned | None:
        """Clean an embedded still picture of any kind with a locator, recognised by its first bytes."""

    def file(self, kind: str, source: ByteSource) -> Found | None:
        """Locate the parts to hide in an embedded file of this kind, read by range (a motion photo's video).

        None if it is not of that kind, if the kind has no locator, or if it is embedded too deep.
        """

    def text(self, data: bytes) -> bool:
        """True if free text of any encoding (a comment, a title, a tag's value) has to be removed.

        Text must be removed if PEOPLE is hidden, or if it holds coordinates, times or devices that are to be
        hidden. Markup is not recognised, and the budget is not used: new formats call
        tag_names.told_by_named().
        """


Locator = Callable[[ByteSource, Inner], Found]
"""Locates the parts to hide in a file of its kind. Raises NotThisKindError, TooMuchError."""


def shifted(notes: Iterable[Note], by: int) -> tuple[Note, ...]:
    """Shift the notes of a block that starts `by` bytes into another, to offsets of the other."""
    return tuple(note._replace(offset=note.offset + by) for note in notes)

"""Types that locators and cleaners of metadata blocks share.

A **locator** reads a whole file by range and returns patches. A **cleaner** takes the bytes of one block: a
TIFF structure, an XMP packet, an IPTC record list or an embedded image. It returns the same number of bytes,
without the data to hide. If the cleaner does not understand the block, it returns None, or a block without
information. After None the caller removes the whole block, so that original bytes never stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from policyfs.domain import Patch
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.patches import ByteSource, is_blank

MAX_NESTING: Final = 3
"""Maximum depth of files embedded in other files (a thumbnail in a thumbnail in a photo)."""
MAX_PARTS: Final = 50_000
"""Maximum number of segments, boxes, chunks and elements in a file. (Films and sound have more limits.)"""
SEARCH_FLOOR_BYTES: Final = 1 << 18
MAX_SEARCHED_BYTES: Final = 1 << 29
"""Maximum number of bytes searched one by one: a sparse file takes no room on the disk."""
MAX_INFLATED_BYTES: Final = 16 << 20
MAX_TEXTS_BYTES: Final = 3 << 17
"""Maximum number of bytes of free text that are searched. In numbers, each takes a microsecond."""


class NotThisKindError(Exception):
    """The bytes are not a file of the kind that the caller stated, or cannot be redacted as such a file. The
    message has the reason, for people.
    """


class TooMuchError(Exception):
    """The file needs more work than its budget (Budget) allows."""


class Note(NamedTuple):
    """A record of one removed part: its offset (bytes from the block's start), its length, format and name.

    tells: the categories of the data that the part may have held. broken: True if the part was removed
    because its structure was not understood; a rule with ``on_unknown: deny`` then refuses the file. bare:
    True if the part is known, but held no data of its categories (a GPS directory with only its version).
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
    """A cleaned block, as long as the original, and a record (Note) of each removed part."""

    data: bytes
    notes: tuple[Note, ...] = ()


@dataclass(slots=True)
class Found:
    """The changes to a file: patches (in any order, never overlapping), and a record (Note) of each removed
    part.

    frames: the frames of a film that were not searched, because the caller searches them later
    (Inner.frames_later); None if there are none.
    """

    patches: list[Patch] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    frames: FrameTable | None = None

    def add(self, other: Found, by: int = 0) -> None:
        """Add the changes of a file that is embedded in this file, at the offset `by` in bytes."""
        self.patches += [p.shifted(by) for p in other.patches]
        self.notes += shifted(other.notes, by)


@dataclass(slots=True)
class Budget:
    """The work that is still allowed on one file and on all files embedded in the file.

    parts: segments, boxes, chunks. searched: bytes searched one by one. texts: bytes of free text; the search
    of one such byte costs as much as a thousand bytes of *searched*. extents: bytes to which items of tables
    refer. Bytes to which two items refer count twice. inflated: bytes of inflated data. told: a dictionary
    from the text of a message in a frame (bitstreams/sei.py) to the categories found in the text. Encoders
    repeat such texts, but each text is searched only once.
    """

    parts: int
    searched: int
    texts: int = MAX_TEXTS_BYTES
    extents: int = MAX_SEARCHED_BYTES
    inflated: int = MAX_INFLATED_BYTES
    told: dict[bytes, Tells] = field(default_factory=dict)

    def become(self, other: Budget) -> None:
        """Allow the same work as another budget. (The frames of a film have a budget each.)"""
        self.parts, self.searched, self.texts = other.parts, other.searched, other.texts
        self.extents, self.inflated = other.extents, other.inflated

    def part(self, count: int = 1) -> None:
        """Count parts (segments, boxes, chunks) of the file. Raises TooMuchError if the budget is used up."""
        self.parts -= count
        if self.parts < 0:
            raise TooMuchError("it has too many parts (such as segments, boxes, chunks or tags)")

    def search(self, size: int) -> None:
        """Count bytes that are searched one by one. Raises TooMuchError if the budget is used up."""
        self.searched -= size
        if self.searched < 0:
            raise TooMuchError("too much data to search")

    def search_chunk(self, chunk: bytes) -> bool:
        """Count a chunk before a search; return False if it holds only zeros. Raises TooMuchError.

        Zeros cost twice as much as other bytes, because they may be a hole in a sparse file. A hole costs the
        writer nothing, but it takes memory when it is read.
        """
        blank = is_blank(chunk)
        self.search(2 * len(chunk) if blank else len(chunk))
        return not blank

    def extent(self, size: int) -> None:
        """Count bytes to which an item of a table refers. Raises TooMuchError."""
        self.extents -= size
        if self.extents < 0:
            raise TooMuchError("too many entries of its tables refer to the same data")

    def inflate(self, size: int) -> None:
        """Count bytes of inflated data. Raises TooMuchError if the budget is used up."""
        self.inflated -= size
        if self.inflated < 0:
            raise TooMuchError(
                "it has too much compressed or encoded data (policyfs decodes at most"
                f" {MAX_INFLATED_BYTES >> 20} MiB of a file)"
            )

    def look(self, size: int) -> bool:
        """Count bytes of free text; return True if it may be searched, False if it counts as unknown."""
        if size > self.texts:
            return False
        self.texts -= size
        return True


def budget_for(source: ByteSource) -> Budget:
    """Return the budget of a file, by its size.

    All searches together may read four times the file's size, but at most MAX_SEARCHED_BYTES. The items of
    tables may refer to twice the file's size in all. SEARCH_FLOOR_BYTES are added to both sizes, for small
    files.
    """
    searched = min(4 * source.size + SEARCH_FLOOR_BYTES, MAX_SEARCHED_BYTES)
    return Budget(MAX_PARTS, searched, extents=2 * source.size + SEARCH_FLOOR_BYTES)


class Inner(Protocol):
    """The categories to hide, and the cleaners of blocks and files that are embedded in a file.

    Most cleaners return None if they do not understand the block. xmp() and iim() return a block in any case.
    """

    @property
    def hide(self) -> Tells:
        """The categories to hide. A part is removed if ``tells & hide`` is not empty."""

    @property
    def frames_later(self) -> bool:
        """True if the locator of a film may leave the search of its frames to its caller (Found.frames)."""
        return False

    @property
    def budget(self) -> Budget:
        """The budget that a file shares with all files embedded in it."""

    def jpeg(self, data: bytes) -> Cleaned | None:
        """Clean an embedded JPEG file, from its SOI (start of image) on."""

    def tiff(self, data: bytes) -> Cleaned | None:
        """Clean a TIFF structure with EXIF tags, from its byte-order mark on."""

    def xmp(self, data: bytes) -> Cleaned:
        """Clean an XMP packet; return an empty packet if the packet is not understood."""

    def iim(self, data: bytes) -> Cleaned:
        """Clean IPTC-IIM records; return zeros for records that are not understood."""

    def irb(self, data: bytes) -> Cleaned | None:
        """Clean Photoshop image resource blocks."""

    def image(self, data: bytes) -> Cleaned | None:
        """Clean an embedded still picture. Its first bytes show its kind, which must have a locator."""

    def file(self, kind: str, source: ByteSource) -> Found | None:
        """Locate the parts to hide in an embedded file of this kind, read by range (a motion photo's video).

        Return None if the file is not of that kind, if the kind has no locator, or if the file is embedded
        too deep.
        """

    def text(self, data: bytes) -> bool:
        """Return True if free text of any encoding (a comment, a title, a tag's value) must be removed.

        Text must be removed in three cases: PEOPLE is hidden; the text holds coordinates, times or devices
        that must be hidden; the budget for texts is used up. This method does not recognise markup. So code
        for a new format calls tag_names.told_by_named() instead.
        """


Locator = Callable[[ByteSource, Inner], Found]
"""Function that locates the parts to hide in a file of one kind. Raises NotThisKindError, TooMuchError."""


def shifted(notes: Iterable[Note], by: int) -> tuple[Note, ...]:
    """Return the records of an embedded block with offsets in the outer one, in which it starts at *by*."""
    return tuple(note._replace(offset=note.offset + by) for note in notes)

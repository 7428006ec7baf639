"""What the cleaners of metadata blocks have in common.

A cleaner takes the bytes of one block (a TIFF structure, an XMP packet, an IPTC record list, an
embedded image) and returns as many bytes in which nothing tells a place. A block that cannot
be understood yields None, and whoever holds it blanks it whole: never its raw bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

MAX_NESTING: Final = 3
"""How many images may be embedded in one another (a thumbnail in a thumbnail in a photo)."""


class Note(NamedTuple):
    """One thing found in a block: where (bytes from the block's start), and what it is called."""

    offset: int
    length: int
    container: str
    tag: str


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A block without places: as long as the original, with notes on what was taken out."""

    data: bytes
    notes: tuple[Note, ...] = ()


class Inner(Protocol):
    """Cleaners of blocks that other blocks embed; each answers None if it does not understand."""

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


def shifted(notes: Iterable[Note], by: int) -> tuple[Note, ...]:
    """The notes of a block that starts `by` bytes into another, in terms of the other."""
    return tuple(note._replace(offset=note.offset + by) for note in notes)

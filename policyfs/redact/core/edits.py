"""Collector of the changes to one file: patches, and a record (Note) of each removed part."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Found, Inner, Note, shifted
from policyfs.redact.core.filler import range_says_nothing
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource, difference, zeros

MAX_BLOCK_BYTES: Final = 8 << 20
"""Maximum size of a metadata block (exif/containers.py: of items and boxes). A larger one is removed."""


@dataclass(slots=True)
class Edits:
    """The changes that a locator has made so far to one file. Offsets and sizes are in bytes of the source.

    container: the format's name in the records of removed parts. Arguments of the methods: *tag* is the name
    of a removed part, *tells* the categories of the data that the part may hold. *broken* is True if the part
    was not understood.
    """

    source: ByteSource
    inner: Inner
    container: str
    found: Found = field(default_factory=Found)

    def put(self, offset: int, old: bytes, new: bytes) -> bool:
        """Replace the bytes *old* at an offset by *new*; return True if *old* and *new* differ."""
        patches = list(difference(offset, old, new))
        self.found.patches += patches
        return bool(patches)

    def zero(self, start: int, end: int, tag: str, tells: Tells = UNKNOWN, *, broken: bool = False) -> None:
        """Zero the bytes [start, end); record the removal of the part *tag* if any was not zero."""
        end = min(end, self.source.size)
        patches = list(zeros(self.source, start, end))
        if patches:
            self.found.patches += patches
            self.note(start, end - start, tag, tells, broken=broken)

    def trailer(self, start: int, end: int, *, broken: bool = False) -> None:
        """Zero the bytes behind a picture or sound. Filler stays, unless *broken*."""
        end = min(end, self.source.size)
        if broken or not range_says_nothing(self.source, start, end):
            self.zero(start, end, "trailer", broken=broken)

    def note(
        self, offset: int, length: int, tag: str, tells: Tells = UNKNOWN, *, broken: bool = False
    ) -> None:
        """Record that a part of the file was removed: its offset, its length and its name *tag*."""
        self.found.notes.append(Note(offset, length, self.container, tag, tells, broken))

    def block(self, offset: int, old: bytes, cleaned: Cleaned) -> None:
        """Replace the block *old* by its cleaned form, with the records of its removed parts."""
        if self.put(offset, old, cleaned.data):
            self.found.notes += shifted(cleaned.notes, offset)

    def search(self, pattern: re.Pattern[bytes], start: int, end: int, longest: int) -> int | None:
        """Return the offset of the first match, of *longest* bytes at most, or None. Raises TooMuchError."""
        end = min(end, self.source.size)
        self.inner.budget.search(max(0, end - start))
        for at in range(start, end, CHUNK_BYTES):
            match = pattern.search(self.source.read(at, min(CHUNK_BYTES + longest, end - at)))
            if match is not None:
                return at + match.start()
        return None

"""Walk over the directories of a TIFF structure. The walk records the bytes of the directories, and decides
which entries stay.

The walk is the base of tiff_walk.py (whole TIFF files, raws and maker notes, by range) and of exif.py (EXIF
in other files, in memory). The result is the set of bytes that stay, and patches within these bytes. Every
other byte becomes zero. So data to which no kept tag refers does not stay by accident.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from policyfs.domain import Patch
from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note, TooMuchError
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.patches import ByteSource, difference
from policyfs.redact.exif.empty_values import are_too_many, number_of
from policyfs.redact.exif.ifd import (
    NUMBER_TYPES,
    Directory,
    Entry,
    Frame,
    directory_shape,
    read_directory,
)
from policyfs.redact.exif.rules import UNNAMED, How, Rule, Rules

MAX_NUMBERS: Final = 260_000
"""Maximum number of offsets and lengths of strips or tiles: enough for 8 gigapixels in tiles of 256 x 256."""
MAKE: Final = 0x010F
MODEL: Final = 0x0110
LATE: Final = frozenset({How.NOTE, How.PRIVATE})
"""Values that the walk examines last in their directory: they depend on maker and model."""


@dataclass(slots=True)
class IfdWalk(ABC):
    """The walk over the directories of one TIFF structure.

    Callers open the known directories, then call walk(). Further steps depend on the kind of structure. The
    result is *kept* (ranges that stay) and *patches*. name: the container's name in findings. names: a
    dictionary from the role of a directory to the names of its tags.
    """

    MAX_ENTRIES: ClassVar[int]
    """Maximum number of entries in one TIFF directory (IFD)."""
    CHAINS_CHILDREN: ClassVar[bool]
    """True if a directory to which a tag refers may have a pointer to a next directory."""
    FIRST_BYTE: ClassVar[int]
    """Lowest offset of a value."""
    WIPES_UNNAMED: ClassVar[bool]
    """True if removed values of unnamed tags are marked, so that no other value keeps them."""

    source: ByteSource
    inner: Inner
    name: str = "TIFF"
    names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    make: bytes = b""
    model: bytes = b""
    directories: list[Directory] = field(default_factory=list)
    structure: Extents = field(default_factory=Extents)
    """Bytes of the header, of directories, and of other parts that no value may overlap."""
    values: Extents = field(default_factory=Extents)
    """Bytes of kept values that stay unchanged."""
    embedded: Extents = field(default_factory=Extents)
    """Bytes of kept blocks and pictures, which were cleaned in their place."""
    wiped: Extents = field(default_factory=Extents)
    """Bytes of removed parts, which may not stay as a part of any other value."""
    wiped_in_notes: Extents = field(default_factory=Extents)
    """Removed bytes outside of their maker note, which no value of a maker note may keep."""
    kept: list[tuple[int, int]] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    doomed: list[tuple[int, int, bool]] = field(default_factory=list)
    """Removed values, until settle_wiped() adds them to *wiped* (False) or *wiped_in_notes* (True)."""
    learnt: list[Entry] = field(default_factory=list)
    """The entries that stated *make* and *model*."""
    decided: int = 0
    """Number of directories whose entries were examined already."""
    numbers_left: int = MAX_NUMBERS

    # --- differences between the kinds of structures ---

    @abstractmethod
    def _admit(self, count: int) -> None:
        """Count a new directory. Raises TooMuchError or NotThisKindError if there are too many."""

    @abstractmethod
    def _rules(self, directory: Directory) -> Rules:
        """Return the rules for the tags of a directory."""

    @abstractmethod
    def _before_words(self, entry: Entry) -> bool | None:
        """Return True if the entry stays, False if it goes, None if its categories decide."""

    @abstractmethod
    def _says_nothing(self, entry: Entry, rule: Rule) -> bool:
        """Return True if an entry with data to hide may stay, because its value has no information."""

    @abstractmethod
    def _by_form(self, entry: Entry, rule: Rule) -> bool | None:
        """Return True if the form of an allowed entry lets it stay, False if it goes, None if its value
        decides.
        """

    @abstractmethod
    def _refers(self, entry: Entry, rule: Rule) -> bool:
        """Return True if a tag that refers to directories has a valid type and count."""

    @abstractmethod
    def _told(self, entry: Entry, asked: Tells) -> Tells:
        """Return the categories of a value. Texts are searched for *asked*; a block of metadata tells all."""

    @abstractmethod
    def _follow(self, directory: Directory) -> None:
        """Open the next directory, to which the end of this directory points."""

    # --- opening directories ---

    def open(
        self, at: int, frame: Frame, role: str, *, chained: bool, referrer: Entry | None = None
    ) -> Directory | None:
        """Open the directory at an offset of the source, and record the bytes of the directory as used.

        role: the directory's role, such as "ExifIFD". chained: True if a pointer to a next directory follows
        the entries. referrer: the entry that refers to the directory. Return None if no directory can be
        there. Raises TooMuchError, NotThisKindError.
        """
        shape = directory_shape(self.source, at, frame, chained=chained)
        if shape is None or shape.entries > self.MAX_ENTRIES or self.structure.hits(at, shape.end):
            return None  # the directory is cut off, or is in a loop, or overlaps another one
        self._admit(shape.entries)
        directory = read_directory(self.source, at, frame, role, shape)
        directory.referrer = referrer
        self.structure.add(at, directory.end)
        self.directories.append(directory)
        return directory

    def open_next(self, directory: Directory) -> bool:
        """Open the directory to which the end of *directory* points; False if none can be there."""
        at = directory.frame.base + directory.following
        following = self.open(at, directory.frame, directory.role, chained=True)
        if following is not None:
            directory.next, following.previous = following, directory
        return following is not None

    def _children(self, entry: Entry, rule: Rule) -> bool:
        """Open the directories to which a tag refers; if one cannot be opened, drop the tag, return False."""
        tells, frame = rule.tells or UNKNOWN, entry.frame
        if not self._refers(entry, rule):
            return self.drop(entry, tells, broken=True)
        chained = self.CHAINS_CHILDREN and rule.role == entry.directory.role and not frame.note
        offsets = [frame.base + n for n in self.numbers(entry)]
        if frame.note and not entry.inline:
            offsets = [entry.start]  # the directory is the value
            entry.nested = entry.holds = True
        opened: list[Directory] = []
        for at in offsets:
            child = self.open(at, frame, rule.role, chained=chained, referrer=entry)
            if child is None:
                # The opened directories lose their entries, so none of them is kept. Their bytes stay
                # claimed, so that no other part can be there.
                for other in opened:
                    other.entries.clear()
                return self.drop(entry, tells, broken=True)
            opened.append(child)
        return True

    # --- deciding on tags ---

    def walk(self) -> None:
        """Open all referenced directories, and decide on each tag; later steps may remove more."""
        while self.decided < len(self.directories):
            directory = self.directories[self.decided]
            self.decided += 1
            rules = self._rules(directory)
            directory.crowded = not directory.frame.note and are_too_many(
                number_of(entry)
                for entry in directory.entries
                if rules.get(entry.tag, UNNAMED).tells == UNKNOWN
            )
            for late in (False, True):
                for entry in directory.entries:
                    rule = rules.get(entry.tag, UNNAMED)
                    if (rule.how in LATE) == late:
                        entry.keep = self._keep(entry, rule)
                if not late:
                    self._learn(directory)
            if directory.chained and directory.following:
                self._follow(directory)

    def _learn(self, directory: Directory) -> None:
        """Read maker and model from tags that stay: the meaning of a maker note depends on them."""
        if directory.frame.note:
            return
        for entry in directory.entries:
            if entry.keep and entry.tag == MAKE and not self.make:
                self.make = self.value(entry, 64).rstrip(b"\0 ")
                self.learnt.append(entry)
            elif entry.keep and entry.tag == MODEL and not self.model:
                self.model = self.value(entry, 64).rstrip(b"\0 ")
                self.learnt.append(entry)

    def _keep(self, entry: Entry, rule: Rule) -> bool:
        judged = self._before_words(entry)
        if judged is not None:
            return judged
        if rule.tells & self.inner.hide:
            if self._says_nothing(entry, rule):
                return True
            if rule.tells != UNKNOWN or self.WIPES_UNNAMED:
                self.wipe(entry)
            return self.drop(entry, rule.tells)
        judged = self._by_form(entry, rule)
        if judged is not None:
            return judged
        if rule.how is How.DIRECTORY:
            return self._children(entry, rule)
        if rule.how is not How.VALUE:
            entry.nested = not entry.inline
            entry.picture = entry.nested and rule.how is How.PICTURE
            return entry.nested or self.drop(entry, UNKNOWN, broken=True)
        asked = self.inner.hide if rule.tells else self.inner.hide & Tells.LOCATION
        told = self._told(entry, asked)
        return not told or self.drop(entry, rule.tells | told)

    def drop(self, entry: Entry, tells: Tells, *, broken: bool = False) -> bool:
        """Remove an entry, and record the removal. Always return False: the entry does not stay."""
        entry.keep = False
        role = entry.directory.role
        tag = f"{role}:{self.names.get(role, {}).get(entry.tag, f'0x{entry.tag:04x}')}"
        self.note(entry.position, len(entry.raw), tag, tells, broken=broken, bare=entry.bare)
        return False

    def note(
        self, at: int, size: int, tag: str, tells: Tells, *, broken: bool = False, bare: bool = False
    ) -> None:
        """Record that a part was removed. The arguments are the fields of a Note."""
        self.notes.append(Note(at, size, self.name, tag, tells, broken, bare))

    def wipe(self, entry: Entry) -> None:
        """Mark a removed value: it cannot stay as a part of another one, or of pixels."""
        if not entry.inline and self.within(entry):
            elsewhere = entry.frame.note and not entry.frame.owns(entry.start, entry.end)
            self.doomed.append((entry.start, entry.end, elsewhere))

    def settle_wiped(self) -> None:
        """Compute *wiped* and *wiped_in_notes* from *doomed*, without directories, which are examined."""
        for wiped, elsewhere in ((self.wiped, False), (self.wiped_in_notes, True)):
            spans = Extents((start, end) for start, end, other in self.doomed if other == elsewhere)
            for start, end in spans.without(self.structure):
                wiped.add(start, end)
        self.doomed.clear()

    # --- values ---

    def within(self, entry: Entry) -> bool:
        """Return True if a value is within the source."""
        return self.FIRST_BYTE <= entry.start <= self.source.size - entry.size

    def value(self, entry: Entry, limit: int | None = None) -> bytes:
        """Read a value, or up to limit bytes of it."""
        size = entry.size if limit is None else min(entry.size, limit)
        return self.source.read(entry.start, size) if entry.start >= 0 else b""

    def numbers(self, entry: Entry) -> list[int]:
        """Read the numbers of a value; return [] if its type is not whole numbers. Raises TooMuchError."""
        letter = NUMBER_TYPES.get(entry.type)
        if letter is None or entry.end > self.source.size:
            return []
        self.numbers_left -= entry.count
        if self.numbers_left < 0:
            raise TooMuchError("too many strips or tiles")
        return list(struct.unpack(f"{entry.frame.order}{entry.count}{letter}", self.value(entry)))

    def free(self, start: int, end: int) -> bool:
        """Return True if these bytes are within the source, and belong to no other part."""
        claims = (self.structure, self.embedded, self.values, self.wiped)
        return 0 <= start < end <= self.source.size and not any(c.hits(start, end) for c in claims)

    def clean_block(self, how: How, data: bytes) -> Cleaned | None:
        """Return *data* of the format *how* (XMP, IPTC, Photoshop) without hidden metadata, or None."""
        if how is How.XMP:
            return self.inner.xmp(data)
        return self.inner.iim(data) if how is How.IIM else self.inner.irb(data)

    # --- the result ---

    def unlink_empty(self, *, spare: bool) -> None:
        """Remove directories that keep no entry, and the references to these directories.

        A directory is removed before the directories that refer to it. The first directory stays, because a
        TIFF must have one, and the other directories are chained to it. spare: True to keep directories that
        had no entry before any change.
        """
        for directory in reversed(self.directories[1:]):
            if not (directory.dropped or directory.holds_any or (spare and directory.was_empty)):
                self._unlink(directory)

    def _unlink(self, directory: Directory) -> None:
        if directory.referrer is not None and directory.next is None:
            if directory.referrer.count == 1 or directory.frame.note:
                directory.referrer.keep = False
                directory.dropped = True
        elif directory.previous is not None:
            directory.previous.next = directory.next
            if directory.next is not None:
                directory.next.previous = directory.previous
            directory.dropped = True

    def keep_directory(self, directory: Directory) -> None:
        """Keep a directory with its remaining entries, and those values that stay unchanged."""
        self.kept.append((directory.offset, directory.end))
        self.kept += directory.covers
        self.patches += difference(directory.offset, directory.old, directory.rebuilt())
        self.kept += plain_values(directory)


def plain_values(directory: Directory) -> Iterator[tuple[int, int]]:
    """Yield the ranges of kept values that are stored outside of their entries and do not change."""
    for entry in directory.entries:
        if entry.keep and not entry.inline and not entry.nested:
            yield entry.start, entry.end

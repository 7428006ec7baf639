"""Cleaner of TIFF structures with EXIF tags (Exif 2.32, TIFF 6.0): the walk over a source in memory.

The result holds the header, the directories with their known tags, and the values of these tags. All other
bytes become zeros, except filler (bytes without information, core/filler.py). So data to which no kept
tag refers does not stay by accident. Examples are padding, a GPS directory without a pointer, and a GPS
directory with a pointer that is wrong by some bytes. When a tag is removed, the later tags of its directory
move up, as if the tag had never been there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note, NotThisKindError, shifted
from policyfs.redact.core.filler import is_uniform, is_word, leftovers
from policyfs.redact.core.free_text import BYTES_PER_PART, told_in
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import MemorySource, apply, difference
from policyfs.redact.exif import tags
from policyfs.redact.exif.empty_values import is_version_alone, number_of, unnamed_says_nothing
from policyfs.redact.exif.ifd import Directory, Entry, Frame, read_entries, read_header
from policyfs.redact.exif.ifd_walk import MAKE, MODEL, IfdWalk, plain_values
from policyfs.redact.exif.makernotes import OVERRUN_BYTES, clean_note
from policyfs.redact.exif.rules import UNNAMED, How, Rule, Rules
from policyfs.redact.exif.tags import GPS, IMAGE, TagTable

MAX_DIRECTORIES: Final = 32
MAX_ENTRIES: Final = 1000
"""Maximum number of entries in all directories of one structure. Real structures have at most about 150."""
_ENTRY_BYTES: Final = 12
_POINTER_TYPES: Final = (4, 13)
_WHOLE_NUMBERS: Final = (1, 3, 4, 6, 8, 9, 13)
"""Field types of pointers that some readers accept, though Exif demands LONG."""
_RATIONAL: Final = 5
_TEXTS: Final = (2, 129)
_NO_PLACES: Final = {
    0x00: re.compile(rb"[\0-\x09]{4}|[0-9]{4}"),
    0x09: re.compile(rb"[AV]?[\0 ]*"),
    0x12: re.compile(rb"(?:BD|CGCS|ETRS|GCJ|ITRF|JGD|NAD|TOKYO|WGS)?[- ]?[0-9]{0,4}[\0 ]*", re.IGNORECASE),
}
"""GPSVersionID, GPSStatus, GPSMapDatum without a place, as cameras write them (Exif 2.32, 4.6.6)."""
_PAIRS: Final = (
    (tags.JPEG_OFFSET, tags.JPEG_LENGTH),
    (tags.STRIP_OFFSETS, tags.STRIP_LENGTHS),
    (tags.TILE_OFFSETS, tags.TILE_LENGTHS),
)


@dataclass(slots=True)
class Blob:
    """Data to which a pair of entries refers, by offset and length: a thumbnail, a strip of pixels."""

    start: int
    size: int
    entries: tuple[Entry, ...]


def clean_tiff(block: bytes, inner: Inner, table: TagTable = tags.EXIF_TABLE) -> Cleaned | None:
    """Clean a TIFF structure; None if it is not understood. If no tag stays, a directory does."""
    walk = _ExifWalk(
        MemorySource(block), inner, table.name, tags.NAMES, numbers_left=sys.maxsize, block=block, table=table
    )
    try:
        return walk.clean()
    except NotThisKindError:
        return None


@dataclass(slots=True)
class _ExifWalk(IfdWalk):
    """The walk over the directories of one structure with EXIF tags."""

    MAX_ENTRIES: ClassVar[int] = 0xFFFF
    CHAINS_CHILDREN: ClassVar[bool] = False
    FIRST_BYTE: ClassVar[int] = 8
    WIPES_UNNAMED: ClassVar[bool] = False

    block: bytes = field(kw_only=True)
    table: TagTable = field(kw_only=True)
    frame: Frame = field(init=False)
    entries: int = 0
    places: list[tuple[int, int]] = field(default_factory=list)
    """Bytes of removed GPS directories. The record of the removed GPS tag covers these bytes, too."""
    replaced: list[tuple[int, bytes, tuple[Entry, ...]]] = field(default_factory=list)

    def clean(self) -> Cleaned:
        header = read_header(self.source, tags.TYPE_SIZES)
        if header is None or header.magic != 42:
            raise NotThisKindError("it does not start like a TIFF")
        self.structure.add(0, header.size)
        self.frame = header.frame
        root = self.open(header.first, self.frame, IMAGE, chained=True)
        if root is None:
            raise NotThisKindError("there is no TIFF directory (IFD) in it")
        if not root.entries and not root.following and self.block[root.end :].strip(b"\0"):
            raise NotThisKindError("its TIFF directory (IFD) has no entries, but other data follows")
        self.walk()
        if any(self.structure.hits(start, end) for start, end, _ in self.doomed):
            raise NotThisKindError("a value overlaps a TIFF directory (IFD)")
        self.settle_wiped()
        for start, end in Extents(self._removed_values()).without(self.structure):
            self.wiped.add(start, end)  # also of tags without a known name, which may overlap directories
        blobs = [blob for directory in self.directories for blob in self._blobs(directory)]
        self._claim_values()
        self._clean_nested(blobs)
        self.unlink_empty(spare=True)
        self._finish()
        return Cleaned(self._built(), tuple(self.notes))

    # --- deciding on tags ---

    def _admit(self, count: int) -> None:
        self.entries += count
        if len(self.directories) >= MAX_DIRECTORIES or self.entries > MAX_ENTRIES:
            raise NotThisKindError("too many TIFF directories (IFDs) or tags")

    def _rules(self, directory: Directory) -> Rules:
        self.inner.budget.part(2 * len(directory.entries))
        return self.table.rules[directory.role]

    def _follow(self, directory: Directory) -> None:
        if self.table.following & self.inner.hide:
            self.note(directory.end - 4, 4, "next IFD", self.table.following)
        else:
            self.open_next(directory)

    def _refers(self, entry: Entry, rule: Rule) -> bool:
        several = rule.role == IMAGE and entry.count <= MAX_DIRECTORIES
        return entry.type in _POINTER_TYPES and (entry.count == 1 or several)

    def _before_words(self, entry: Entry) -> bool | None:
        entry.nested = entry.tag in tags.NESTED
        if entry.tag == tags.GPS_IFD and self._look_at_gps(entry):
            return self._children(entry, tags.EXIF_TABLE.rules[IMAGE][tags.GPS_IFD])
        if entry.tag == tags.MAKER_NOTE and self.table is tags.EXIF_TABLE:
            return not entry.inline or self._says_nothing(entry, UNNAMED) or self.drop(entry, UNKNOWN)
        return None

    def _says_nothing(self, entry: Entry, rule: Rule) -> bool:
        directory = entry.directory
        of_gps = self.table.rules[directory.role] is tags.EXIF_TABLE.rules[GPS]
        if of_gps and is_version_alone(directory.entries) and not self.inner.hide & Tells.OTHER:
            return True
        possible = rule.tells == UNKNOWN and (directory.role != GPS or entry.tag == tags.MAKER_NOTE)
        if not possible or not entry.size or not self.within(entry) or entry.tag in tags.POINTERS:
            return False
        if directory.crowded and number_of(entry):
            return False
        self.inner.budget.search(entry.size)
        return unnamed_says_nothing(entry, self.value(entry))

    def _by_form(self, entry: Entry, rule: Rule) -> bool | None:
        if entry.type not in tags.TYPE_SIZES or not self.within(entry):
            return self.drop(entry, UNKNOWN, broken=entry.tag | entry.type != 0)
        if entry.count:
            return None
        if rule.how is How.DIRECTORY:
            return self.drop(entry, UNKNOWN, broken=True)
        entry.raw = entry.raw[:8] + bytes(4)
        return True

    def _told(self, entry: Entry, asked: Tells) -> Tells:
        value = self.value(entry)
        if entry.tag == tags.PRINT_IM and not value.startswith(b"PrintIM\0"):
            return UNKNOWN
        self.inner.budget.part(entry.size // BYTES_PER_PART)
        people = self.table.rules[entry.directory.role].get(entry.tag, UNNAMED).tells & Tells.PEOPLE
        numbers = entry.type not in tags.TEXT_TYPES and not people  # readers take people's words in any type
        whole = not numbers and (self.table is tags.EXIF_TABLE or entry.type in _TEXTS)
        if whole and asked and (told := self._told_in_text(value, asked)):
            return told
        return told_in_kept(value, NOTHING if whole else asked, self.inner.budget, numbers=numbers)

    def _told_in_text(self, value: bytes, asked: Tells) -> Tells:
        return told_in(value, asked) if self.inner.budget.look(len(value)) else asked

    # --- GPS directories that are removed as a whole ---

    def _look_at_gps(self, pointer: Entry) -> bool:
        """Set ``pointer.bare`` if no tag of the GPS directory has a place. Return True if it has only its
        version, and may stay. Mark its bytes as removed otherwise, so that none stays as a part of another
        value.
        """
        width, size = tags.TYPE_SIZES.get(pointer.type, 0), len(self.block)
        if pointer.type not in _WHOLE_NUMBERS or not pointer.count or not self.within(pointer):
            return False
        offset = self.frame.number(self.value(pointer, width))
        if not 8 <= offset <= size - 2:
            return False
        entries = read_entries(self.source, offset, self.frame, tags.GPS_TAGS_END)
        self.inner.budget.part(len(entries))
        count = self.frame.number(self.source.read(offset, 2))
        pointer.bare = count == len(entries) and all(self._is_no_place(entry) for entry in entries)
        if not self.inner.hide & Tells.LOCATION:
            return False
        if count == 1 and is_version_alone(entries) and not self.inner.hide & Tells.OTHER:
            return self.table is tags.EXIF_TABLE
        end = offset + 2 + _ENTRY_BYTES * len(entries)
        places = [(offset, min(end + 4, size))]
        places += [(each.start, each.end) for each in entries if not each.inline and self.within(each)]
        self.places += places
        for start, stop in places if pointer.bare else ():
            self.note(start, stop - start, "GPS without a place", Tells.LOCATION, bare=True)
        for entry in entries:
            known = entry.tag < tags.GPS_TAGS_END and not entry.inline
            if known and entry.end <= size:
                self.doomed.append((entry.start, entry.end, False))
                self.doomed.append((entry.position, entry.position + _ENTRY_BYTES, False))
        return False

    def _is_no_place(self, entry: Entry) -> bool:
        if entry.type not in tags.TYPE_SIZES or not self.within(entry):
            return False
        self.inner.budget.search(entry.size)
        value = self.value(entry)
        if entry.tag in _NO_PLACES and _NO_PLACES[entry.tag].fullmatch(value):
            return True
        if entry.type == _RATIONAL:
            return not any(value[at::8].strip(b"\0") for at in range(4))
        return not value.strip(b"\0 ")

    # --- values outside of directories ---

    def _claim_values(self) -> None:
        for directory in self.directories:
            for entry in directory.entries:
                if not entry.keep or entry.inline or entry.nested:
                    continue
                if any(claim.hits(entry.start, entry.end) for claim in (self.structure, self.wiped)):
                    if entry.tag == tags.SUB_IFDS:
                        raise NotThisKindError("its TIFF directories (IFDs) overlap")
                    self.drop(entry, UNKNOWN, broken=True)
                else:
                    self.values.add(entry.start, entry.end)

    def _blobs(self, directory: Directory) -> list[Blob]:
        found: list[Blob] = []
        for pair in _PAIRS:
            two = [[e for e in directory.entries if e.keep and e.tag == tag] for tag in pair]
            ends = (*two[0], *two[1])
            starts, lengths = (self._numbers(entries) for entries in two)
            if ends and (len(starts) != len(lengths) or not starts):
                for entry in ends:
                    self.drop(entry, UNKNOWN, broken=True)
            elif ends:
                found += [Blob(a, n, ends) for a, n in zip(starts, lengths, strict=True)]
        return found

    def _numbers(self, entries: list[Entry]) -> list[int]:
        single = len(entries) == 1 and entries[0].type in (3, 4)
        return self.numbers(entries[0]) if single else []

    def _clean_nested(self, blobs: list[Blob]) -> None:
        """Clean embedded blocks and thumbnails. Remove each of them that shares bytes with another part."""
        for directory in self.directories:
            for entry in directory.entries:
                if not entry.keep or not entry.nested:
                    continue
                if entry.tag == tags.MAKER_NOTE:
                    kept = self._keep_note(entry) or self._is_no_note(entry)
                    entry.keep = kept or self.drop(entry, UNKNOWN)
                else:
                    value = Blob(entry.start, entry.size, (entry,))
                    cleaned = self.clean_block(tags.NESTED[entry.tag], self.value(entry))
                    if not self._embed(value, cleaned):
                        self.drop(entry, UNKNOWN, broken=True)
        for blob in blobs:
            kept = all(entry.keep for entry in blob.entries)
            if not kept or not self._embed(blob, self._clean_blob(blob)):
                for entry in blob.entries:
                    if entry.keep:
                        self.drop(entry, UNKNOWN, broken=True)

    def _keep_note(self, entry: Entry) -> bool:
        if not self.within(entry):
            return False
        claims = (self.structure, self.values, self.embedded, self.wiped)
        taken = [s for claim in claims for s in claim.clipped(entry.start, entry.end + OVERRUN_BYTES)]
        found = clean_note(self.block, entry, self._said(MAKE), self._said(MODEL), self.inner, taken)
        if found is None or any(c.hits(a, a + len(d)) for a, d in found.pieces for c in claims):
            return False
        for start, data in found.pieces:
            self.embedded.add(start, start + len(data))
            self.replaced.append((start, data, (entry,)))
        self.notes += found.notes
        for start, end in found.gone:
            self.wiped.add(start, min(end, len(self.block)))
        return True

    def _is_no_note(self, entry: Entry) -> bool:
        """Keep a MakerNote tag of one word or one repeated byte; return True if it stays."""
        value = self.value(entry)
        said = self.within(entry) and (is_word(value) or is_uniform(value))
        return said and (entry.inline or self._embed(Blob(entry.start, entry.size, (entry,)), Cleaned(value)))

    def _said(self, tag: int) -> bytes:
        entries = (e for d in self.directories for e in d.entries if e.keep and e.tag == tag)
        first = next(entries, None)
        return b"" if first is None else self.value(first, 64).rstrip(b"\0 ")

    def _clean_blob(self, blob: Blob) -> Cleaned | None:
        data = self.block[blob.start : blob.start + blob.size]
        is_jpeg = blob.entries[0].tag == tags.JPEG_OFFSET or data[:2] == b"\xff\xd8"
        cleaned = self.inner.jpeg(data) if is_jpeg else Cleaned(data)
        if cleaned is not None or not data:
            return cleaned
        notes = (Note(0, len(data), self.name, "thumbnail", UNKNOWN, broken=True),) if any(data) else ()
        return Cleaned(bytes(len(data)), notes)  # the entries of the blob stay, and refer to zeros

    def _embed(self, blob: Blob, cleaned: Cleaned | None) -> bool:
        start, end = blob.start, blob.start + blob.size
        free = self.free(start, end) if blob.size else self.FIRST_BYTE <= start <= len(self.block)
        if cleaned is None or not free:
            return False
        self.embedded.add(start, end)
        self.replaced.append((start, cleaned.data, blob.entries))
        self.notes += shifted(cleaned.notes, start)
        return True

    # --- the result ---

    def _finish(self) -> None:
        """Fill *kept* and *patches*, and record each removed range of unreferenced bytes."""
        put = list(self._put())
        self.kept += [(0, self.FIRST_BYTE), *((start, start + len(data)) for start, data in put)]
        for start, data in put:
            self.patches += difference(start, self.block[start : start + len(data)], data)
        written = list(self.kept)
        for directory in self.directories:
            if directory is self.directories[0] or directory.holds_any or directory.was_empty:
                self.keep_directory(directory)
                written.append((directory.offset, directory.offset + directory.new_size))
                written += plain_values(directory)
        gone = Extents((*self.wiped, *self.places, *self._removed_values()))
        claimed = Extents((*self.structure, *self.values, *self.embedded, *gone))
        beside = claimed.without(Extents(written))
        for start, data in put:
            for at in (0, len(data) - 1) if data else ():
                if self.block[start + at] != data[at]:  # bytes beside removed data may belong to this data
                    beside.add(start + at, start + at + 1)
        stay = any(d.holds_any for d in self.directories) and not self.inner.hide & Tells.OTHER
        for start, end, stays in leftovers(self.block, claimed, beside):
            if stays and stay:
                self.kept.append((start, end))
            else:
                self.note(start, end - start, "unreferenced", UNKNOWN)

    def _removed_values(self) -> Iterator[tuple[int, int]]:
        for directory in self.directories:
            for entry in directory.entries:
                if not entry.keep and not entry.inline and self.within(entry):
                    yield entry.start, entry.end

    def _put(self) -> Iterator[tuple[int, bytes]]:
        """Yield the offset and the new bytes of each cleaned block that stays."""
        for start, data, entries in self.replaced:
            if all(entry.keep for entry in entries):
                yield start, data

    def _built(self) -> bytes:
        out = bytearray(len(self.block))
        for start, end in Extents(self.kept):
            out[start:end] = self.block[start:end]
        return apply(bytes(out), self.patches)

"""Cleaner of TIFF structures with EXIF tags (Exif 2.32, TIFF 6.0).

The result holds the header, the directories with their known tags, and the values of those tags;
every other byte is zero. So data that no kept tag refers to (an orphaned GPS directory, a GPS
pointer that is off by some bytes, padding) cannot stay by accident. A tag is removed by closing the
gap in its directory, which leaves a TIFF as if the tag had never been there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note, shifted
from policyfs.redact.core.filler import is_uniform, is_word
from policyfs.redact.core.free_text import BYTES_PER_PART, told_in
from policyfs.redact.core.patches import mask
from policyfs.redact.core.unreferenced import either, leftovers
from policyfs.redact.exif import tags
from policyfs.redact.exif.empty_values import are_too_many, behind_value, number_in, value_says_nothing
from policyfs.redact.exif.makernotes import OVERRUN_BYTES, clean_note
from policyfs.redact.exif.tags import Role, TagTable

MAX_DIRECTORIES: Final = 32
MAX_ENTRIES: Final = 1000
"""Limit over all directories of one structure; real ones have at most some 150."""
ENTRY_BYTES: Final = 12
_POINTER_TYPES: Final = (4, 13)
_RATIONAL: Final = 5
_POINTERS: Final = {
    tags.EXIF_IFD: Role.EXIF,
    tags.INTEROP_IFD: Role.INTEROP,
    tags.GPS_IFD: Role.GPS,
    tags.SUB_IFDS: Role.IMAGE,
}
"""Tags that refer to directories, and the directories' roles."""


@dataclass(slots=True)
class Entry:
    """One tag: the offset of its 12 bytes, and that of its value (bytes from the header)."""

    tag: int
    type: int
    count: int
    position: int
    start: int
    size: int
    keep: bool = False

    @property
    def inline(self) -> bool:
        """True if the value is within the entry itself."""
        return self.size <= 4

    @property
    def end(self) -> int:
        """One past the value's last byte."""
        return self.start + self.size


@dataclass(slots=True)
class Directory:
    """An IFD: its entries, and its referrer (an entry, or the directory before it)."""

    offset: int
    role: Role
    entries: list[Entry]
    chained: bool
    next: Directory | None = None
    referrer: Entry | None = None
    previous: Directory | None = None
    is_empty: bool = False
    """It never had a tag; some writers leave it so. Nothing is removed from it."""
    crowded: bool = False
    """Its unnamed tags hold more small numbers than may stay."""

    @property
    def entries_end(self) -> int:
        """One past the last entry: the offset of the pointer to the next directory."""
        return self.offset + 2 + ENTRY_BYTES * len(self.entries)

    @property
    def end(self) -> int:
        """One past the structure. Only chained directories have a next pointer."""
        return self.entries_end + (4 if self.chained else 0)


@dataclass(slots=True)
class Blob:
    """Data that entries refer to by offset and length: a thumbnail, a strip of pixels."""

    start: int
    size: int
    entries: tuple[Entry, ...]


class UnreadableError(Exception):
    """The structure as a whole cannot be understood."""


def clean_tiff(block: bytes, inner: Inner, table: TagTable = tags.EXIF_TABLE) -> Cleaned | None:
    """Clean a TIFF structure; None if it cannot be understood as a whole.

    If nothing of it stays the result is a first directory without tags.
    """
    try:
        return _Cleaner(block, inner, table).clean()
    except UnreadableError:
        return None


@dataclass(slots=True)
class _Cleaner:
    """One run over one structure; its steps are in the order of clean()."""

    block: bytes
    inner: Inner
    table: TagTable
    order: str = ""
    directories: list[Directory] = field(default_factory=list)
    entries: int = 0
    structure: bytearray = field(init=False)
    values: bytearray = field(init=False)
    embedded: bytearray = field(init=False)
    gone: bytearray = field(init=False)
    """Bytes of removed parts."""
    stays: list[tuple[int, int]] = field(default_factory=list)
    """Unreferenced bytes that say nothing."""
    doomed: list[tuple[int, int]] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    """Bytes of GPS directories whose tag is noted as removed."""
    notes: list[Note] = field(default_factory=list)
    replaced: list[tuple[int, bytes, tuple[Entry, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.structure = bytearray(len(self.block))
        self.values = bytearray(len(self.block))
        self.embedded = bytearray(len(self.block))
        self.gone = bytearray(len(self.block))

    def clean(self) -> Cleaned:
        first = self._header()
        root = self._open(first, Role.IMAGE, chained=True)
        if root is None:
            raise UnreadableError
        following = self._long(root.entries_end) if root.chained else 0
        if not root.entries and not following and self.block[root.end :].strip(b"\0"):
            raise UnreadableError  # nothing refers to the bytes there
        self._walk()
        if any(self._taken(self.structure, a, b) for a, b in self.doomed):
            raise UnreadableError
        for start, end in self.doomed:
            self._claim(self.gone, start, end)
        blobs = [blob for directory in self.directories for blob in self._blobs(directory)]
        self._claim_values()
        self._clean_nested(blobs)
        self._drop_empty(root)
        self._keep_leftovers()
        return Cleaned(self._build(), tuple(self.notes))

    # --- reading the structure ---

    def _header(self) -> int:
        mark = self.block[:4]
        if mark not in (b"II*\0", b"MM\0*") or len(self.block) < 8:
            raise UnreadableError
        self.order = "<" if mark[:1] == b"I" else ">"
        self._claim(self.structure, 0, 8)
        return self._long(4)

    def _short(self, offset: int) -> int:
        return int(struct.unpack_from(self.order + "H", self.block, offset)[0])

    def _long(self, offset: int) -> int:
        return int(struct.unpack_from(self.order + "I", self.block, offset)[0])

    def _open(self, offset: int, role: Role, *, chained: bool) -> Directory | None:
        """Open and claim the directory at an offset; None if there can be none."""
        if not 8 <= offset <= len(self.block) - 2:
            return None
        count = self._short(offset)
        end = offset + 2 + ENTRY_BYTES * count + (4 if chained else 0)
        if chained and end - 4 <= len(self.block) < end:
            chained, end = False, end - 4  # some writers leave out the last pointer
        if end > len(self.block) or self._taken(self.structure, offset, end):
            return None  # cut off, or a loop, or two directories in one place
        self.entries += count
        if len(self.directories) >= MAX_DIRECTORIES or self.entries > MAX_ENTRIES:
            raise UnreadableError
        entries = [self._entry(offset + 2 + ENTRY_BYTES * i) for i in range(count)]
        directory = Directory(offset, role, entries, chained, is_empty=not entries)
        self._claim(self.structure, offset, end)
        self.directories.append(directory)
        return directory

    def _entry(self, position: int) -> Entry:
        tag, kind, count, value = struct.unpack_from(self.order + "HHII", self.block, position)
        size = count * tags.TYPE_SIZES.get(kind, 0)
        start = position + 8 if size <= 4 else value
        return Entry(tag, kind, count, position, start, size)

    def _walk(self) -> None:
        """Open all directories, and decide for each entry whether it may stay so far."""
        index = 0
        while index < len(self.directories):
            directory = self.directories[index]
            index += 1
            self.inner.budget.part(2 * len(directory.entries))
            known = self.table.known[directory.role]
            unnamed = [entry for entry in directory.entries if known.get(entry.tag, UNKNOWN) == UNKNOWN]
            directory.crowded = are_too_many(self._number(entry) for entry in unnamed)
            for entry in directory.entries:
                entry.keep = self._keep(entry, directory)
            following = self._long(directory.entries_end) if directory.chained else 0
            if following and self.table.following & self.inner.hide:
                position = directory.entries_end
                self.notes.append(Note(position, 4, self.table.name, "next IFD", self.table.following))
            elif following:
                directory.next = self._open(following, Role.IMAGE, chained=True)
                if directory.next is not None:
                    directory.next.previous = directory

    def _keep(self, entry: Entry, directory: Directory) -> bool:
        hide, role = self.inner.hide, directory.role
        tells = self.table.known[role].get(entry.tag, UNKNOWN)
        if entry.tag == tags.GPS_IFD and hide & Tells.LOCATION:
            self._doom_gps(entry)
        if entry.tag == tags.MAKER_NOTE and self.table is tags.EXIF_TABLE:
            return (
                not entry.inline or self._says_nothing(entry, directory) or self._drop(entry, role, UNKNOWN)
            )
        if tells & hide:
            if tells == UNKNOWN and role is not Role.GPS and self._says_nothing(entry, directory):
                return True
            if tells != UNKNOWN:
                self._doom(entry)
            return self._drop(entry, role, tells)
        outside = not entry.inline and not 8 <= entry.start <= len(self.block) - entry.size
        if entry.type not in tags.TYPE_SIZES or outside:
            return self._drop(entry, role, UNKNOWN, broken=entry.tag | entry.type != 0)
        if not entry.count:
            return entry.tag not in _POINTERS or self._drop(entry, role, UNKNOWN, broken=True)
        if entry.tag in _POINTERS:
            return self._open_children(entry) or self._drop(entry, role, tells or UNKNOWN, broken=True)
        if self._is_nested(entry):
            return not entry.inline or self._drop(entry, role, UNKNOWN, broken=True)
        value = self.block[entry.start : entry.end]
        if entry.tag == tags.PRINT_IM and not value.startswith(b"PrintIM\0"):
            return self._drop(entry, role, UNKNOWN)
        self.inner.budget.search(entry.size)
        self.inner.budget.part(entry.size // BYTES_PER_PART)
        asked = hide if tells else hide & Tells.LOCATION  # a colour profile names programs
        told = NOTHING
        if entry.type in tags.TEXT_TYPES:
            told = told_in(value, asked) if self.inner.budget.look(len(value)) else asked
        return not told or self._drop(entry, role, tells | told)

    def _number(self, entry: Entry) -> int:
        """Return the small number within an entry; 0: none."""
        room = self.block[entry.position + 8 : entry.position + ENTRY_BYTES]
        return number_in(entry.type, room) if entry.inline else 0

    def _says_nothing(self, entry: Entry, directory: Directory) -> bool:
        """True if the value of an unknown tag is empty."""
        within = 0 < entry.size <= len(self.block) - entry.start and entry.start >= 8
        if not within or entry.tag in _POINTERS or (directory.crowded and self._number(entry)):
            return False
        self.inner.budget.search(entry.size)
        room = self.block[entry.position + 8 : entry.position + ENTRY_BYTES]
        behind = behind_value(room, entry.size) if entry.inline else b""
        value = self.block[entry.start : entry.end] + behind
        return value_says_nothing(entry.type, entry.count, value, self.order)

    def _doom(self, entry: Entry) -> None:
        """Keep a removed value's bytes from staying as a part of another tag's value."""
        if not entry.inline and 8 <= entry.start <= len(self.block) - entry.size:
            self.doomed.append((entry.start, entry.end))

    def _drop(self, entry: Entry, role: Role, tells: Tells, *, broken: bool = False) -> bool:
        """Note an entry as removed. Always return False: it is not kept."""
        name = tags.NAMES[role].get(entry.tag, f"0x{entry.tag:04x}")
        where, bare = f"{role.value}:{name}", entry.tag == tags.GPS_IFD and self._gps_is_bare(entry)
        self.notes.append(Note(entry.position, ENTRY_BYTES, self.table.name, where, tells, broken, bare))
        return False

    def _gps_is_bare(self, pointer: Entry) -> bool:
        """True if no value in a GPS directory tells a place: cameras without a receiver write its version."""
        offset = self._long(pointer.start) if pointer.type in _POINTER_TYPES and pointer.size == 4 else 0
        if not 8 <= offset <= len(self.block) - 2:
            return False
        count = self._short(offset)
        if offset + 2 + ENTRY_BYTES * count > len(self.block):
            return False
        entries = [self._entry(offset + 2 + ENTRY_BYTES * index) for index in range(count)]
        return all(entry.tag in tags.GPS_WITHOUT_A_PLACE or self._is_blank(entry) for entry in entries)

    def _is_blank(self, entry: Entry) -> bool:
        """True if a value is only zeros and blanks, or a fraction of zero."""
        if entry.type not in tags.TYPE_SIZES or not 8 <= entry.start <= len(self.block) - entry.size:
            return False
        value = self.block[entry.start : entry.end]
        if entry.type == _RATIONAL:
            return not any(any(value[at : at + 4]) for at in range(0, len(value), 8))
        return not value.strip(b"\0 ")

    def _open_children(self, entry: Entry) -> bool:
        if entry.type not in _POINTER_TYPES:
            return False
        role = _POINTERS[entry.tag]
        if (entry.count != 1 and role is not Role.IMAGE) or entry.count > MAX_DIRECTORIES:
            return False
        mark = len(self.directories)
        for position in range(entry.start, entry.end, 4):
            child = self._open(self._long(position), role, chained=False)
            if child is None:
                # Half of a list of directories cannot be kept. Their claims stay, so that nothing else may be
                # there. Without entries nothing of them is kept.
                for opened in self.directories[mark:]:
                    opened.entries.clear()
                return False
            child.referrer = entry if entry.count == 1 else None
        return True

    def _doom_gps(self, pointer: Entry) -> None:
        """Keep the bytes of GPS values from staying even as a part of another tag's value."""
        if pointer.type not in _POINTER_TYPES or pointer.size != 4:
            return
        offset = self._long(pointer.start)
        if not 8 <= offset <= len(self.block) - 2:
            return
        count = min(self._short(offset), tags.GPS_TAGS_END)
        count = min(count, (len(self.block) - offset - 2) // ENTRY_BYTES)
        self.places.append((offset, min(offset + 2 + ENTRY_BYTES * count + 4, len(self.block))))
        for index in range(count):
            entry = self._entry(offset + 2 + ENTRY_BYTES * index)
            if 8 <= entry.start <= len(self.block) - entry.size:
                self.places.append((entry.start, entry.end))
            known = entry.tag < tags.GPS_TAGS_END and entry.size > 4
            if known and entry.end <= len(self.block):
                self.doomed.append((entry.start, entry.end))
                self.doomed.append((entry.position, entry.position + ENTRY_BYTES))

    # --- deciding which bytes stay ---

    def _claim(self, claims: bytearray, start: int, end: int) -> None:
        claims[start:end] = b"\xff" * (end - start)

    def _taken(self, claims: bytearray, start: int, end: int) -> bool:
        return claims.find(0xFF, start, end) != -1

    def _claim_values(self) -> None:
        for directory in self.directories:
            for entry in directory.entries:
                if not entry.keep or entry.inline or self._is_nested(entry):
                    continue
                claims = (self.structure, self.gone)
                if any(self._taken(c, entry.start, entry.end) for c in claims):
                    if entry.tag == tags.SUB_IFDS:
                        raise UnreadableError  # its directories are open already
                    entry.keep = self._drop(entry, directory.role, UNKNOWN, broken=True)
                else:
                    self._claim(self.values, entry.start, entry.end)

    def _is_nested(self, entry: Entry) -> bool:
        return entry.tag in (tags.XMP, tags.IPTC, tags.PHOTOSHOP, tags.MAKER_NOTE)

    def _blobs(self, directory: Directory) -> list[Blob]:
        """Return the data outside of entries that a directory refers to by pairs of tags."""
        found: list[Blob] = []
        pairs = (
            (tags.JPEG_OFFSET, tags.JPEG_LENGTH),
            (tags.STRIP_OFFSETS, tags.STRIP_LENGTHS),
            (tags.TILE_OFFSETS, tags.TILE_LENGTHS),
        )
        for at, of in pairs:
            two = [[e for e in directory.entries if e.keep and e.tag == tag] for tag in (at, of)]
            ends = [entry for entries in two for entry in entries]
            starts, lengths = (self._numbers(entries) for entries in two)
            if not ends:
                continue
            if len(starts) != len(lengths) or not starts:
                for entry in ends:
                    entry.keep = self._drop(entry, directory.role, UNKNOWN, broken=True)
                continue
            found += [Blob(a, n, tuple(ends)) for a, n in zip(starts, lengths, strict=True)]
        return found

    def _numbers(self, entries: list[Entry]) -> list[int]:
        if len(entries) != 1 or entries[0].type not in (3, 4):
            return []
        read, step = (self._short, 2) if entries[0].type == 3 else (self._long, 4)
        return [read(p) for p in range(entries[0].start, entries[0].end, step)]

    def _clean_nested(self, blobs: list[Blob]) -> None:
        """Clean embedded blocks; each must have its bytes for itself."""
        for directory in self.directories:
            for entry in directory.entries:
                if entry.keep and entry.tag == tags.MAKER_NOTE:
                    kept = self._keep_note(entry) or self._is_no_note(entry)
                    entry.keep = kept or self._drop(entry, directory.role, UNKNOWN)
                elif entry.keep and self._is_nested(entry):
                    value = Blob(entry.start, entry.size, (entry,))
                    if not self._embed(value, self._clean_value(entry)):
                        entry.keep = self._drop(entry, directory.role, UNKNOWN, broken=True)
        for blob in blobs:
            kept = all(entry.keep for entry in blob.entries)
            if not kept or not self._embed(blob, self._clean_blob(blob)):
                for entry in blob.entries:
                    if entry.keep:
                        entry.keep = self._drop(entry, Role.IMAGE, UNKNOWN, broken=True)

    def _keep_note(self, entry: Entry) -> bool:
        """Keep the understood parts of a maker note; their values may be anywhere in the block."""
        maker = (self._said(0x010F), self._said(0x0110))
        if not 8 <= entry.start <= len(self.block) - entry.size:
            return False
        claims = (self.structure, self.values, self.embedded, self.gone)
        behind = bytes(map(max, *(c[entry.end : entry.end + OVERRUN_BYTES] for c in claims)))
        found = clean_note(self.block, entry.start, entry.size, self.order, maker, self.inner, behind)
        if found is None or any(self._taken(c, a, a + len(d)) for a, d in found.pieces for c in claims):
            return False
        for start, data in found.pieces:
            self._claim(self.embedded, start, start + len(data))
            self.replaced.append((start, data, (entry,)))
        self.notes += found.notes
        for start, end in found.gone:
            self._claim(self.gone, start, min(end, len(self.block)))
        return True

    def _is_no_note(self, entry: Entry) -> bool:
        """True if a maker wrote a word instead of a note, or left its bytes empty."""
        value = self.block[entry.start : entry.end]
        said = entry.start >= 8 and entry.size == len(value) and (is_word(value) or is_uniform(value))
        return said and (entry.inline or self._embed(Blob(entry.start, entry.size, (entry,)), Cleaned(value)))

    def _said(self, tag: int) -> bytes:
        """Return the text of the first entry with this tag."""
        entries = (e for d in self.directories for e in d.entries if e.keep and e.tag == tag)
        first = next(entries, None)
        return b"" if first is None else self.block[first.start : first.end][:64].rstrip(b"\0 ")

    def _clean_value(self, entry: Entry) -> Cleaned | None:
        data = self.block[entry.start : entry.end]
        if entry.tag == tags.XMP:
            return self.inner.xmp(data)
        return self.inner.iim(data) if entry.tag == tags.IPTC else self.inner.irb(data)

    def _clean_blob(self, blob: Blob) -> Cleaned | None:
        data = self.block[blob.start : blob.start + blob.size]
        is_jpeg = blob.entries[0].tag == tags.JPEG_OFFSET or data[:2] == b"\xff\xd8"
        cleaned = self.inner.jpeg(data) if is_jpeg else Cleaned(data)
        if cleaned is not None or not data:
            return cleaned
        notes = (Note(0, len(data), self.table.name, "thumbnail", UNKNOWN, broken=True),) if any(data) else ()
        return Cleaned(bytes(len(data)), notes)  # the fact that there was one stays

    def _embed(self, blob: Blob, cleaned: Cleaned | None) -> bool:
        start, end = blob.start, blob.start + blob.size
        if cleaned is None or start < 8 or end > len(self.block):
            return False
        claims = (self.structure, self.values, self.embedded, self.gone)
        if any(self._taken(c, start, end) for c in claims):
            return False
        self._claim(self.embedded, start, end)
        self.replaced.append((start, cleaned.data, blob.entries))
        self.notes += shifted(cleaned.notes, start)
        return True

    def _drop_empty(self, root: Directory) -> None:
        """Remove directories that keep no entry, and their references (children come last).

        The first directory stays for those behind it, and because there must be one.
        """
        for directory in reversed(self.directories):
            if directory is root or any(entry.keep for entry in directory.entries) or directory.is_empty:
                continue
            if directory.referrer is not None:
                directory.referrer.keep = False
            elif directory.previous is not None:
                directory.previous.next = directory.next
                if directory.next is not None:
                    directory.next.previous = directory.previous

    def _keep_leftovers(self) -> None:
        """Decide on unreferenced bytes; note each removed stretch."""
        for directory in self.directories:
            for entry in directory.entries:
                if not entry.keep and not entry.inline and 8 <= entry.start <= len(self.block) - entry.size:
                    self._claim(self.gone, entry.start, entry.end)
        for start, end in self.places:
            self._claim(self.gone, start, end)
        claimed = either(self.structure, self.values, self.embedded, self.gone)
        holds = any(entry.keep for directory in self.directories for entry in directory.entries)
        for start, end, stays in leftovers(self.block, claimed, mask(claimed, self._unwritten())):
            if stays and holds and not self.inner.hide & Tells.OTHER:
                self.stays.append((start, end))
            else:
                self.notes.append(Note(start, end - start, self.table.name, "unreferenced", UNKNOWN))

    def _unwritten(self) -> bytes:
        """Return a mask: 0xff for bytes of the block that are not in the result."""
        unwritten = bytearray(b"\xff" * len(self.block))
        spans = [(0, 8), *((start, start + len(data)) for start, data in self._put())]
        spans += [(start, start + len(whole)) for start, whole in self._directories()]
        for start, end in (*spans, *self._plain()):
            unwritten[start:end] = bytes(end - start)
        for start, data in self._put():
            for at in (0, len(data) - 1) if data else ():
                if self.block[start + at] != data[at]:  # the byte beside may be the end of a removed one
                    unwritten[start + at] = 0xFF
        return bytes(unwritten)

    # --- the result ---

    def _build(self) -> bytes:
        keep = bytearray(len(self.block))
        for start, end in ((0, 8), *self.stays, *self._plain()):
            self._claim(keep, start, end)
        out = bytearray(mask(self.block, bytes(keep)))
        for start, data in (*self._put(), *self._directories()):
            out[start : start + len(data)] = data
        return bytes(out)

    def _plain(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of values that stay unchanged."""
        for directory in self.directories:
            for entry in directory.entries:
                if entry.keep and not entry.inline and not self._is_nested(entry):
                    yield entry.start, entry.end

    def _put(self) -> Iterator[tuple[int, bytes]]:
        """Yield the offsets and bytes of cleaned blocks that stay."""
        for start, data, entries in self.replaced:
            if all(entry.keep for entry in entries):
                yield start, data

    def _directories(self) -> Iterator[tuple[int, bytes]]:
        """Yield the offsets and bytes of the new directories."""
        for directory in self.directories:
            kept = [entry for entry in directory.entries if entry.keep]
            if not kept and directory is not self.directories[0] and not directory.is_empty:
                continue
            body = b"".join(self._bytes_of(entry) for entry in kept)
            after = struct.pack(self.order + "I", directory.next.offset if directory.next else 0)
            head = struct.pack(self.order + "H", len(kept))
            yield directory.offset, head + body + (after if directory.chained else b"")

    def _bytes_of(self, entry: Entry) -> bytes:
        """Return an entry's bytes; the value bytes are zero if it has no value."""
        whole = self.block[entry.position : entry.position + ENTRY_BYTES]
        return whole if entry.count else whole[:8] + bytes(4)

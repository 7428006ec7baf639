"""Walk over directories that refer to one another, by range: decides which parts of each stay.

Used for whole TIFF files and raws, and for maker notes within EXIF. The result is the set of bytes
that stay and patches within those; the caller zeroes every other byte. So data that no kept tag
refers to cannot stay by accident.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note, NotThisKindError, TooMuchError, shifted
from policyfs.redact.core.filler import is_uniform, is_word
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.patches import ByteSource, SliceSource, difference
from policyfs.redact.exif import tags
from policyfs.redact.exif.empty_values import are_too_many, is_empty, number_of, tag_says_nothing
from policyfs.redact.exif.ifd import (
    NEUTRAL_TAG,
    NUMBER_TYPES,
    Directory,
    Entry,
    Frame,
    read_directory,
)
from policyfs.redact.exif.raw_tags import GPS, How, Rule, Rules
from policyfs.redact.exif.time_zone_cities import clean_city

MAX_DIRECTORIES: Final = 4096
MAX_NESTED_BYTES: Final = 2 << 20
"""Limit over all XMP packets, IPTC records and Photoshop resources of one file; later ones are removed."""
MAX_IIM_BYTES: Final = 1 << 18
"""Limit of one list of IPTC records, which takes longer than the rest; a longer one is removed."""
MIN_TEXT_BYTES: Final = 5
MAX_BINARY_BYTES: Final = 1 << 16
"""Limit of a binary value that is searched in case it is text."""
MAX_TEXT_BYTES: Final = 1 << 19
"""Limit over all searched texts of one file; later ones count as telling everything."""
MAX_FILLER_BYTES: Final = 1 << 20
"""Limit over all values that are tested for saying nothing; later ones are removed."""
MAX_NUMBERS: Final = 260_000
"""Limit of offsets and lengths of strips or tiles: 8 gigapixels in tiles of 256 x 256."""
MAX_ROUNDS: Final = 16
MAX_CHILDREN: Final = 64
MAKE: Final = 0x010F
MODEL: Final = 0x0110

_PRINTABLE: Final = bytes(range(0x20, 0x7F)) + b"\t\r\n\0"
_POINTERS: Final = (3, 4, 13, 16, 18)

NoteOpener = Callable[["Walk", Entry, Directory], bool]
"""Opens the directories of a maker note or of private data; False if it is not understood."""


@dataclass(slots=True)
class Walk:
    """One run over one source.

    Set up, then open() the known directories, walk(), settle() and finish(); kept and patches are the
    result. tables: role -> its tags. openers: functions that open notes. name: the container's name in
    findings.
    """

    source: ByteSource
    inner: Inner
    tables: Callable[[str], Rules]
    openers: Mapping[How, NoteOpener]
    name: str = "TIFF"
    make: bytes = b""
    model: bytes = b""
    directories: list[Directory] = field(default_factory=list)
    structure: Extents = field(default_factory=Extents)
    values: Extents = field(default_factory=Extents)
    embedded: Extents = field(default_factory=Extents)
    wiped: Extents = field(default_factory=Extents)
    wiped_in_notes: Extents = field(default_factory=Extents)
    kept: list[tuple[int, int]] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    doomed: list[tuple[int, int, bool]] = field(default_factory=list)
    learnt: list[Entry] = field(default_factory=list)
    decided: int = 0
    numbers_left: int = MAX_NUMBERS
    nested_left: int = MAX_NESTED_BYTES
    text_left: int = MAX_TEXT_BYTES
    filler_left: int = MAX_FILLER_BYTES

    # --- opening directories, deciding on their tags ---

    def open(
        self, at: int, frame: Frame, role: str, *, chained: bool, referrer: Entry | None = None
    ) -> Directory | None:
        """Open the directory at an offset of the source and claim its bytes; None if there can be none.

        Raises TooMuchError.
        """
        directory = read_directory(self.source, at, frame, role, chained=chained)
        if directory is None or self.structure.hits(at, directory.end):
            return None  # cut off, or a loop, or two directories in one place
        if len(self.directories) >= MAX_DIRECTORIES:
            raise TooMuchError("too many directories")
        self.inner.budget.part(len(directory.entries) + 1)
        directory.referrer = referrer
        self.structure.add(at, directory.end)
        self.directories.append(directory)
        return directory

    def walk(self) -> None:
        """Open all referenced directories, and decide for each tag whether it may stay so far."""
        while self.decided < len(self.directories):
            directory = self.directories[self.decided]
            self.decided += 1
            rules = self.tables(directory.role)
            directory.crowded = not directory.frame.note and are_too_many(
                number_of(entry, directory.frame)
                for entry in directory.entries
                if rules.get(entry.tag, Rule(UNKNOWN)).tells == UNKNOWN
            )
            later = []
            for entry in directory.entries:
                if entry.tag in rules and rules[entry.tag].how in self.openers:
                    later.append(entry)
                else:
                    entry.keep = self._keep(entry, directory, rules)
            self._learn(directory)
            for entry in later:
                entry.keep = self._keep(entry, directory, rules)
            if directory.chained and directory.following:
                at = directory.frame.base + directory.following
                following = self.open(at, directory.frame, directory.role, chained=True)
                if following is None:
                    self._note(directory.end - 4, 4, f"{directory.role}:next", UNKNOWN, broken=True)
                else:
                    directory.next, following.previous = following, directory

    def _learn(self, directory: Directory) -> None:
        """Read maker and model, if they stay; the reading of a maker note depends on them."""
        if directory.frame.note:
            return
        for entry in directory.entries:
            if entry.keep and entry.tag == MAKE and not self.make:
                self.make = self.value(entry, 64).rstrip(b"\0 ")
                self.learnt.append(entry)
            elif entry.keep and entry.tag == MODEL and not self.model:
                self.model = self.value(entry, 64).rstrip(b"\0 ")
                self.learnt.append(entry)

    def _keep(self, entry: Entry, directory: Directory, rules: Rules) -> bool:
        if directory.frame.note and self._is_neutral(entry):
            return False
        rule = rules.get(entry.tag, Rule(UNKNOWN))
        if directory.frame.note and is_empty(entry, directory.frame):
            return True
        if rule.tells & self.inner.hide:
            if rule.how is How.VALUE and self._says_nothing(entry, directory, rule):
                return True
            self._wipe(entry, directory)
            return self.drop(entry, directory, rule.tells)
        if not entry.size or not 0 <= entry.start <= self.source.size - entry.size:
            if rule.how is How.PICTURE and directory.frame.note and entry.start >= self.source.size:
                entry.nested = entry.holds = True  # a preview in the file around EXIF
                return True
            return self.drop(entry, directory, UNKNOWN, broken=not directory.frame.note)
        if rule.how is How.DIRECTORY:
            return self._children(entry, directory, rule)
        if opener := self.openers.get(rule.how):
            opened = opener(self, entry, directory)
            return opened or self._is_no_note(entry) or self.drop(entry, directory, UNKNOWN)
        if rule.how is How.CITY and entry.inline:
            self._clean_inline(entry, directory)
            return True
        if rule.how is not How.VALUE:
            entry.nested = not entry.inline
            return entry.nested or self.drop(entry, directory, UNKNOWN, broken=True)
        told = self._told(entry, rule)
        if told:
            self._wipe(entry, directory)
        return not told or self.drop(entry, directory, rule.tells | told)

    def _says_nothing(self, entry: Entry, directory: Directory, rule: Rule) -> bool:
        """True if a value may stay though its tag is to be removed, because it is empty."""
        within = entry.size > 0 and 0 <= entry.start <= self.source.size - entry.size
        if not within or directory.role == GPS or entry.size > self.filler_left:
            return False
        if directory.crowded and rule.tells == UNKNOWN and number_of(entry, directory.frame):
            return False
        self.filler_left -= entry.size
        return tag_says_nothing(entry, directory.frame, rule.tells, self.value(entry, entry.size))

    def _clean_inline(self, entry: Entry, directory: Directory) -> None:
        """Remove the city from numbers within their entry, and any bytes behind them there."""
        at = len(entry.raw) - directory.frame.offset_bytes
        told = clean_city(entry.tag, entry.raw[at : at + entry.size], directory.frame.order)
        if not self.inner.hide & Tells.LOCATION:
            return
        raw = entry.raw[:at] + told.data.ljust(directory.frame.offset_bytes, b"\0")
        if raw != entry.raw:
            self._note(entry.position, len(raw), f"{directory.role}:0x{entry.tag:04x}", Tells.LOCATION)
            entry.raw = raw

    def _is_no_note(self, entry: Entry) -> bool:
        """True if a maker wrote a word instead of a note, or left its bytes empty."""
        value = self.value(entry, min(entry.size, self.filler_left) + 1)
        self.filler_left -= min(len(value), self.filler_left)
        return len(value) == entry.size and (is_word(value) or is_uniform(value))

    def _is_neutral(self, entry: Entry) -> bool:
        return entry.tag == NEUTRAL_TAG and (not entry.inline or not entry.raw[8:].strip(b"\0"))

    def _told(self, entry: Entry, rule: Rule) -> Tells:
        """Return the categories of text in a value; binary values are searched only if they are text."""
        if entry.type not in tags.TEXT_TYPES or entry.size < MIN_TEXT_BYTES:
            return NOTHING
        asked = self.inner.hide if rule.tells else self.inner.hide & Tells.LOCATION
        is_text = entry.type in (2, 129)
        if not asked or (entry.size > MAX_BINARY_BYTES and not is_text):
            return NOTHING
        self.text_left -= entry.size
        if self.text_left < 0:
            return asked
        data = self.value(entry, entry.size)
        odd = 0 if is_text else len(data.translate(None, _PRINTABLE))
        return told_in(data, asked) if odd * 20 <= len(data.strip(b"\0")) else NOTHING

    def _children(self, entry: Entry, directory: Directory, rule: Rule) -> bool:
        """Open the directories that a tag refers to; all of them, or none is kept."""
        chained = rule.role == directory.role and not directory.frame.note
        in_note = directory.frame.note
        one = entry.count == 1 or (in_note and not entry.inline) or (chained and entry.count <= MAX_CHILDREN)
        if not one or (entry.type not in _POINTERS and not in_note):
            return self.drop(entry, directory, rule.tells or UNKNOWN, broken=True)
        offsets = [directory.frame.base + n for n in self.numbers(entry, directory.frame)]
        if directory.frame.note and not entry.inline:
            offsets = [entry.start]  # the directory is the value
            entry.nested = entry.holds = True
        opened: list[Directory] = []
        for at in offsets:
            child = self.open(at, directory.frame, rule.role, chained=chained, referrer=entry)
            if child is None:
                for other in opened:
                    other.entries.clear()
                return self.drop(entry, directory, rule.tells or UNKNOWN, broken=True)
            opened.append(child)
        return True

    def _wipe(self, entry: Entry, directory: Directory) -> None:
        """Keep a removed value's bytes from staying as part of another value or of pixels."""
        if not entry.inline and 0 <= entry.start <= self.source.size - entry.size:
            elsewhere = directory.frame.note and not directory.frame.owns(entry.start, entry.end)
            self.doomed.append((entry.start, entry.end, elsewhere))

    def _doom(self) -> None:
        """Fix the wiped ranges once all directories are known: directories are examined on their own."""
        for wiped, elsewhere in ((self.wiped, False), (self.wiped_in_notes, True)):
            spans = Extents((start, end) for start, end, other in self.doomed if other == elsewhere)
            for start, end in spans.without(self.structure):
                wiped.add(start, end)
        self.doomed.clear()

    def drop(self, entry: Entry, directory: Directory, tells: Tells, *, broken: bool = False) -> bool:
        """Note an entry as removed. Always return False: it is not kept."""
        entry.keep = False
        tag = f"{directory.role}:0x{entry.tag:04x}"
        self._note(entry.position, len(entry.raw), tag, tells, broken=broken)
        return False

    def _note(self, at: int, size: int, tag: str, tells: Tells, *, broken: bool = False) -> None:
        self.notes.append(Note(at, size, self.name, tag, tells, broken))

    # --- values ---

    def value(self, entry: Entry, limit: int) -> bytes:
        """Read up to limit bytes of a value."""
        return self.source.read(entry.start, min(entry.size, limit)) if entry.start >= 0 else b""

    def numbers(self, entry: Entry, frame: Frame) -> list[int]:
        """Read the numbers of a value; empty if its type is not whole numbers. Raises TooMuchError."""
        letter = NUMBER_TYPES.get(entry.type)
        if letter is None or entry.end > self.source.size:
            return []
        self.numbers_left -= entry.count
        if self.numbers_left < 0:
            raise TooMuchError("too many strips or tiles")
        return list(struct.unpack(f"{frame.order}{entry.count}{letter}", self.value(entry, entry.size)))

    # --- values that overlap ---

    def settle(self) -> None:
        """Decide on values that overlap. Raises NotThisKindError."""
        plain = [
            (entry, directory)
            for directory in self.directories
            for entry in directory.entries
            if entry.keep and not entry.inline
        ]
        for entry, directory in plain:
            if self.structure.hits(entry.start, entry.end) and not entry.nested:
                self.drop(entry, directory, UNKNOWN, broken=not directory.frame.note)
        for _ in range(MAX_ROUNDS):
            self._doom()
            self.prune()
            shared = self._shared([e for e, _ in plain if e.keep])
            hit = [
                (e, d)
                for e, d in plain
                if e.keep and not e.holds and (self._is_wiped(e, d) or id(e) in shared)
            ]
            for entry, directory in hit:
                self._wipe(entry, directory)
                self.drop(entry, directory, UNKNOWN, broken=not directory.frame.note)
            if not hit:
                break
        else:
            raise NotThisKindError("its values lie over one another")
        noted = any(directory.frame.note for directory in self.directories)
        if noted and not all(entry.keep for entry in self.learnt):
            raise NotThisKindError("its maker's name lies over something else")
        self.values = Extents((e.start, e.end) for e, _ in plain if e.keep and not e.nested)
        for entry, directory in plain:
            if entry.keep and entry.nested and not entry.holds:
                self._clean_nested(entry, directory)
        self._doom()

    def _shared(self, entries: list[Entry]) -> set[int]:
        """Return the ids of nested entries whose bytes overlap other claims."""
        values = Extents((e.start, e.end) for e in entries if not e.nested)
        nested = sorted((e for e in entries if e.nested and not e.holds), key=lambda e: e.start)
        claims = (values, self.structure)
        found = {id(e) for e in nested if any(claim.hits(e.start, e.end) for claim in claims)}
        last: Entry | None = None
        for entry in nested:
            if last is not None and entry.start < last.end:
                found |= {id(last), id(entry)}
            if last is None or entry.end > last.end:
                last = entry
        return found

    def _is_wiped(self, entry: Entry, directory: Directory) -> bool:
        in_note = directory.frame.note and self.wiped_in_notes.hits(entry.start, entry.end)
        return in_note or self.wiped.hits(entry.start, entry.end)

    def _clean_nested(self, entry: Entry, directory: Directory) -> None:
        rule = self.tables(directory.role)[entry.tag]
        if rule.how is How.PICTURE:
            done = self.embed_picture(entry.start, entry.size)
        elif entry.size > (MAX_IIM_BYTES if rule.how is How.IIM else self.nested_left):
            done = False
        else:
            self.nested_left -= entry.size
            old = self.value(entry, entry.size)
            done = self._embed(entry.start, old, self._cleaned(rule.how, old, entry, directory))
        if not done:
            self._wipe(entry, directory)
            self.drop(entry, directory, UNKNOWN, broken=True)

    def _cleaned(self, how: How, data: bytes, entry: Entry, directory: Directory) -> Cleaned | None:
        if how is How.CITY:
            hidden = self.inner.hide & Tells.LOCATION
            return clean_city(entry.tag, data, directory.frame.order) if hidden else Cleaned(data)
        if how is How.XMP:
            return self.inner.xmp(data)
        return self.inner.iim(data) if how is How.IIM else self.inner.irb(data)

    def free(self, start: int, end: int) -> bool:
        """True if nothing else was found in these bytes of the source."""
        claims = (self.structure, self.embedded, self.values, self.wiped)
        return 0 <= start < end <= self.source.size and not any(c.hits(start, end) for c in claims)

    def _embed(self, start: int, old: bytes, cleaned: Cleaned | None) -> bool:
        if cleaned is None or not self.free(start, start + len(old)):
            return False
        self.embedded.add(start, start + len(old))
        self.kept.append((start, start + len(old)))
        self.patches += difference(start, old, cleaned.data)
        if cleaned.data != old:
            self.notes += shifted(cleaned.notes, start)
        return True

    def embed_picture(self, start: int, size: int) -> bool:
        """Clean and keep an embedded JPEG; False if it is none, or overlaps something else."""
        end = start + size
        if not self.free(start, end) or self.source.read(start, 2) != b"\xff\xd8":
            return False
        found = self.inner.file("image/jpeg", SliceSource(self.source, start, size))
        if found is None:
            return False
        self.embedded.add(start, end)
        self.kept.append((start, end))
        self.patches += [patch.shifted(start) for patch in found.patches]
        self.notes += shifted(found.notes, start)
        return True

    # --- the result ---

    def prune(self) -> None:
        """Remove directories without a kept referrer, and with each of them those that it refers to."""
        for directory in self.directories:
            by, before = directory.referrer, directory.previous
            if (by is not None and not by.keep) or (before is not None and before.dropped):
                directory.dropped = True
                for entry in directory.entries:
                    entry.keep = False

    def finish(self) -> None:
        """Remove directories with no kept entry; fill kept and patches."""
        for directory in reversed(self.directories[1:]):
            if not directory.dropped and not any(entry.keep for entry in directory.entries):
                self._unlink(directory)
        self.prune()
        for directory in self.directories:
            if directory.dropped:
                if not directory.frame.note:
                    self.wiped.add(directory.offset, directory.end)
                continue
            self.kept.append((directory.offset, directory.end))
            self.kept += directory.covers
            self.patches += difference(directory.offset, directory.old, directory.rebuilt())
            self.kept += [
                (e.start, e.end) for e in directory.entries if e.keep and not e.inline and not e.nested
            ]

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


def pairs(
    walk: Walk, directory: Directory, found: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Entry, list[int], list[int]]]:
    """Yield for each kept pair of tags: the first entry, the offsets and the lengths."""
    for at, of in found:
        starts = next((e for e in directory.entries if e.keep and e.tag == at), None)
        lengths = next((e for e in directory.entries if e.keep and e.tag == of), None)
        if starts is None:
            continue
        sizes = walk.numbers(lengths, directory.frame) if lengths is not None else []
        yield starts, walk.numbers(starts, directory.frame), sizes

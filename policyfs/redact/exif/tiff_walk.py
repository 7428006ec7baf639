"""Walk over whole TIFF files, raws and maker notes, by range.

Values may overlap, and maker notes may refer to bytes outside of themselves. So if a value is removed, all
values that share bytes with it are removed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Note, NotThisKindError, TooMuchError, shifted
from policyfs.redact.core.filler import is_uniform, is_word
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.kept_values import told_in_range
from policyfs.redact.core.patches import SliceSource, difference
from policyfs.redact.exif import tags
from policyfs.redact.exif.empty_values import is_empty, is_version_alone, number_of, tag_says_nothing
from policyfs.redact.exif.ifd import NEUTRAL_TAG, Directory, Entry
from policyfs.redact.exif.ifd_walk import LATE, IfdWalk
from policyfs.redact.exif.raw_tags import IMAGE_PAIRS, SR2
from policyfs.redact.exif.rules import UNNAMED, How, Rule, Rules
from policyfs.redact.exif.tags import GPS

MAX_DIRECTORIES: Final = 4096
MAX_NESTED_BYTES: Final = 2 << 20
"""Maximum total size of XMP, IPTC and Photoshop's resources in one file. Later blocks go."""
MAX_IIM_BYTES: Final = 1 << 18
"""Maximum size of IPTC records, which take longer to clean. A longer list goes."""
MIN_TEXT_BYTES: Final = 5
MAX_TEXT_BYTES: Final = 1 << 19
"""Maximum total size of searched texts in one file. Later ones count as telling anything."""
MAX_FILLER_BYTES: Final = 1 << 20
"""Maximum total size of the values that are tested for information. Later values are removed."""
MAX_ROUNDS: Final = 16
MAX_CHILDREN: Final = 64

_PAIRED: Final = frozenset(tag for pair in IMAGE_PAIRS for tag in pair)
"""Tags with the offsets or the lengths of pixels. Long lists of them may look like a text by chance."""
_POINTERS: Final = (3, 4, 13, 16, 18)

NoteOpener = Callable[["TiffWalk", Entry], bool]
"""Function that opens a maker note or private data; False if it does not understand them."""


@dataclass(slots=True)
class TiffWalk(IfdWalk):
    """The walk over the directories of one TIFF structure. Callers call open(), walk(), settle(), prune() and
    finish(), in this order.

    tables: a dictionary from the role of a directory to the rules for its tags. openers: a dictionary from
    the type of a value to the function that opens the value.
    """

    MAX_ENTRIES: ClassVar[int] = 2000
    """Maximum number of entries in one directory. Real directories have at most about 400."""
    CHAINS_CHILDREN: ClassVar[bool] = True
    FIRST_BYTE: ClassVar[int] = 0
    WIPES_UNNAMED: ClassVar[bool] = True

    tables: Mapping[str, Rules] = field(kw_only=True)
    openers: Mapping[How, NoteOpener] = field(kw_only=True)
    nested_left: int = MAX_NESTED_BYTES
    text_left: int = MAX_TEXT_BYTES
    filler_left: int = MAX_FILLER_BYTES

    # --- deciding on tags ---

    def _admit(self, count: int) -> None:
        if len(self.directories) >= MAX_DIRECTORIES:
            raise TooMuchError("too many TIFF directories (IFDs)")
        self.inner.budget.part(count + 1)

    def _rules(self, directory: Directory) -> Rules:
        return self.tables[directory.role]

    def _follow(self, directory: Directory) -> None:
        if not self.open_next(directory):
            self.note(directory.end - 4, 4, f"{directory.role}:next", UNKNOWN, broken=True)

    def _refers(self, entry: Entry, rule: Rule) -> bool:
        if entry.frame.note:
            return entry.count == 1 or not entry.inline
        several = rule.role == entry.directory.role and entry.count <= MAX_CHILDREN
        return (entry.count == 1 or several) and entry.type in _POINTERS

    def _before_words(self, entry: Entry) -> bool | None:
        if not entry.frame.note:
            return None
        if entry.tag == NEUTRAL_TAG and (not entry.inline or not entry.raw[8:].strip(b"\0")):
            return False
        return True if is_empty(entry) else None

    def _says_nothing(self, entry: Entry, rule: Rule) -> bool:
        directory, within = entry.directory, entry.size > 0 and self.within(entry)
        if directory.role == GPS and is_version_alone(directory.entries):
            return not self.inner.hide & Tells.OTHER
        if rule.how is not How.VALUE or not within or directory.role == GPS or entry.size > self.filler_left:
            return False
        if directory.crowded and rule.tells == UNKNOWN and number_of(entry):
            return False
        self.filler_left -= entry.size
        return tag_says_nothing(entry, rule.tells, self.value(entry))

    def _by_form(self, entry: Entry, rule: Rule) -> bool | None:
        in_note = entry.frame.note
        if not entry.size or not self.within(entry):
            if rule.how is How.PICTURE and in_note and entry.start >= self.source.size:
                entry.nested = entry.holds = True  # a preview outside of the EXIF, elsewhere in the file
                return True
            return self.drop(entry, UNKNOWN, broken=not in_note)
        if rule.how in LATE:
            opened = self.openers[rule.how](self, entry)
            return opened or self._is_no_note(entry) or self.drop(entry, UNKNOWN)
        if rule.how is How.CITY and entry.inline:
            self._clean_inline(entry)
            return True
        return None

    def _clean_inline(self, entry: Entry) -> None:
        room = entry.room
        told = clean_city(entry.tag, room[: entry.size], entry.frame.order)
        raw = entry.raw[: -len(room)] + told.data.ljust(len(room), b"\0")
        if self.inner.hide & Tells.LOCATION and raw != entry.raw:
            self.note(entry.position, len(raw), f"{entry.directory.role}:0x{entry.tag:04x}", Tells.LOCATION)
            entry.raw = raw

    def _is_no_note(self, entry: Entry) -> bool:
        """Return True if the value of a MakerNote tag is only one word, or one repeated byte."""
        value = self.value(entry, self.filler_left + 1)
        self.filler_left -= min(len(value), self.filler_left)
        return len(value) == entry.size and (is_word(value) or is_uniform(value))

    def _told(self, entry: Entry, asked: Tells) -> Tells:
        """Return the categories of a value. Words of PEOPLE count as text in any type, as for readers."""
        rule = self.tables[entry.directory.role].get(entry.tag, UNNAMED)
        is_text = entry.type in (2, 129) or (bool(rule.tells & Tells.PEOPLE) and not entry.frame.note)
        if entry.size < MIN_TEXT_BYTES:
            return NOTHING
        numbers, told = not is_text and entry.type not in tags.TEXT_TYPES, NOTHING
        if asked and is_text:
            self.text_left -= entry.size
            told = asked if self.text_left < 0 else told_in(self.value(entry), asked)
        if is_text or (numbers and entry.tag in _PAIRED):
            asked = NOTHING
        told |= told_in_range(self.source, entry.start, entry.end, asked, self.inner.budget, numbers=numbers)
        if told:
            self.wipe(entry)
        return told

    # --- values that overlap ---

    def settle(self) -> None:
        """Remove values that overlap a directory or removed bytes, and values with a cleaner of their own
        that overlap another value. Repeat this until no value is removed: each removal adds removed bytes.

        Two values without such a cleaner may overlap, because both stay unchanged. Raises NotThisKindError if
        too many rounds are needed. Also raises NotThisKindError if the name of the maker or the model is
        removed, because this name decided the layout of a maker note.
        """
        entries = (entry for directory in self.directories for entry in directory.entries)
        plain = [entry for entry in entries if entry.keep and not entry.inline]
        for entry in plain:
            if self.structure.hits(entry.start, entry.end) and not entry.nested:
                self.drop(entry, UNKNOWN, broken=not entry.frame.note)
        for _ in range(MAX_ROUNDS):
            self.settle_wiped()
            self.prune()
            kept = [entry for entry in plain if entry.keep]
            shared = self._shared(kept)
            hit = [e for e in kept if not e.holds and (self._is_wiped(e) or id(e) in shared)]
            hit += self._unsound()
            for entry in hit:
                self.wipe(entry)
                self.drop(entry, UNKNOWN, broken=not entry.frame.note)
            if not hit:
                break
        else:
            raise NotThisKindError("its values overlap")
        noted = any(directory.frame.note or directory.role == SR2 for directory in self.directories)
        if noted and not all(entry.keep for entry in self.learnt):
            raise NotThisKindError("the tag with the camera's maker or model overlaps other data")
        self.values = Extents((e.start, e.end) for e in plain if e.keep and not e.nested)
        for entry in plain:
            if entry.keep and entry.nested and not entry.holds:
                self._clean_nested(entry)
        self.settle_wiped()

    def _unsound(self) -> list[Entry]:
        notes = [one for one in self.directories if not one.dropped and not one.is_sound()]
        return [one.referrer for one in notes if one.referrer is not None and one.referrer.keep]

    def _shared(self, entries: list[Entry]) -> set[int]:
        """Return the id() of each entry with a cleaner whose value overlaps another value or a directory."""
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

    def _is_wiped(self, entry: Entry) -> bool:
        in_note = entry.frame.note and self.wiped_in_notes.hits(entry.start, entry.end)
        return in_note or self.wiped.hits(entry.start, entry.end)

    def _clean_nested(self, entry: Entry) -> None:
        how = self.tables[entry.directory.role][entry.tag].how
        if how is How.PICTURE:
            done = self.embed_picture(entry.start, entry.size)
        elif entry.size > (MAX_IIM_BYTES if how is How.IIM else self.nested_left):
            done = False
        else:
            self.nested_left -= entry.size
            old = self.value(entry)
            done = self._embed(entry.start, old, self._cleaned(how, old, entry))
        if not done:
            self.wipe(entry)
            self.drop(entry, UNKNOWN, broken=True)

    def _cleaned(self, how: How, data: bytes, entry: Entry) -> Cleaned | None:
        if how is not How.CITY:
            return self.clean_block(how, data)
        hidden = self.inner.hide & Tells.LOCATION
        return clean_city(entry.tag, data, entry.frame.order) if hidden else Cleaned(data)

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
        """Clean an embedded JPEG; return False if it is no JPEG, or overlaps another part."""
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
        """Remove each directory whose referring tag or previous directory was removed."""
        for directory in self.directories:
            by, before = directory.referrer, directory.previous
            if (by is not None and not by.keep) or (before is not None and before.dropped):
                directory.dropped = True
                for entry in directory.entries:
                    entry.keep = False

    def finish(self) -> None:
        """Remove directories without a kept entry. Then fill *kept* (ranges that stay) and *patches*."""
        self.unlink_empty(spare=False)
        self.prune()
        for directory in self.directories:
            if not directory.dropped:
                self.keep_directory(directory)
            elif not directory.frame.note:
                self.wiped.add(directory.offset, directory.end)


def pairs(
    walk: IfdWalk, directory: Directory, found: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Entry, list[int], list[int]]]:
    """For each pair of tags that stay, yield the first one's entry, the offsets and the lengths."""
    for at, of in found:
        starts = next((e for e in directory.entries if e.keep and e.tag == at), None)
        lengths = next((e for e in directory.entries if e.keep and e.tag == of), None)
        if starts is None:
            continue
        sizes = walk.numbers(lengths) if lengths is not None else []
        yield starts, walk.numbers(starts), sizes


_CANON_BYTES: Final = 16
_MAX_ZONE_MINUTES: Final = 14 * 60
_MAX_SAVING_MINUTES: Final = 60


def clean_city(tag: int, value: bytes, order: str) -> Cleaned:
    """Remove the city from a maker's time zone numbers; return zeros for a value of another form.

    Canon's form (ExifTool's TimeInfo tags) is four numbers of four bytes: size, zone in minutes, city (0:
    none), daylight saving. order: "<" or ">". (Pentax' tags go as a whole: no number means "no city".)
    """
    new = _canon(value, order)
    if new == value:
        return Cleaned(value)
    return Cleaned(new, (Note(0, len(value), "MakerNote", f"city in 0x{tag:04x}", Tells.LOCATION),))


def _canon(value: bytes, order: str) -> bytes:
    if len(value) != _CANON_BYTES:
        return bytes(len(value))
    numbers = [
        int.from_bytes(value[at : at + 4], "little" if order == "<" else "big", signed=True)
        for at in range(0, _CANON_BYTES, 4)
    ]
    size, zone, _, saving = numbers
    if size != _CANON_BYTES or abs(zone) > _MAX_ZONE_MINUTES or not 0 <= saving <= _MAX_SAVING_MINUTES:
        return bytes(_CANON_BYTES)
    return value[:8] + bytes(4) + value[12:]

"""Maker notes: the layouts of their directories, and the origins of the offsets in them.

A note is removed as a whole if it cannot be read: its maker is unknown, it is encrypted as a whole, or it
holds debug output. The documentation of ExifTool and Exiv2 describes the layouts.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Inner, Note, NotThisKindError
from policyfs.redact.core.filler import leftovers
from policyfs.redact.core.intervals import Extents
from policyfs.redact.core.kept_values import told_in_kept
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.exif import raw_tags
from policyfs.redact.exif.ifd import Directory, Entry, Frame
from policyfs.redact.exif.makernote_tags import NOTE_TABLES, PREVIEWS
from policyfs.redact.exif.rules import How, Rules
from policyfs.redact.exif.tiff_walk import NoteOpener, TiffWalk, pairs

__all__ = ["OPENERS", "OVERRUN_BYTES", "TABLES", "CleanNote", "clean_note", "previews"]

MAX_NOTE_ENTRIES: Final = 400
_HEAD_BYTES: Final = 64
_FOOTER_BYTES: Final = 8
OVERRUN_BYTES: Final = 256
"""Maximum number of bytes that a maker note may have beyond its stated size, as with Canon's EOS 300D."""
_ADOBE_BLOCKS: Final = (b"MakN", b"SR2 ", b"CRW ", b"MRW ", b"RAF ", b"Pano", b"Koda", b"Leaf")
_FIXED: Final = (
    (re.compile(rb"EASTMAN KODAK"), re.compile(rb"KDK.{5}[A-Z0-9 \0]{8}.[\x01\x02][\0\x01]", re.DOTALL)),
    (
        re.compile(rb"Eastman Kodak"),
        re.compile(rb"\x01\x04.{30}DCP[0-9]{5}\.JPG\0.{27}\Z|.{8}Eastman Kodak Company\0{11}", re.DOTALL),
    ),
)
"""Makers and starts of notes of a fixed layout: Kodak's CX, DX, LS, V, Z and DC, which know no place.

Each holds a model or a file's name, and numbers such as exposure, sizes and dates. Nobody knows all of them.
"""
_MAX_FIXED_BYTES: Final = 1 << 14


class From(enum.Enum):
    """Origin of the offsets in a maker note."""

    TIFF = "the TIFF header"
    NOTE = "the note's first byte"
    GUESS = "either: whichever puts all values into the note"


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of the start of a maker note.

    head: a pattern for the note's bytes before its directory. Group "order" of *head* is a byte-order mark.
    Without this group the order is the file's, or little-endian if *little* is True. make, model: patterns
    for the start of the maker's and model's name; None: any. shift: bytes to add to the origin of offsets.
    """

    role: str
    head: re.Pattern[bytes]
    make: re.Pattern[bytes] | None
    count_from: From
    shift: int = 0
    little: bool = False
    model: re.Pattern[bytes] | None = None


def _layout(
    role: str,
    head: bytes,
    count_from: From,
    make: bytes | None = None,
    *,
    shift: int = 0,
    little: bool = False,
    model: bytes | None = None,
) -> Layout:
    made_by = None if make is None else re.compile(make, re.IGNORECASE)
    of_model = None if model is None else re.compile(model)
    return Layout(role, re.compile(head, re.DOTALL), made_by, count_from, shift, little, of_model)


_MARK: Final = rb"(?P<order>II|MM)"

LAYOUTS: Final = (
    _layout("Apple", rb"Apple iOS\0\0." + _MARK, From.NOTE),
    _layout("Nikon", rb"Nikon\0\x02.\0\0(?P<order>II)\x2a\0\x08\0\0\0", From.NOTE, shift=10),
    _layout("Nikon", rb"Nikon\0\x02.\0\0(?P<order>MM)\0\x2a\0\0\0\x08", From.NOTE, shift=10),
    _layout("Nikon type 1", rb"Nikon\0\x01\0", From.TIFF, little=True),
    _layout("FujiFilm", rb"(?:FUJIFILM|GENERALE)\x0c\0\0\0", From.NOTE, little=True),
    _layout("Olympus", rb"OLYMPUS\0" + _MARK + rb"\x03.", From.NOTE),
    _layout("Olympus", rb"OM SYSTEM\0\0\0" + _MARK + rb"..", From.NOTE),
    _layout("Olympus", rb"(?:OLYMP|EPSON|MINOL|CAMER|PREMI)\0..", From.TIFF),
    _layout("Olympus", rb"SONY PI\0....", From.TIFF),
    _layout("Panasonic", rb"Panasonic\0\0\0", From.TIFF, shift=12, model=rb"DC-FT7"),
    _layout("Panasonic", rb"Panasonic\0\0\0", From.TIFF),
    _layout("Panasonic", rb"LEICA CAMERA AG\0\0\0", From.TIFF),
    _layout("Panasonic", rb"LEICA\0\0\0", From.TIFF, rb"LEICA$"),
    _layout("Leica 5", rb"LEICA\0[\x01\x04\x05\x06\x07\x10\x1a]\0", From.NOTE),
    _layout("Leica 5", rb"LEICA\0[\x08\x09]\0", From.TIFF),
    _layout("Leica 9", rb"LEICA\0\x02\0", From.TIFF, rb"Leica Camera AG"),
    _layout("Pentax", rb"PENTAX \0" + _MARK, From.NOTE),
    _layout("Pentax", rb"RICOH\0" + _MARK, From.NOTE),
    _layout("Pentax", rb"AOC\0(?:II|MM|  |\0\0)", From.GUESS),
    _layout("Motorola", rb"MOT\0....", From.NOTE),
    _layout("Sony", rb"SONY (?:DSC \0\0|CAM \0\0|MOBILE)\0", From.TIFF),
    _layout("Casio type 2", rb"(?:QVC|DCI)\0\0\0", From.TIFF),
    _layout("Ricoh", rb"(?:Ricoh|RICOH).\0\0", From.TIFF, rb"(?:PENTAX )?RICOH"),
    _layout("Sigma", rb"(?:SIGMA\0\0\0|FOVEON\0\0)..", From.TIFF, rb"SIGMA|FOVEON"),
    _layout("Samsung", rb"(?=\0.\0\x01\0\x07\0\0\0\x04010[01])", From.GUESS, rb"SAMSUNG"),
    _layout("Samsung", rb"(?=.\0\x01\0\x07\0\x04\0\0\x00010[01])", From.GUESS, rb"SAMSUNG"),
    _layout("Canon", rb"(?=.[\0-\2])", From.TIFF, rb"Canon"),
    _layout("Canon", rb"(?=[\0-\2].)", From.TIFF, rb"Canon"),
    _layout("Casio", rb"(?=\0.|.\0)", From.TIFF, rb"CASIO"),
    _layout("DJI", rb"(?=\0.|.\0)", From.TIFF, rb"DJI$"),
    _layout("Minolta", rb"(?=\0.|.\0)", From.TIFF, rb"(?:Konica )?Minolta"),
    _layout("Nikon", rb"(?=\0.|.\0)", From.TIFF, rb"NIKON"),
    _layout("Sony", rb"(?=\0.|.\0)(?!\x01\0)", From.TIFF, rb"SONY"),
)
"""Layouts of maker notes, tried in order. If *head* matches no bytes, the directory starts at byte 0."""


def open_note(walk: TiffWalk, entry: Entry) -> bool:
    """Open a maker note; False if not understood, and under ``device``: its layout tells the maker."""
    if walk.inner.hide & Tells.DEVICE or entry.inline or entry.frame.big or entry.frame.note:
        return False
    return _open_at(walk, entry, entry.start, entry.end, entry.frame)


def open_private(walk: TiffWalk, entry: Entry) -> bool:
    """Open DNGPrivateData (DNG 1.7): a maker note, a maker note in Adobe's blocks, or Sony's directory."""
    frame = entry.frame
    if walk.inner.hide & Tells.DEVICE:
        return False
    if entry.inline:
        if not walk.make.startswith(b"SONY") or entry.size != 4:
            return False
        at = frame.base + frame.number(entry.raw[-4:])
        return walk.open(at, frame, raw_tags.SR2, chained=False, referrer=entry) is not None
    if walk.source.read(entry.start, 6) == b"Adobe\0":
        return _open_adobe(walk, entry)
    return _open_at(walk, entry, entry.start, entry.end, frame)


def _open_adobe(walk: TiffWalk, entry: Entry) -> bool:
    """Open the maker note in Adobe's blocks. Each block has a name and a length (big-endian)."""
    at = entry.start + 6
    heads = [(entry.start, at)]
    opened = False
    if walk.structure.hits(entry.start, at):
        return False  # a directory will be rebuilt there
    for _ in range(8):
        head = walk.source.read(at, 14)
        size = int.from_bytes(head[4:8])
        if head[:4] not in _ADOBE_BLOCKS or at + 8 + size > entry.end or walk.structure.hits(at, at + 8):
            break
        heads.append((at, at + 8))
        if head[:4] == b"MakN" and size > 6 and head[8:10] in (b"II", b"MM") and not opened:
            order = "<" if head[8:10] == b"II" else ">"
            own = Frame(order, base=at + 14 - int.from_bytes(head[10:14]))
            free = not walk.structure.hits(at + 8, at + 14)
            opened = free and _open_at(walk, entry, at + 14, at + 8 + size, own)
            heads.append((at + 8, at + 14))
        at += 8 + size + size % 2
    if opened:
        _cover(walk, walk.directories[-1], heads)
    return opened


def _cover(walk: TiffWalk, directory: Directory, spans: Sequence[tuple[int, int]]) -> None:
    """Keep parts *spans* of a maker note while its directory stays. No value may be in these parts."""
    directory.covers += spans
    for start, end in spans:
        walk.structure.add(start, end)


def _open_at(walk: TiffWalk, entry: Entry, start: int, end: int, outer: Frame) -> bool:
    head = walk.source.read(start, min(_HEAD_BYTES, end - start))
    found = next((pair for layout in LAYOUTS if (pair := _match(layout, head, walk))), None)
    if found is None:
        return False
    layout, match = found
    at = start + match.end()
    frame = _frame(walk, layout, match, at, start, outer)
    frame = replace(frame, own=(start, end))
    count = frame.number(walk.source.read(at, frame.count_bytes))
    beyond = at + frame.count_bytes + frame.entry_bytes * count > end + OVERRUN_BYTES
    if beyond or walk.structure.hits(start, at):
        return False  # other data is there: this is no directory of a note
    directory = walk.open(at, frame, layout.role, chained=False, referrer=entry)
    if directory is None or not directory.entries or len(directory.entries) > MAX_NOTE_ENTRIES:
        return False
    guess = layout.count_from is From.GUESS
    base = _guessed(directory, (outer.base, start), (start, end)) if guess else frame.base
    alone = walk.name == "TIFF"  # in the EXIF of other formats, a program may have moved the note
    told = _base_by_footer(walk, directory, (start, end)) if layout.role == "Canon" else None
    if told is not None:
        base = told
    elif not _is_sound(directory, base, (start, end), walk.source.size, most=alone):
        directory.entries.clear()
        return False
    elif alone:
        kept = partial(_is_sound, directory, base, (start, end), walk.source.size, most=True, kept=True)
        directory.is_sound = kept
    _rebase(directory, base)
    _cover(walk, directory, [(start, at), *_footer(walk, start, end, frame)])
    entry.nested = entry.holds = True
    return True


def _guessed(directory: Directory, bases: tuple[int, ...], note: tuple[int, int]) -> int:
    """Return the base (origin of offsets) with which the most values are in *note*, the maker note."""
    by = {base: base - directory.frame.base for base in bases}
    values = [entry for entry in directory.entries if entry.size and not entry.inline]
    within = {
        base: sum(1 for e in values if note[0] <= e.start + by[base] and e.end + by[base] <= note[1])
        for base in bases
    }
    return max(bases, key=lambda base: within[base])


def _match(layout: Layout, head: bytes, walk: TiffWalk) -> tuple[Layout, re.Match[bytes]] | None:
    if layout.make is not None and not layout.make.match(walk.make):
        return None
    if layout.model is not None and not layout.model.match(walk.model):
        return None
    match = layout.head.match(head)
    return None if match is None else (layout, match)


def _frame(
    walk: TiffWalk, layout: Layout, match: re.Match[bytes], at: int, start: int, outer: Frame
) -> Frame:
    base = (start if layout.count_from is From.NOTE else outer.base) + layout.shift
    if "order" in match.re.groupindex:
        return Frame("<" if match["order"] == b"II" else ">", base=base, note=True)
    order = "<" if layout.little else outer.order
    count = walk.source.read(at, 2)
    if not layout.little and not 0 < Frame(order).number(count) <= MAX_NOTE_ENTRIES:
        order = "<" if order == ">" else ">"  # some cameras write notes in the other byte order
    return Frame(order, base=base, note=True)


def _is_sound(
    directory: Directory, base: int, note: tuple[int, int], size: int, *, most: bool, kept: bool = False
) -> bool:
    """Return True if the values are in the note, behind it, or in place. Otherwise a program moved the note,
    and bytes of one tag would stay as another tag's value. most: three of four values in the note are enough.
    kept: True to leave out removed values outside of the note. (What stands for one inside counts as it.)
    """
    by, (start, end) = base - directory.frame.base, note
    spared = {tag for tag, rule in NOTE_TABLES[directory.role].items() if rule.how is How.PICTURE}
    entries = [e for e in directory.entries if e.size and not e.inline and e.tag not in spared]
    spans = [
        (e.start + by, e.end + by)
        for e in entries
        if e.keep or not kept or (start <= e.start + by and e.end + by <= end)
    ]
    inside = [s for s in spans if s[0] >= 0 and s[1] <= size]
    own = sum(1 for a, b in inside if start <= a and b <= end and not _over(directory, a, b))
    enough = 4 * own >= 3 * len(inside) if most else own == len(inside)
    return enough or all(end <= a for a, _ in inside) or _is_in_place(directory, inside, end)


def _is_in_place(directory: Directory, spans: Sequence[tuple[int, int]], end: int) -> bool:
    """Return True if the values follow the directory and each other, and end near the note's end."""
    ordered = sorted(spans)
    gaps = [behind[0] - before[1] for before, behind in pairwise(ordered)]
    first = ordered[0][0] - directory.end
    return first in (0, 4) and all(0 <= gap < 64 for gap in gaps) and ordered[-1][1] - end <= OVERRUN_BYTES


def _over(directory: Directory, start: int, end: int) -> bool:
    """Return True if a value overlaps a directory, or starts 1 to 3 bytes behind it (inside a pointer)."""
    behind = directory.end if start == directory.end else directory.end + 4
    return start < behind and directory.offset < end


def _rebase(directory: Directory, base: int) -> None:
    by = base - directory.frame.base
    if by:
        directory.frame = replace(directory.frame, base=base)
        for entry in directory.entries:
            if not entry.inline:
                entry.start += by


def _base_by_footer(walk: TiffWalk, directory: Directory, note: tuple[int, int]) -> int | None:
    """Return the origin of offsets from a moved Canon note's footer; None unless the values fill the room
    between directory and footer with it, and do not fill the room with the present one.
    """
    (start, end), frame = note, directory.frame
    if not _footer(walk, start, end, frame):
        return None
    base = start - frame.number(walk.source.read(end - 4, 4))
    spans = sorted((e.start, e.end) for e in directory.entries if e.size and not e.inline)
    room = (directory.end, end - _FOOTER_BYTES)
    return base if not _fills(spans, 0, room) and _fills(spans, base - frame.base, room) else None


def _fills(spans: Sequence[tuple[int, int]], by: int, room: tuple[int, int]) -> bool:
    """Return True if the values, moved *by* bytes, follow one another and fill the whole room."""
    if not spans:
        return False
    gaps = [behind[0] - before[1] for before, behind in pairwise(spans)]
    first, last = spans[0][0] + by - room[0], room[1] - spans[-1][1] - by
    return first in (0, 4) and 0 <= last < _FOOTER_BYTES // 2 and all(0 <= gap < 4 for gap in gaps)


def _footer(walk: TiffWalk, start: int, end: int, frame: Frame) -> list[tuple[int, int]]:
    """Return [the range of Canon's footer], or []. The footer is a TIFF header with the note's old offset."""
    mark = b"II\x2a\0" if frame.order == "<" else b"MM\0\x2a"
    if end - start > _FOOTER_BYTES and walk.source.read(end - _FOOTER_BYTES, 4) == mark:
        return [(end - _FOOTER_BYTES, end)]
    return []


TABLES: Final[Mapping[str, Rules]] = MappingProxyType({**raw_tags.TABLES, **NOTE_TABLES})
OPENERS: Final[Mapping[How, NoteOpener]] = MappingProxyType({How.NOTE: open_note, How.PRIVATE: open_private})


@dataclass(frozen=True, slots=True)
class CleanNote:
    """A cleaned maker note: the offset and the bytes of each kept piece, and notes (records of removals).

    gone: ranges of removed values, and of the whole note. No other value may keep bytes in these ranges.
    """

    pieces: tuple[tuple[int, bytes], ...]
    notes: tuple[Note, ...]
    gone: tuple[tuple[int, int], ...]


def clean_note(
    block: bytes, entry: Entry, make: bytes, model: bytes, inner: Inner, taken: Iterable[tuple[int, int]]
) -> CleanNote | None:
    """Clean the maker note in an entry. The EXIF structure of the entry starts at the block's first byte.

    make, model: the camera's names. taken: ranges of other values in the note, and in OVERRUN_BYTES behind
    it. Return None if the note is not understood, or if nothing of it may stay. Pieces, like values, may be
    outside of the note. The caller must check that no other data is there. Raises TooMuchError.
    """
    if inner.hide & (Tells.DEVICE | Tells.OTHER):
        return None
    if _is_fixed(block, entry, make, inner) and not Extents(taken).hits(entry.start, entry.end):
        return CleanNote(((entry.start, block[entry.start : entry.end]),), (), ((entry.start, entry.end),))
    walk = TiffWalk(
        MemorySource(block), inner, "MakerNote", make=make, model=model, tables=TABLES, openers=OPENERS
    )
    if not open_note(walk, entry):
        return None
    others = Extents(taken)
    for span in others.clipped(entry.end, entry.end + OVERRUN_BYTES):
        walk.structure.add(*span)
    try:
        walk.walk()
        walk.settle()
    except NotThisKindError:
        return None
    walk.prune()
    note = (entry.start, entry.end)
    _keep_previews(walk, note)
    walk.finish()
    if not entry.keep or not any(e.keep for e in walk.directories[0].entries):
        return None
    new, wiped = apply(block, in_order(walk.patches, len(block))), (*walk.wiped, *walk.wiped_in_notes)
    kept = _with_leftovers(walk, block, note, Extents(wiped), others)
    return CleanNote(tuple((a, new[a:b]) for a, b in kept), tuple(walk.notes), (*wiped, note))


def _is_fixed(block: bytes, entry: Entry, make: bytes, inner: Inner) -> bool:
    """Return True if a note has a fixed layout, and may stay: only places are hidden, and it holds none."""
    note = block[entry.start : entry.end]
    if inner.hide & ~Tells.LOCATION or len(note) > _MAX_FIXED_BYTES:
        return False
    known = any(of.match(make) and start.match(note) for of, start in _FIXED)
    return known and not told_in_kept(note, inner.hide, inner.budget)


def previews(walk: TiffWalk, directory: Directory, start: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the possible (offset, length) pairs of each preview of the maker note at *start*."""
    for _, starts, sizes in pairs(walk, directory, PREVIEWS.get(directory.role, ())):
        if len(starts) == len(sizes) == 1:
            yield [(at + starts[0], sizes[0]) for at in dict.fromkeys((directory.frame.base, 0, start))]


def _keep_previews(walk: TiffWalk, note: tuple[int, int]) -> None:
    for directory in walk.directories:
        for places in previews(walk, directory, note[0]) if not directory.dropped else ():
            inside = (at for at in places if note[0] <= at[0] and sum(at) <= note[1])
            any(walk.embed_picture(*at) for at in inside)


def _with_leftovers(
    walk: TiffWalk, block: bytes, note: tuple[int, int], wiped: Extents, others: Extents
) -> Extents:
    """Return the ranges that stay for a maker note; record other unreferenced bytes as removed."""
    start, end = note
    kept = Extents(walk.kept)
    claimed, gone = (
        Extents((a - start, b - start) for spans in all_spans for a, b in spans.clipped(start, end))
        for all_spans in ((kept, wiped, others), (wiped,))
    )
    for a, b, stays in leftovers(block[start:end], claimed, gone):
        if stays:
            kept.add(start + a, start + b)
        else:
            walk.note(start + a, b - a, "unreferenced", UNKNOWN)
    return kept

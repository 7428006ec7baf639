"""Verdicts on new files, before the store gets them: a file is refused if it contains data of certain
categories.

Redaction removes every part that *may* hold data of a category. If all these parts counted here, nearly every
photo would be refused, because makers write tags without known names. So a part counts if its categories are
known. All other bytes that redaction would remove count only if a search finds data of the categories in
these bytes. The file is refused without a search in three cases: these bytes are too many, the rule forbids
bytes that are not understood (on_unknown: deny), or a category is PEOPLE or OTHER, whose data no search
finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.redact.core.block_starts import PLACE_MARKS
from policyfs.redact.core.categories import UNKNOWN, Tells, in_words
from policyfs.redact.core.cleaners import Found, Note
from policyfs.redact.core.free_text import decode, signed_runs, told_in_text
from policyfs.redact.core.patches import ByteSource, in_order

_NAMED: Final = 3
"""Maximum number of removed parts that a refusal lists by name."""
_PIECE_BYTES: Final = 1 << 20
_OVERLAP_BYTES: Final = 512
_MARGIN_BYTES: Final = 8
_SEARCHED_BYTES: Final = 64 << 20
"""Maximum number of bytes searched in a file. If more would change, it is refused."""
_SEARCHABLE: Final = Tells.LOCATION | Tells.TIME | Tells.DEVICE
"""Categories that a search can find. No search finds people: names and captions look like any other words."""

_RUN: Final = re.compile(rb"[\x20-\x7e\x80-\xff\t\r\n]{6,}|(?:[\x20-\x7e]\0){6,}|(?:\0[\x20-\x7e]){6,}")
"""Pattern of bytes that may be text in a common encoding. A match is searched without the bytes around it."""
_LEAST_BYTES: Final = 8
_SURE_BYTES: Final = 16
_WEAK: Final = re.compile(
    r"\b(?:gps|lat|lon|lng|geo)\b[^\w\n]{1,16}[nsew]?[^\w\n]{0,3}\d(?![\d.,])"  # lat 4
    # 47°48, 47°N, 4°48'
    r"|(?<![\d.,])\d{1,2}\s?[°º˚∘]\s?(?:\d{1,2}(?![\d.,]|\s?['\u2019\u2032\u00b4])|[nsew]\b)"
    r"|(?<![\d.,])\d\s?[°º˚∘]\s?\d{1,2}\s?['\u2019\u2032\u00b4](?!\s?[\dnsew])"
    r"|(?<![\d.,])\d\s\d{1,2}\s?['\u2019\u2032\u00b4]\s?[nsew]\b"  # 4 48'N
    r"|(?<![^\W_])[nsew]\s?\d[.,]\d\d(?![^\W_])"  # N4.78
    r"|(?<![^\W_])(?:[nsew]\d\s?[d*]\s?\d\s?'|\d\s?[d*]\s?\d\s?'\s?(?:\d|[nsew]\b))",  # N4d8', 4d8'N
    re.IGNORECASE,
)
"""Places of few digits. 100 MB of random bytes have two (tests.redaction.chances). So in a text of fewer than
_SURE_BYTES one alone counts only with another one at most _NEAR_BYTES before it, also in another part."""
_NEAR_BYTES: Final = 4096
_MIXED: Final = re.compile(rb"[\x20-\x7e\t\r\n]+(?:[\x80-\xff]{1,2}[\x20-\x7e\t\r\n]+)+")
_MIXED_BYTES: Final = 16
"""Text with letters of another encoding than UTF-8, and its minimum size. Seven of eight bytes are ASCII."""
_PLACE_NAME: Final = re.compile(
    r"\b(?:city|country(?:name|code)?|province|state|sub-?location|location(?:name|created|shown)?|place(?:name)?"
    r"|region|address|town|village|gps\w{0,20})\b[\"'\]\s>]{0,8}[=:>]{1,2}[\"'\[\s<]{0,8}\w{2}",
    re.IGNORECASE,
)
"""Pattern of a word for a kind of place (``city``) with the name of a place after it."""
_OF_AIRCRAFT: Final = bytes.fromhex("060e2b34020b01010e010301")
"""First bytes of sets of numbers of drones and aircraft (MISB ST 0601, 0102, 0903)."""
_DEGREES: Final = re.compile(rb"(?=(?s:(?P<le>[\0-\xb4]\0{3}\x01\0{3})|(?P<be>\0{3}[\0-\xb4]\0{3}\x01)))")
_MAX_DENOMINATOR: Final = 10_000_000
_PARTS: Final = 10
"""Minimum denominator with which minutes or seconds count alone (_has_degrees)."""
_FRACTIONS_BYTES: Final = 24
_APART_BYTES: Final = 64
"""Maximum number of bytes between the fractions of a latitude and those of a longitude."""
_SMALL: Final = 3
"""Minutes and seconds count if their sum is above this number. Flags and counts are smaller."""


def judged(found: Found, source: ByteSource, hide: Tells, *, strict: bool) -> str:
    """Return the reason to refuse a file that must not contain data of the categories *hide*; "" if there is
    no reason.

    found: the changes that redaction would make. strict: True to refuse a file with bytes that are not
    understood, without a search of these bytes.
    """
    patches = in_order(found.patches, source.size)
    if not patches:
        return ""
    notes = sorted(found.notes, key=lambda note: note.offset)
    known = [note for note in notes if _is_known(note) and note.tells & hide and not note.bare]
    if known:
        return f"holds data about {in_words(hide & _told(known))}: {_listed(known)}"
    odd = [note for note in notes if not note.bare and not (_is_known(note) and note.tells & hide)]
    named = _listed(odd) or f"bytes at {patches[0].offset}"
    # True if there are notes, and all notes are bare (known parts that hold no data). The search skips these
    # parts. So it covers only bytes without a note, such as bytes behind the last field of a table.
    empty = bool(notes) and not odd
    if strict and not empty:
        return f"parts are not understood: {named}; the rule denies such files (on_unknown: deny)"
    if hide & ~_SEARCHABLE and not empty:
        words = in_words(hide & ~_SEARCHABLE)
        return f"parts are not understood, and a search cannot find data about {words}: {named}"
    if sum(patch.size for patch in patches) > _SEARCHED_BYTES:
        return f"parts are not understood, and too large to be searched: {named}"
    told, bare, lone = Tells(0), [note for note in notes if note.bare], _LonePlaces()
    for patch in patches:
        # Coordinates may begin or end with zeros, but a patch has no zeros at its ends. So the search also
        # covers a margin around the patch.
        start, end = max(0, patch.offset - _MARGIN_BYTES), min(source.size, patch.end + _MARGIN_BYTES)
        for at, piece in _pieces(source, start, end, bare):
            told |= _searched(piece, hide & ~told, lone, at)
    if not told:
        return ""
    return f"a search found data about {in_words(told)} in parts that are not understood: {named}"


def _is_known(note: Note) -> bool:
    return not note.broken and note.tells != UNKNOWN


def _told(notes: list[Note]) -> Tells:
    told = Tells(0)
    for note in notes:
        told |= note.tells
    return told


def _listed(notes: list[Note]) -> str:
    named = "; ".join(f"{note.container} {note.tag} at {note.offset}" for note in notes[:_NAMED])
    more = len(notes) - _NAMED
    return named + (f" and {more} more" if more > 0 else "")


def _pieces(source: ByteSource, start: int, end: int, bare: list[Note]) -> Iterator[tuple[int, bytes]]:
    """Yield the offsets and bytes of pieces of [start, end) that overlap. *Bare* parts, which surely hold no
    data, are zeros."""
    for at in range(start, end, _PIECE_BYTES):
        data = bytearray(source.read(at, min(_PIECE_BYTES + _OVERLAP_BYTES, end - at)))
        for note in bare:
            first, behind = max(0, note.offset - at), min(len(data), note.offset + note.length - at)
            if first < behind:
                data[first:behind] = bytes(behind - first)
        yield at, bytes(data)


@dataclass(slots=True)
class _LonePlaces:
    """Offset of the last place that did not count, because it was alone in a short text (_WEAK)."""

    last: int = -_NEAR_BYTES

    def count(self, number: int, at: int) -> bool:
        """Note places at an offset; return True if they are two, with one before them. Pieces overlap, so the
        same offset may come again."""
        if not number or at == self.last:
            return False
        last, self.last = self.last, at
        return number > 1 or at - last < _NEAR_BYTES


def _searched(data: bytes, asked: Tells, lone: _LonePlaces | None = None, at: int = 0) -> Tells:
    """Return those of *asked* that bytes of unknown structure tell. at: their offset in the file, whose parts
    share *lone*."""
    if not asked or not data.strip(b"\0"):
        return Tells(0)
    told, lone = Tells(0), lone or _LonePlaces()
    marked = any(mark in data for mark in (*PLACE_MARKS, _OF_AIRCRAFT))
    if asked & Tells.LOCATION and (marked or _has_degrees(data)):
        told |= Tells.LOCATION
    for run in _RUN.finditer(data):
        most = 0
        for text, number in _texts(run[0]):
            most = max(most, number)
            told |= told_in_text(text, asked & ~told)
            if asked & Tells.LOCATION and _PLACE_NAME.search(text):
                told |= Tells.LOCATION
        if asked & Tells.LOCATION and lone.count(most, at + run.start()):
            told |= Tells.LOCATION
    return told


def _texts(run: bytes) -> Iterator[tuple[str, int]]:
    """Yield a match of _RUN if it is UTF-8, else what looks like text: random bytes match by chance. Also
    yield the number of places that are not in this text (_without_chance)."""
    plain = run.replace(b"\0", b"")
    text = plain.decode("utf-8", "replace")
    if "\ufffd" not in text:
        yield _without_chance(text)
        return
    if pieces := [piece for piece in text.split("\ufffd") if len(piece.encode()) >= _LEAST_BYTES]:
        texts, numbers = zip(*map(_without_chance, pieces), strict=True)
        yield "\n\n\n".join(texts), sum(numbers)
    for signed in signed_runs(plain):
        yield _without_chance(decode(signed))
    for mixed in _MIXED.findall(plain) if len(plain) >= _MIXED_BYTES else ():
        if len(mixed) >= _MIXED_BYTES and 8 * sum(byte < 0x80 for byte in mixed) >= 7 * len(mixed):
            yield _without_chance(mixed.decode("latin-1"), 2 * _MIXED_BYTES)


def _without_chance(text: str, sure_bytes: int = _SURE_BYTES) -> tuple[str, int]:
    """Return a text without its only place, and 1, if random bytes may have it: shorter than *sure_bytes*.
    Else return the text and 0."""
    if len(text.encode()) >= sure_bytes:
        return text, 0
    masked, places = _WEAK.subn(" ", text)
    return (masked, 1) if places == 1 else (text, 0)


def _has_degrees(data: bytes) -> bool:
    """Return True if three fractions are degrees, minutes and seconds. Whole numbers (flags, an index) can
    look like them. So three count alone only with a denominator of at least _PARTS, for seconds, or for
    minutes with seconds of 0; whole ones only in pairs, at most _APART_BYTES apart.
    """
    end = -1 - _APART_BYTES
    for match in _DEGREES.finditer(data):
        order: str = "little" if match["le"] is not None else "big"
        rest = data[match.start() : match.start() + 24]
        if len(rest) < 24:
            break
        numbers = [int.from_bytes(rest[at : at + 4], order) for at in range(0, 24, 4)]  # type: ignore[arg-type]
        degrees, _, minutes, per_minute, seconds, per_second = numbers
        sound = 0 < per_minute <= _MAX_DENOMINATOR and 0 < per_second <= _MAX_DENOMINATOR
        if (
            sound
            and minutes < 60 * per_minute
            and seconds < 60 * per_second
            and degrees
            and minutes / per_minute + seconds / per_second > _SMALL
        ):
            if _PARTS <= per_second <= seconds or (per_minute >= _PARTS and not seconds):
                return True
            if per_minute == 1 and per_second < _PARTS and (not seconds or seconds >= per_second):
                if 0 <= match.start() - end <= _APART_BYTES:
                    return True
                end = match.start() + _FRACTIONS_BYTES if match.start() > end else end
    return False

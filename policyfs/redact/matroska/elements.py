"""Cleaner of Matroska's metadata elements in memory: Info, Tracks, Tags, Chapters, Cues, an attached file.

Every element is looked up below its parent (tag_names.py). A removed element becomes Void, or spaces if
Matroska requires the element. An element is also removed if it lacks the child that it needs (Element.needs).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, Inner, Note, TooMuchError
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.tag_names import is_language
from policyfs.redact.matroska import tag_names
from policyfs.redact.matroska.codec_private import clean_private
from policyfs.redact.matroska.ebml import CRC_32, VOID, Head, head_at, void
from policyfs.redact.matroska.fonts import font_stays, is_font_type
from policyfs.redact.matroska.tag_names import ELEMENTS, Element, Form, tag_tells

MAX_DEPTH: Final = 12
MAX_ELEMENTS: Final = 100_000
"""Maximum number of metadata elements in a file. Cues in the usual form (cluster_positions) do not count."""
MAX_WALKED_CUES: Final = 100_000
"""Maximum size of usual Cues from which entries are removed. Larger ones go as a whole."""

_ROUNDS: Final = 4
"""Maximum number of rounds: one may remove what another element needs. If unsettled, all goes."""
_ONCE: Final = frozenset(
    {
        *(
            (tag_names.TRACK, ident)
            for ident in (tag_names.TRACK_NUMBER, tag_names.TRACK_TYPE, tag_names.CODEC_ID)
        ),
        *((tag_names.TRACK, ident) for ident in (tag_names.CODEC_PRIVATE, tag_names.ENCODINGS)),
        *((tag_names.ATTACHED_FILE, ident) for ident in (tag_names.FILE_MIME_TYPE, tag_names.FILE_DATA)),
        (tag_names.SIMPLE_TAG, tag_names.TAG_NAME),
        (tag_names.SIMPLE_TAG, tag_names.TAG_STRING),
        *(
            (tag_names.CONTENT_ENCODING, ident)
            for ident in (tag_names.ENCODING_SCOPE, tag_names.ENCODING_TYPE, tag_names.COMPRESSION)
        ),
        (tag_names.COMPRESSION, tag_names.COMPRESSION_ALGORITHM),
        (tag_names.COMPRESSION, tag_names.COMPRESSION_SETTINGS),
        (tag_names.SEEK, tag_names.SEEK_POSITION),
        (tag_names.CUE_TRACK_POSITIONS, tag_names.CUE_CLUSTER_POSITION),
    }
)
"""(parent, child): data on which others depend. Only the first stays: some readers use the last."""
_CONTAINER: Final = "Matroska"
_MAX_NUMBER_BYTES: Final = 8
_MAX_BINARY_BYTES: Final = 1 << 16
_WORD: Final = re.compile(rb"[A-Za-z0-9 ._/+:;=-]{0,96}\0*")


@dataclass(slots=True)
class Child:
    """An element in its parent's data: the bytes [at, end)."""

    at: int
    end: int
    head: Head

    def payload(self, data: bytes) -> bytes:
        """Return the element's payload. data: the parent's data."""
        return data[self.at + self.head.length : self.end]


def children(data: bytes) -> Iterator[Child]:
    """Yield the elements in the data of a master element (an element of elements), up to a broken one."""
    at = 0
    while (head := head_at(data, at)) is not None and head.size is not None:
        end = at + head.length + head.size
        if end > len(data):
            return
        yield Child(at, end, head)
        at = end


def child_data(data: bytes, ident: int) -> bytes | None:
    """Return the data of the first child with this id, or None."""
    return next((child.payload(data) for child in children(data) if child.head.ident == ident), None)


@dataclass(slots=True)
class Tree:
    """Cleaner of one file's master elements.

    known_at, clusters_at: offsets of the elements of the first level that stay, and of the clusters. told: a
    dictionary from a searched text to True if the text holds data to hide. Each round of clean() has most
    texts again, so they count once in the budget.
    """

    inner: Inner
    elements: int = 0
    known_at: AbstractSet[int] = frozenset()
    clusters_at: set[int] = field(default_factory=set)
    segment_start: int = 0
    file_end: int = 0
    notes: list[Note] = field(default_factory=list)
    told: dict[bytes, bool] = field(default_factory=dict)

    def clean(self, ident: int, data: bytes, needs: int = 0) -> Cleaned | None:
        """Clean the data of a master element. Return None if nothing of the element may stay.

        needs: the id of a required child; without this child, return None. Raises TooMuchError.
        """
        self.notes, old = [], data
        if ident == tag_names.CUES:
            self.inner.budget.search(len(data))
            positions = cluster_positions(data)
            if positions is not None:
                if all(self._leads_to(position, self.clusters_at) for position in positions):
                    return Cleaned(data)
                if len(data) > MAX_WALKED_CUES:
                    return None
        for _ in range(_ROUNDS):
            self.inner.budget.search(len(data))
            new = self._master(Element("", Form.MASTER, needs=needs), ident, data, 0, MAX_DEPTH)
            if new == data:
                return Cleaned(new, tuple(self.notes) if new != old else ())
            if new is None:
                return None
            data = new
        return None

    def _master(self, element: Element, ident: int, data: bytes, base: int, depth: int) -> bytes | None:
        if depth <= 0:
            return None
        own = self._own(ident, data)
        if own is not None:
            return own.data or None
        pieces: list[bytes] = []
        kept: set[int] = set()
        end = 0
        for child in children(data):
            self.elements += 1
            if self.elements > MAX_ELEMENTS:
                raise TooMuchError("too many elements")
            piece = self._child(ident, child, data, base, depth, again=child.head.ident in kept)
            pieces.append(piece)
            end = child.end
            if piece[0] != VOID:
                kept.add(child.head.ident)
        if end < len(data):
            pieces.append(self._rest(data[end:], base + end))
        new = b"".join(pieces)
        if new == data:
            return data
        if element.needs and element.needs not in kept:
            return None
        if pieces[0][0] == CRC_32:
            return void(len(pieces[0])) + new[len(pieces[0]) :]
        return new

    def _own(self, ident: int, data: bytes) -> Cleaned | None:
        """Apply the rule of a tag, a Seek entry or an attached file, which go as a whole: then return Cleaned
        without data; None to clean child by child.
        """
        if ident == tag_names.SIMPLE_TAG:
            value = child_data(data, tag_names.TAG_STRING) or b""
            if self._told(ident, data) & self.inner.hide or self._tells(value):
                return Cleaned(b"")
        elif ident == tag_names.SEEK:
            if not self._leads_to(child_data(data, tag_names.SEEK_POSITION) or b"", self.known_at):
                return Cleaned(b"")
        elif ident == tag_names.CUE_TRACK_POSITIONS:
            if not self._leads_to(child_data(data, tag_names.CUE_CLUSTER_POSITION) or b"", self.clusters_at):
                return Cleaned(b"")
        elif ident == tag_names.ATTACHED_FILE and self._attachment(data) is None:
            return Cleaned(b"")
        return None

    def _leads_to(self, position: bytes, places: AbstractSet[int]) -> bool:
        """Return True if a position is one of *places*, or behind the end of the file, which may be cut off.
        At any other, players would take bytes for an element, even within a block.
        """
        at = self.segment_start + int.from_bytes(position)
        return at in places or at >= self.file_end

    def _rest(self, rest: bytes, at: int) -> bytes:
        """Return the new bytes for the bytes behind the last whole element of a master element."""
        if not rest.strip(b"\0"):
            return rest
        self.notes.append(Note(at, len(rest), _CONTAINER, "broken element", UNKNOWN, True))
        return void(len(rest))

    def _child(self, parent: int, child: Child, data: bytes, base: int, depth: int, *, again: bool) -> bytes:
        """Return the new bytes of a child. again: True if an earlier child with the same id stays."""
        ident, whole = child.head.ident, data[child.at : child.end]
        payload = child.payload(data)
        if ident == VOID:
            if not payload.strip(b"\0"):
                return whole
            self.notes.append(Note(base + child.at, len(whole), _CONTAINER, "Void"))
            return whole[: child.head.length] + bytes(len(payload))
        if ident == CRC_32 and child.at == 0 and len(payload) == 4:
            return whole
        at = base + child.at
        if again and (parent, ident) in _ONCE:
            return self._gone(whole, at, "second element", UNKNOWN)
        if parent == tag_names.ATTACHED_FILE and ident == tag_names.FILE_DATA:
            return whole[: child.head.length] + (self._attachment(data) or b"")
        element = ELEMENTS.get(parent, {}).get(ident)
        if element is None:
            return self._gone(whole, at, f"unknown element {ident:x}", UNKNOWN)
        if element.form is Form.MASTER:
            start = len(self.notes)
            nested = self._master(element, ident, payload, at + child.head.length, depth - 1)
            if nested is None:
                del self.notes[start:]
                return self._gone(whole, at, element.name, self._told(ident, payload))
            return whole[: child.head.length] + nested
        new = self._leaf(parent, element, ident, data, payload)
        if new is None:
            return self._gone(whole, at, element.name, element.tells or UNKNOWN)
        if new != payload:
            self.notes.append(Note(at, len(whole), _CONTAINER, element.name, element.tells or UNKNOWN))
        return whole[: child.head.length] + new

    def _told(self, ident: int, data: bytes) -> Tells:
        if ident == tag_names.SIMPLE_TAG:
            name, value = (
                child_data(data, child) or b"" for child in (tag_names.TAG_NAME, tag_names.TAG_STRING)
            )
            return tag_tells(name, value)
        return UNKNOWN

    def _gone(self, whole: bytes, at: int, tag: str, tells: Tells) -> bytes:
        self.notes.append(Note(at, len(whole), _CONTAINER, tag, tells))
        return void(len(whole))

    def _leaf(self, parent: int, element: Element, ident: int, data: bytes, payload: bytes) -> bytes | None:
        """Return the new data of an element without children; None if the element must be removed."""
        hidden = bool(element.tells & self.inner.hide)
        if element.form is Form.NUMBER:
            return None if hidden or len(payload) > _MAX_NUMBER_BYTES else payload
        if element.form is Form.NAME:
            word = _WORD.fullmatch(payload) and not self._tells(payload)
            return payload if word and not hidden else None
        if element.form is Form.LANGUAGE:
            return payload if is_language(payload.rstrip(b"\0")) and not hidden else None
        if element.form is Form.BINARY:
            if parent == tag_names.TRACK and ident == tag_names.CODEC_PRIVATE:
                codec = (child_data(data, tag_names.CODEC_ID) or b"").rstrip(b"\0")
                return clean_private(codec.decode("latin-1"), payload, self.inner)
            long = len(payload) > _MAX_BINARY_BYTES
            return None if hidden or long or self._tells(payload) else payload
        text, _, rest = payload.partition(b"\0")
        if hidden or self._tells(payload):
            return b" " * len(payload) if element.required else None
        return payload if not rest.strip(b"\0") else text.ljust(len(payload), b"\0")

    def _tells(self, text: bytes) -> bool:
        asked = self.inner.hide & (Tells.LOCATION | Tells.TIME)
        if not asked or not text:
            return False
        if text not in self.told:
            if not self.inner.budget.look(len(text)):
                return True
            self.told[text] = bool(told_in(text, asked))
        return self.told[text]

    def _attachment(self, data: bytes) -> bytes | None:
        content = child_data(data, tag_names.FILE_DATA)
        mime = child_data(data, tag_names.FILE_MIME_TYPE) or b""
        if content is None or self.inner.hide == NOTHING:
            return None
        if is_font_type(mime) and font_stays(content, self.inner):
            return content
        cleaned = self.inner.image(content) if mime.startswith(b"image/") else None
        return None if cleaned is None else cleaned.data


MAX_POINTS: Final = 200_000
"""Maximum number of entries that are checked: two hours of a film in which each frame is a key frame."""

_NUMBER: Final = b"(?:" + b"|".join(rb"%b.{%d}" % (bytes([0x80 | size]), size) for size in range(1, 9)) + b")"
"""Pattern of a number's size and data: one to eight bytes."""
_SIZE: Final = rb"(?P<size>[\x80-\xfe]|[\x40-\x7e].|\x01\0{5}..)"
_CHECKSUM: Final = re.compile(rb"\xbf\x84.{4}", re.DOTALL)
_ONE_NUMBER: Final = re.compile(rb"(?:[\xf7\xf1\xf0\xb2]|\x53\x78)" + _NUMBER, re.DOTALL)
_CLUSTER_POSITION: Final = b"\xf1"
_POINT: Final = re.compile(rb"\xbb" + _SIZE + rb"\xb3" + _NUMBER, re.DOTALL)
"""Pattern of a CuePoint's header and its CueTime."""
_POSITIONS: Final = re.compile(
    rb"\xb7" + _SIZE + rb"(?P<numbers>(?:" + _ONE_NUMBER.pattern + rb")+)", re.DOTALL
)
"""Pattern of CueTrackPositions with its numbers: track, cluster, position, duration, block."""


def cluster_positions(data: bytes) -> set[bytes] | None:
    """Return the positions of clusters (the bytes of the numbers) in an index in the usual form.

    data: the data of a Cues element (RFC 9559 section 5.1.5). In the usual form each byte belongs to an
    entry, and entries consist of elements with numbers. So Tree must check only the positions: an index may
    have more elements than Tree may walk. Return None for any other form, and for too many entries.
    """
    found: set[bytes] = set()
    checksum = _CHECKSUM.match(data)
    at, count = checksum.end() if checksum else 0, 0
    while at < len(data):
        count += 1
        point = _POINT.match(data, at)
        if point is None or count > MAX_POINTS:
            return None
        end = at = point.end()
        while (positions := _POSITIONS.match(data, at)) is not None:
            if positions.end() - positions.start("numbers") != _size(positions):
                return None
            numbers = _ONE_NUMBER.findall(positions["numbers"])
            found |= {number[2:] for number in numbers if number.startswith(_CLUSTER_POSITION)}
            at = positions.end()
        if at == end or at - point.end("size") != _size(point):
            return None
    return found if count else None


def _size(found: re.Match[bytes]) -> int:
    size = found["size"]
    return int.from_bytes(size) & ((1 << 7 * len(size)) - 1)

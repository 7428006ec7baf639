"""Changes to the bytes of one box in memory: patches, and records (notes) of removed parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from policyfs.domain import Patch
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget, Cleaned, Found, Inner, Note, shifted
from policyfs.redact.core.filler import says_nothing
from policyfs.redact.core.free_text import told_in
from policyfs.redact.core.patches import MemorySource, difference
from policyfs.redact.core.tag_names import told
from policyfs.redact.isobmff.boxes import FREE, HEADER_BYTES, UUID, Box, Boxes, read_box, read_boxes

MAX_TEXT_BYTES: Final = 1 << 19
_NOT_ZERO: Final = re.compile(rb"[^\0]")
_STEP_BYTES: Final = 1 << 20
_IN_TEXT: Final = Tells.LOCATION | Tells.TIME | Tells.DEVICE
"""Categories whose data a search of text may find."""
_NAMES: Final = {b"\xa9": "(c)"}


def name_of(kind: bytes) -> str:
    """Return a box's type as printable text."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else _NAMES.get(bytes([byte]), "?") for byte in kind)


@dataclass(slots=True)
class TextRoom:
    """The budget for searches in the texts of one file.

    left: the number of bytes that may still be searched. When no byte is left, texts are removed without a
    search.
    """

    left: int = MAX_TEXT_BYTES


@dataclass(slots=True)
class Block:
    """The bytes [offset, offset + len(data)) of a file, in memory, with their patches and the records of
    removed parts.

    Offsets in all methods count from the block's start. The caller must not change a byte twice. parts: the
    budget for boxes in the block; by default the budget of the whole file.
    """

    data: bytes
    offset: int
    inner: Inner
    found: Found = field(default_factory=Found)
    parts: Budget | None = None
    text: TextRoom = field(default_factory=TextRoom)
    _source: MemorySource = field(init=False)

    def __post_init__(self) -> None:
        self._source = MemorySource(self.data)

    def boxes(self, start: int, end: int) -> Boxes:
        """Return the boxes in [start, end). Raises TooMuchError."""
        return read_boxes(self._source, start, end, self.parts or self.inner.budget)

    def listed(self, start: int, end: int) -> Boxes:
        """Return the boxes in [start, end), of any type. Raises TooMuchError.

        A type may be any four bytes, such as the number of a key or the format of samples.
        """
        found: list[Box] = []
        at = start
        while at < end:
            (self.parts or self.inner.budget).part()
            box = read_box(self._source, at, end)
            if box is None:
                break
            found.append(box)
            at = box.end
        ended = at < end and not any(self.data[at : min(at + 4, end)])
        return Boxes(tuple(found), at, ended)

    def children(self, box: Box, skip: int = 0) -> Boxes:
        """Return the boxes inside the body of a box.

        skip: number of bytes in the body before the first of these boxes.
        """
        return self.boxes(min(box.body + skip, box.end), box.end)

    def body(self, box: Box) -> bytes:
        """Return the body of a box: its bytes behind the header."""
        return self.data[box.body : box.end]

    def goes(self, tells: Tells) -> bool:
        """Return True if metadata of these categories must be removed, because one of them must be hidden."""
        return bool(tells & self.inner.hide)

    def told(self, data: bytes) -> Tells:
        """Return the categories of the data in a text, but only categories that must be hidden.

        If the budget for searches is used up, return all categories that must be hidden.
        """
        if not self.goes(_IN_TEXT):
            return NOTHING
        self.text.left -= len(data)
        return self.inner.hide & UNKNOWN if self.text.left < 0 else told_in(data, self.inner.hide)

    def told_in_name(self, data: bytes) -> Tells:
        """Return the categories of the data in a name, but only categories that must be hidden.

        Unlike told(), also find a date without a time of day, and more names of devices. If the budget for
        searches is used up, return all categories that must be hidden.
        """
        if not self.goes(_IN_TEXT):
            return NOTHING
        self.text.left -= len(data)
        return told(self.inner.hide, NOTHING, data) if self.text.left >= 0 else self.inner.hide & UNKNOWN

    def number(self, at: int, size: int = 4) -> int:
        """Return the big-endian number of `size` bytes at an offset."""
        return int.from_bytes(self.data[at : at + size])

    def put(self, at: int, new: bytes) -> bool:
        """Replace the bytes at the offset *at* by *new*; return True if any byte changes."""
        before = len(self.found.patches)
        for start in range(0, len(new), _STEP_BYTES):
            part = new[start : start + _STEP_BYTES]
            old = self.data[at + start : at + start + len(part)]
            self.found.patches += difference(self.offset + at + start, old, part)
        return len(self.found.patches) > before

    def blank(self, start: int, end: int) -> bool:
        """Zero the bytes [start, end); return True if any byte changes."""
        first = _NOT_ZERO.search(self.data, start, end)
        if first is None:
            return False
        start, step = first.start(), _STEP_BYTES
        while not (tail := self.data[max(start, end - step) : end].rstrip(b"\0")):
            end -= step
        end = max(start, end - step) + len(tail)
        self.found.patches.append(Patch(self.offset + start, zeros=end - start))
        return True

    def wipe(self, start: int, end: int, where: str, tag: str, tells: Tells, *, broken: bool = False) -> None:
        """Zero the bytes [start, end). If any byte changes, record that the part *tag* was removed.

        where: the name of the part's container. tells: the categories of the part's data. Filler (bytes
        without information) stays if *tells* is UNKNOWN and *broken* is False.
        """
        if tells == UNKNOWN and not broken and says_nothing(self.data[start:end]):
            return
        if self.blank(start, end):
            self.note(start, end, where, tag, tells, broken=broken)

    def note(
        self, start: int, end: int, where: str, tag: str, tells: Tells = UNKNOWN, *, broken: bool = False
    ) -> None:
        """Record that the bytes [start, end) were removed. where, tag: the names of the container and of the
        part.
        """
        self.found.notes.append(Note(self.offset + start, end - start, where, tag, tells, broken))

    def free(self, box: Box, where: str, tells: Tells = UNKNOWN, *, broken: bool = False) -> None:
        """Turn a box into a ``free`` box of the same size that holds zeros, and record the removal. where:
        the name of the box's container.
        """
        content = box.body - (16 if box.kind == UUID else 0)
        changed = self.put(box.start + 4, FREE)
        if self.blank(content, box.end) or changed:
            self.note(box.start, box.end, where, name_of(box.kind), tells, broken=broken)

    def rest(self, boxes: Boxes, end: int, where: str) -> None:
        """Turn the bytes behind the last whole box of a container, up to *end*, into a ``free`` box.

        If these bytes are too few for a box header, or start with the end mark of a list, they become zeros
        without a header.
        """
        last = boxes.boxes[-1] if boxes.boxes else None
        start = last.start if last is not None and last.cut else boxes.rest
        if _NOT_ZERO.search(self.data, start, end) is None:
            return
        if end - start < HEADER_BYTES or boxes.ended:
            self.wipe(start, end, where, "junk", UNKNOWN, broken=True)
            return
        head = (end - start).to_bytes(4) + FREE
        if self.put(start, head) | self.blank(start + HEADER_BYTES, end):
            self.note(start, end, where, "junk", UNKNOWN, broken=True)

    def replace(self, at: int, size: int, cleaned: Cleaned | None, where: str, tag: str) -> bool:
        """Replace the bytes [at, at + size) by the result of a cleaner, and copy the result's records of
        removed parts.

        Return False if the result is None or has another size. where, tag: the names of the container and of
        the part.
        """
        if cleaned is None or len(cleaned.data) != size:
            return False
        if self.put(at, cleaned.data):
            self.found.notes += shifted(cleaned.notes or (Note(0, size, where, tag),), self.offset + at)
        return True

"""Reader of the boxes of ISO base media files and QuickTime files.

A box starts with a size of 4 bytes and a type of 4 bytes. If the size is 1, a longer size of 8 bytes follows.
If the type is ``uuid``, an extended type of 16 bytes follows (ISO/IEC 14496-12 section 4.2; QuickTime File
Format, "Atoms"). In the last box of a file, a size of 0 means "to the end of the file". In a QuickTime
``udta``, four zero bytes end the list.

A stated size is not trusted: a box never ends behind its container. Callers decide whether a box stays.
freed() returns the replacement of a removed box: a ``free`` box of the same size, full of zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from policyfs.redact.core.block_starts import holds_metadata
from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.free_text import bytes_tell_place
from policyfs.redact.core.patches import ByteSource

HEADER_BYTES: Final = 8
FREE: Final = b"free"
UUID: Final = b"uuid"
_MAX_HEADER_BYTES: Final = 32
_MAJOR_BYTES: Final = 8
_MORE_BRANDS_BYTES: Final = 16
_PRINTABLE: Final = re.compile(rb"[\x20-\x7e\xa9\x00]{4}|ms\0.", re.DOTALL)

_TYPE: Final = re.compile(rb"[A-Za-z0-9 \xa9-]{4}")


class Box(NamedTuple):
    """One box. Offsets in bytes of its source.

    kind: the box's type, 4 bytes. start: offset of the header. body: offset behind the header. end: offset
    behind the box, never behind its container. extended: the 16 bytes of a ``uuid`` box's type, else empty.
    cut: True if the stated size reaches beyond the container. to_end: True if the size field is 0.
    """

    kind: bytes
    start: int
    body: int
    end: int
    extended: bytes = b""
    cut: bool = False
    to_end: bool = False

    @property
    def size(self) -> int:
        """Size of the whole box in bytes, header included."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of a file or of a container, in order, and their end.

    rest: offset of the first byte that is in no box, because no valid header is there; the container's end if
    the boxes fill the container. ended: True if four zero bytes at `rest` end the list, as in QuickTime.
    """

    boxes: tuple[Box, ...]
    rest: int
    ended: bool = False

    def __iter__(self) -> Iterator[Box]:
        return iter(self.boxes)

    def first(self, kind: bytes) -> Box | None:
        """Return the first box of this type, or None."""
        return next((box for box in self.boxes if box.kind == kind), None)


def read_box(source: ByteSource, at: int, end: int, *, to_end: bool = False) -> Box | None:
    """Return the box with its header at the offset *at*, within [at, end). Return None if no valid header is
    there.

    to_end: True if a size of 0 is allowed (only at the top of a file); such a box ends at `end`. If the
    stated size reaches beyond `end`, the result has ``cut`` set, and ends at `end`.
    """
    head = source.read(at, min(_MAX_HEADER_BYTES, end - at))
    if len(head) < HEADER_BYTES:
        return None
    size, kind, header = int.from_bytes(head[:4]), head[4:8], HEADER_BYTES
    open_ended = size == 0
    if size == 1:
        header += 8
        size = int.from_bytes(head[8:16])
    elif open_ended:
        if not to_end:
            return None
        size = end - at
    extended = b""
    if kind == UUID:
        extended = head[header : header + 16]
        header += 16
    if size < header or len(head) < header:
        return None
    return Box(kind, at, at + header, min(at + size, end), extended, at + size > end, open_ended)


def read_boxes(source: ByteSource, start: int, end: int, budget: Budget, *, to_end: bool = False) -> Boxes:
    """Return the boxes in [start, end), without the boxes inside them. Raises TooMuchError.

    to_end: as in read_box. A box that is cut off by `end` is the last one. The list ends at a type with bytes
    other than printable ASCII, zeros and QuickTime's (c), if its size does not lead to `end` or to another
    box. Such bytes are junk. (Types of Microsoft's codecs are allowed, too.)
    """
    found: list[Box] = []
    at = start
    while at < end:
        budget.part()
        box = read_box(source, at, end, to_end=to_end)
        if box is None or not (_PRINTABLE.fullmatch(box.kind) or _leads_on(source, box, end)):
            ended = box is None and end - at >= 4 and not any(source.read(at, 4))
            return Boxes(tuple(found), at, ended)
        found.append(box)
        at = box.end
    return Boxes(tuple(found), at)


def _leads_on(source: ByteSource, box: Box, end: int) -> bool:
    """Return True if a box of an unlikely type ends at `end`, or at a box of a likely type."""
    if box.cut or box.to_end or box.end == end:
        return not (box.cut or box.to_end)
    following = read_box(source, box.end, end)
    return following is not None and not following.cut and _TYPE.fullmatch(following.kind) is not None


def kept_brands(source: ByteSource, box: Box, most: int) -> int:
    """Return the number of bytes of a file type box's body that may stay: all brands, up to *most* bytes.

    Only the major brand and its version may stay if the text of the brands tells a place, or if a block of
    metadata is among them.
    """
    size = box.end - box.body
    brands = source.read(box.body, min(size, most + _MORE_BRANDS_BYTES))
    if bytes_tell_place(brands) or holds_metadata(brands):
        return min(size, _MAJOR_BYTES)
    return most if box.size > most + _MORE_BRANDS_BYTES else size & ~3


def full_box(payload: bytes) -> tuple[int, int]:
    """Return version and flags from the start of a full box's payload.

    Raises ValueError if the payload is too short.
    """
    if len(payload) < 4:
        raise ValueError("too short for version and flags")
    return payload[0], int.from_bytes(payload[1:4])


def freed(raw: bytes) -> bytes:
    """Return a ``free`` box of the same size that holds zeros. raw: the bytes of a box, header included.

    The size field keeps its form: 4 bytes, 8 bytes, or 0 for "to the end".
    """
    kept = 16 if int.from_bytes(raw[:4]) == 1 else HEADER_BYTES
    return raw[:4] + FREE + raw[HEADER_BYTES:kept] + bytes(len(raw) - kept)

"""Elements of EBML (RFC 8794): their headers, and the replacement of removed elements.

An element is an id, a size, and data of this size. A removed element becomes a Void element of the same
length that holds zeros; every reader skips it. A checksum over a removed element becomes Void, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from policyfs.domain import Patch
from policyfs.redact.core.edits import Edits
from policyfs.redact.core.patches import CHUNK_BYTES, ByteSource

VOID: Final = 0xEC
CRC_32: Final = 0xBF
HEAD_BYTES: Final = 12
"""Maximum length of a header: an id takes up to 4 bytes, a size up to 8."""

_SHORT_VOID: Final = 126
_LONG_HEAD: Final = 9
_LOOKED_AT: Final = 16 * CHUNK_BYTES
"""Maximum number of zeros that are read in a row. The bytes behind them count as not zero."""


class Head(NamedTuple):
    """An element's header: its id, the header's length, the data's length (None: unknown)."""

    ident: int
    length: int
    size: int | None


def head_at(data: bytes, at: int = 0) -> Head | None:
    """Return the header at an offset of data; None if no whole header is there."""
    if at >= len(data):
        return None
    width = 9 - data[at].bit_length()
    if width > 4 or at + width >= len(data):
        return None
    ident = int.from_bytes(data[at : at + width])
    start = at + width
    length = 9 - data[start].bit_length()
    if length > 8 or start + length > len(data):
        return None
    unknown = (1 << 7 * length) - 1
    size = int.from_bytes(data[start : start + length]) & unknown
    return Head(ident, width + length, None if size == unknown else size)


def head_before(source: ByteSource, at: int, end: int) -> Head | None:
    """Return the element header at the offset *at*; None if no whole header is within [at, end).

    Bytes behind the end belong to another element, and may change when that element is cleaned.
    """
    return head_at(source.read(at, min(HEAD_BYTES, end - at)))


def number_at(data: bytes, at: int = 0) -> tuple[int, int] | None:
    """Read a number of variable width.

    Return the number and its length in bytes, or None if the number is cut off.
    """
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > 8 or at + length > len(data):
        return None
    return int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1), length


def void_head(size: int) -> bytes:
    """Return the start of a Void element of `size` bytes in all. Zeros must follow it.

    A single byte cannot be an element, so it becomes a zero.
    """
    if size < 2:
        return bytes(size)
    if size - 2 <= _SHORT_VOID:
        return bytes((VOID, 0x80 | (size - 2)))
    return bytes((VOID, 0x01)) + (size - _LONG_HEAD).to_bytes(7)


def void(size: int) -> bytes:
    """Return a Void element of `size` bytes."""
    return void_head(size).ljust(size, b"\0")


def void_patches(source: ByteSource, start: int, end: int) -> Iterator[Patch]:
    """Yield patches that turn [start, end) of a file into one Void element."""
    head = void_head(end - start)
    if source.read(start, len(head)) != head:
        yield Patch(start, head)
    yield from zero_patches(source, start + len(head), end)


def zero_patches(source: ByteSource, start: int, end: int) -> Iterator[Patch]:
    """Yield at most one patch that makes [start, end) zero.

    Read only up to the first byte that is not zero.
    """
    at = start
    while at < end and at - start < _LOOKED_AT:
        chunk = source.read(at, min(CHUNK_BYTES, end - at))
        if not chunk:
            return
        rest = chunk.lstrip(b"\0")
        if rest:
            at += len(chunk) - len(rest)
            break
        at += len(chunk)
    if at < end:
        yield Patch(at, zeros=end - at)


@dataclass(slots=True)
class ElementEdits(Edits):
    """The changes to a file of elements: a removed element becomes Void."""

    container: str = "Matroska"

    def void(self, at: int, stop: int, tag: str, *, broken: bool = False) -> bool:
        """Turn [at, stop) into a Void element; return True if any byte changes."""
        patches = list(void_patches(self.source, at, stop))
        if patches:
            self.found.patches += patches
            self.note(at, stop - at, tag, broken=broken)
        return bool(patches)

    def emptied(self, at: int, start: int, stop: int) -> bool:
        """Zero the data of a Void element from *start* on, which may be old; True if any byte changes."""
        patches = list(zero_patches(self.source, start, stop))
        if patches:
            self.found.patches += patches
            self.note(at, stop - at, "Void")
        return bool(patches)

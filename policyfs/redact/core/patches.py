"""Sources of bytes, and functions on patches. A patch changes bytes, never a length.

Most modules of the package redact/ read sources by range and return patches. So they need not know whether
the bytes are a file, a copy or a slice in memory. Cleaners of small blocks take and return bytes instead
(cleaners.Cleaned).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from policyfs.domain import Patch

CHUNK_BYTES: Final = 1 << 20
MAX_ZEROS_BYTES: Final = 1 << 26
"""Maximum number of bytes that one call reads to find out if they are zeros: a hole may be huge."""
_BLANK: Final = bytes(1 << 16)

_SAME_BYTES: Final = re.compile(rb"(.)\1*", re.DOTALL)
_CHANGED_RUN: Final = re.compile(rb"[^\0]+(?:\0{1,15}[^\0]+)*")


class ByteSource(Protocol):
    """A file's bytes, read by range. Offsets and sizes in bytes."""

    @property
    def size(self) -> int:
        """Total size in bytes; must not change during the work."""

    def read(self, offset: int, size: int, /) -> bytes:
        """Read up to size bytes at offset; fewer only at the end."""


class MemorySource:
    """A ByteSource over bytes in memory: an embedded image, a test's file."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self._data)

    def read(self, offset: int, size: int, /) -> bytes:
        """Read up to size bytes at offset; fewer only at the end."""
        return self._data[offset : offset + size]


class SliceSource:
    """A ByteSource over the range [start, start + size) of another source, such as a video behind a photo."""

    __slots__ = ("_size", "_source", "_start")

    def __init__(self, source: ByteSource, start: int, size: int) -> None:
        self._source = source
        self._start = start
        self._size = max(0, min(size, source.size - start))

    @property
    def size(self) -> int:
        """Size of the part in bytes."""
        return self._size

    def read(self, offset: int, size: int, /) -> bytes:
        """Read up to size bytes at an offset of the part; fewer only at the end of the part."""
        size = min(size, self._size - offset)
        return self._source.read(self._start + offset, size) if size > 0 else b""


class Window:
    """A ByteSource that reads another one *ahead* bytes at a time, for many small reads."""

    __slots__ = ("_ahead", "_base", "_data", "_source")

    def __init__(self, source: ByteSource, ahead: int = 1 << 12) -> None:
        self._source = source
        self._ahead = ahead
        self._base = 0
        self._data = b""

    @property
    def size(self) -> int:
        """Size of the source in bytes."""
        return self._source.size

    def read(self, offset: int, size: int, /) -> bytes:
        """Read up to size bytes at offset; fewer only at the end."""
        at = offset - self._base
        if not 0 <= at <= len(self._data) - size:
            if size > self._ahead:
                return self._source.read(offset, size)
            self._base, self._data, at = offset, self._source.read(offset, self._ahead), 0
        return self._data[at : at + size]


class PatchedSource:
    """A ByteSource over another source, with patches applied."""

    __slots__ = ("_ends", "_patches", "_source")

    def __init__(self, source: ByteSource, patches: Sequence[Patch]) -> None:
        self._source = source
        self._patches = patches
        self._ends = [patch.end for patch in patches]

    @property
    def size(self) -> int:
        """Size in bytes; patches do not change it."""
        return self._source.size

    def read(self, offset: int, size: int, /) -> bytes:
        """Read up to size bytes at offset and apply the patches; fewer bytes only at the end."""
        data = bytearray(self._source.read(offset, size))
        end = offset + len(data)
        for index in range(bisect_right(self._ends, offset), len(self._ends)):
            patch = self._patches[index]
            if patch.offset >= end:
                break
            start, stop = max(patch.offset, offset), min(patch.end, end)
            data[start - offset : stop - offset] = patch.part(start, stop)
        return bytes(data)


def xor(left: bytes, right: bytes) -> bytes:
    """Return the bytewise exclusive or of two byte strings of the same length, without a loop in Python."""
    mixed = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return mixed.to_bytes(len(left), "big")


def mask(data: bytes, keep: bytes) -> bytes:
    """Return data with zeros where keep has zeros. keep: bytes of 0 or 0xff, as many as in data."""
    kept = int.from_bytes(data, "big") & int.from_bytes(keep, "big")
    return kept.to_bytes(len(data), "big")


def difference(offset: int, old: bytes, new: bytes) -> Iterator[Patch]:
    """Yield patches that turn *old*, the bytes at an offset, into *new*. Changes less than 16 bytes apart
    share a patch.

    Raises ValueError if the lengths differ: a size never changes.
    """
    if len(old) != len(new):
        raise ValueError(f"a patch may not change a size ({len(old)} to {len(new)} bytes)")
    if old == new:
        return
    for run in _CHANGED_RUN.finditer(xor(old, new)):
        yield Patch(offset + run.start(), new[run.start() : run.end()])


def uniform_difference(offset: int, old: bytes, new: bytes) -> Iterator[Patch]:
    """Yield the patches of difference(), split into patches of one repeated byte each.

    The number of new bytes in a plan is limited (content/pieces.py). A run of one neutral byte (zero, space
    or 0xff) does not count, but a patch with unchanged bytes between such runs may count. A long film may
    have a patch in each frame.
    """
    for patch in difference(offset, old, new):
        for run in _SAME_BYTES.finditer(patch.data):
            start = patch.offset + run.start()
            if old[start - offset : start - offset + len(run[0])] != run[0]:
                yield Patch(start, run[0])


def is_blank(data: bytes) -> bool:
    """Return True if all bytes are zero. (bytes.strip() tests each byte and is about sixty times slower.)"""
    if any(data[:1]):
        return False
    step = len(_BLANK)
    return all(data[at : at + step] == _BLANK[: len(data) - at] for at in range(0, len(data), step))


def zeros(source: ByteSource, start: int, end: int) -> Iterator[Patch]:
    """Yield patches that make the bytes in [start, end) zero; yield none if all of them are zero already.

    Only the first MAX_ZEROS_BYTES are read, in chunks of CHUNK_BYTES. Zeros at the ends of a chunk get no
    patch. One patch covers all bytes that are not read.
    """
    looked = min(end, start + MAX_ZEROS_BYTES)
    if looked < end:
        yield Patch(looked, zeros=end - looked)
    for offset in range(start, looked, CHUNK_BYTES):
        chunk = source.read(offset, min(CHUNK_BYTES, looked - offset))
        if is_blank(chunk):
            continue
        tail = chunk.rstrip(b"\0")
        lead = len(tail) - len(tail.lstrip(b"\0"))
        yield Patch(offset + lead, zeros=len(tail) - lead)


def skip_zeros(source: ByteSource, start: int) -> int:
    """Return the offset of the first byte at or after start that is not zero; the source's size if all bytes
    are zero.

    After MAX_ZEROS_BYTES of zeros the search ends: return the offset after them.
    """
    looked = min(source.size, start + MAX_ZEROS_BYTES)
    for offset in range(start, looked, CHUNK_BYTES):
        chunk = source.read(offset, CHUNK_BYTES)
        if is_blank(chunk):
            continue
        return offset + len(chunk) - len(chunk.lstrip(b"\0"))
    return max(start, looked)


def in_order(patches: Iterable[Patch], size: int) -> tuple[Patch, ...]:
    """Return the patches sorted by offset.

    Raises ValueError if two patches overlap, or if a patch is not within [0, size). Both are bugs of the
    caller.
    """
    ordered = tuple(sorted((p for p in patches if p.size), key=lambda p: p.offset))
    end = 0
    for patch in ordered:
        if patch.offset < end:
            raise ValueError(f"patches overlap at offset {patch.offset}")
        end = patch.end
    if end > size:
        raise ValueError(f"a patch ends at offset {end}, but there are only {size} bytes")
    return ordered


def apply(data: bytes, patches: Iterable[Patch]) -> bytes:
    """Return the bytes with the patches applied (for data in memory)."""
    out = bytearray(data)
    for patch in patches:
        out[patch.offset : patch.end] = patch.part(patch.offset, patch.end)
    return bytes(out)

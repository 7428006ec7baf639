"""Pieces of replacement bytes: bytes of the file, runs of one byte, and new bytes.

Redaction removes data and adds little. So nearly all bytes of a plan are runs of one byte, or are in the file
already, at the same offset or at another. Only the rest, the literal bytes, could come from another file that
the worker saw. The daemon limits the number of literal bytes by kind, and reads copied bytes from the file
itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from policyfs.domain import Patch

COPY_MIN: Final = 16
"""Least length of a copy from the file. A worker could put together any text from shorter copies."""
NEUTRAL: Final = frozenset(b"\0 0\xff")
"""Byte values that hold no information when they are repeated. A run of any other byte counts as one literal
byte."""
LITERAL_BYTES: Final = 4096
"""The limit of literal bytes (new bytes, which are not in the file) in one plan, for most kinds of files."""
_COVER_BYTES: Final = 1 << 18
_MORE: Final = (
    (re.compile("application/pdf"), 1 << 20, re.compile(rb"%PDF-")),
    (re.compile("image/a?png"), _COVER_BYTES, re.compile(rb"\x89PNG\r\n\x1a\n")),
    (re.compile("image/(?:hei[cf]|avif)"), 1 << 16, re.compile(rb"....ftyp", re.DOTALL)),
    (
        re.compile("(?:audio|video|application)/.*|image/vnd.microsoft.icon"),
        _COVER_BYTES,
        re.compile(
            rb"....ftyp|....moov|ID3|fLaC|OggS|RIFF|RF64|FORM|\x1aE\xdf\xa3|0&\xb2u|\x00\x00\x01\xba"
            rb"|\0\0[\1\2]\0",
            re.DOTALL,
        ),
    ),
)
"""Kinds that need more literal bytes, because a redaction compresses their streams again: PDF, PNG, and all
that may hold a PNG (a cover, an icon).

For each pattern of kinds: the allowed number of literal bytes, and a pattern of the file's first bytes. The
worker reports the kind. So the daemon compares the file with the signature.
"""
HEAD_BYTES: Final = 16

_SHORT: Final = 16
_RUN: Final = re.compile(rb"(.)\1{7,}", re.DOTALL)
_KEPT: Final = re.compile(rb"\0{16,}")
_NEAR: Final = 1 << 16
_SEARCHED_MAX: Final = 1 << 28
"""The limit of bytes that are searched in one plan, to find replacement bytes elsewhere in the file. Such a
search takes about 0.2 s.

Pieces after the limit count as literal bytes.
"""

Read = Callable[[int, int], bytes]
"""A function that reads bytes of the file: offset, size -> bytes."""


class Piece(NamedTuple):
    """Part of a patch. origin: offset in the file of the bytes to copy; -1 if ``data`` holds the bytes. If
    ``data`` has only one byte, this byte is repeated ``size`` times."""

    offset: int
    size: int
    data: bytes = b""
    origin: int = -1


def literal_bytes_for(kind: str, head: bytes) -> int:
    """Return the number of literal bytes allowed in a plan for a file of this kind and head."""
    for kinds, most, start in _MORE:
        if kinds.fullmatch(kind) and start.match(head):
            return most
    return LITERAL_BYTES


def cost(piece: Piece) -> int:
    """Return the number of literal bytes that a piece counts as, for the limit of its plan."""
    if piece.origin >= 0:
        return 0
    if len(piece.data) == 1 and piece.data[0] in NEUTRAL:
        return 0
    return len(piece.data)


class Splitter:
    """A splitter that divides the patches of one file into pieces."""

    def __init__(self, read: Read, size: int) -> None:
        """Set the function that reads the file's bytes. size: size of the file in bytes."""
        self._read = read
        self._size = size
        self._searched = 0
        self._near: tuple[Patch | None, int, bytes] = (None, 0, b"")

    def pieces(self, patch: Patch) -> list[Piece]:
        """Split the new bytes of a patch into pieces. Return the pieces in order; there are no gaps between
        them."""
        data = patch.data
        if data.count(data[:1]) == len(data):
            return [Piece(patch.offset, len(data), data[:1])]
        if len(data) <= _SHORT:
            return [Piece(patch.offset, len(data), data)]
        old = self._read(patch.offset, max(0, min(self._size, patch.end) - patch.offset))
        found: list[Piece] = []
        for first, last, kept in _stretches(_KEPT, _difference(data, old)):
            if kept:
                found.append(Piece(patch.offset + first, last - first, origin=patch.offset + first))
            else:
                found += self._changed(data[first:last], patch.offset + first, patch)
        return found

    def _changed(self, data: bytes, offset: int, patch: Patch) -> Iterator[Piece]:
        for first, last, is_run in _stretches(_RUN, data):
            if is_run:
                yield Piece(offset + first, last - first, data[first : first + 1])
            elif last - first < COPY_MIN:
                yield Piece(offset + first, last - first, data[first:last])
            else:
                start, near = self._around(patch)
                yield from self._moved(data[first:last], offset + first, near, start)

    def _around(self, patch: Patch) -> tuple[int, bytes]:
        """Return the offset of the bytes around a patch, and the bytes, which are read once for it."""
        if self._near[0] is not patch:
            start = max(0, patch.offset - _NEAR)
            end = min(self._size, patch.end + _NEAR)
            self._near = patch, start, self._read(start, end - start)
        return self._near[1:]

    def _moved(self, data: bytes, offset: int, near: bytes, start: int) -> Iterator[Piece]:
        """Split new bytes into copies of nearby bytes of the file and literal bytes. Yield these pieces in
        order.

        data: the new bytes. offset: the offset of *data* in the file. near: the file's bytes around this
        offset. start: the offset of *near* in the file.
        """
        new = at = 0
        shift = 0
        while at + COPY_MIN <= len(data):
            wanted = data[at : at + COPY_MIN]
            place = at + shift
            if place < 0 or near[place : place + COPY_MIN] != wanted:
                place = self._find(near, wanted)
            if place < 0:
                at += COPY_MIN // 2
                continue
            if new < at:
                yield Piece(offset + new, at - new, data[new:at])
            size = _common(data, at, near, place)
            yield Piece(offset + at, size, origin=start + place)
            shift, at = place - at, at + size
            new = at
        if new < len(data):
            yield Piece(offset + new, len(data) - new, data[new:])

    def _find(self, near: bytes, wanted: bytes) -> int:
        if self._searched > _SEARCHED_MAX:
            return -1
        place = near.find(wanted)
        self._searched += len(near) if place < 0 else place
        return place


def _difference(data: bytes, old: bytes) -> bytes:
    old = old.ljust(len(data), b"\0")
    return (int.from_bytes(data) ^ int.from_bytes(old)).to_bytes(len(data))


def _stretches(pattern: re.Pattern[bytes], data: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield the matches of a pattern and the stretches between them: start, end, and True for a match."""
    at = 0
    for match in pattern.finditer(data):
        if at < match.start():
            yield at, match.start(), False
        yield match.start(), match.end(), True
        at = match.end()
    if at < len(data):
        yield at, len(data), False


def _common(data: bytes, at: int, near: bytes, place: int) -> int:
    """Return how many bytes from data[at] on are the same as the bytes from near[place] on."""
    most = min(len(data) - at, len(near) - place)
    good, step = 0, COPY_MIN
    while good < most and step:
        size = min(step, most - good)
        if data[at + good : at + good + size] == near[place + good : place + good + size]:
            good += size
            step *= 2
        else:
            step = size // 2
    return good

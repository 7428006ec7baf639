"""The bytes that a draft has from the store's file, and that no app has written since."""

from __future__ import annotations

from itertools import islice
from typing import Final

from policyfs.redact.core.intervals import Extents

_MOST: Final = 4096
"""The limit of writes after which the set is made smaller, so that it takes little memory."""

_TOLD: Final = 64
"""The limit of written ranges that told() returns."""


class KeptBytes:
    """A set of offsets of bytes that a draft has from the store's file. It may lack some, but never has a
    byte that an app has written."""

    __slots__ = ("_size", "_writes", "_written")

    def __init__(self, size: int = 0) -> None:
        """Begin with all bytes before the offset *size*."""
        self._size = size
        self._written = Extents()
        self._writes = 0

    def drop(self, start: int, end: int) -> None:
        """Remove the bytes [start, end), because an app writes them."""
        self._written.add(start, min(end, self._size))
        self._writes += 1
        if self._writes > _MOST:
            kept = sorted(self.ranges(), key=lambda each: each[0] - each[1])[: _MOST // 2]
            self._written = Extents(Extents(kept).gaps(self._size))
            self._writes = 0

    def cut(self, size: int) -> None:
        """Remove all bytes from the offset *size* on."""
        self._size = min(self._size, size)

    def told(self) -> tuple[int, list[tuple[int, int]]]:
        """Return the size, and the written ranges, of this set; of an empty set if there are many ranges."""
        written = list(islice(self._written, _TOLD + 1))
        return (self._size, written) if len(written) <= _TOLD else (0, [])

    def ranges(self) -> Extents:
        """Return the set, as ranges that do not change any more."""
        return Extents(self._written.gaps(self._size))

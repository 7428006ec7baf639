"""Streams that lie in pieces in a file: bytes in a row, and the place of each in the file."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from policyfs.domain import Patch
from policyfs.redact.core.cleaners import Found


@dataclass(slots=True)
class Gathered:
    """Bytes of a stream in a row. Offsets count from the first byte that is still held."""

    data: bytes = b""
    _new: list[bytes] = field(default_factory=list)
    _size: int = 0
    _starts: array[int] = field(default_factory=lambda: array("Q"))
    _places: array[int] = field(default_factory=lambda: array("Q"))

    def __len__(self) -> int:
        return self._size

    def add(self, data: bytes, place: int) -> None:
        """Append bytes that lie at an offset of the file."""
        if data:
            self._new.append(data)
            self._starts.append(self._size)
            self._places.append(place)
            self._size += len(data)

    def add_pieces(self, pieces: list[bytes], places: range) -> None:
        """Append pieces of the same size, which lie at these offsets of the file."""
        size = len(pieces[0])
        self._new += pieces
        self._starts.extend(range(self._size, self._size + size * len(pieces), size))
        self._places.extend(places)
        self._size += size * len(pieces)

    def join(self) -> bytes:
        """Return all bytes that are held."""
        if self._new:
            self.data = b"".join((self.data, *self._new))
            self._new = []
        return self.data

    def drop(self, size: int) -> None:
        """Forget the first *size* bytes."""
        self.data = self.join()[size:]
        first = max(0, bisect_right(self._starts, size) - 1)
        starts, places = self._starts[first:], self._places[first:]
        self._size -= size
        if not self._size:
            starts, places = array("Q"), array("Q")
        elif starts and starts[0] < size:
            places[0] += size - starts[0]
            starts[0] = size
        self._starts, self._places = array("Q", (at - size for at in starts)), places

    def placed(self, patches: Iterable[Patch]) -> Iterator[Patch]:
        """Yield patches of these bytes as patches of the file."""
        for patch in patches:
            for start, end, place in self._parts(patch.offset, patch.end):
                if patch.zeros:
                    yield Patch(place, zeros=end - start)
                else:
                    yield Patch(place, patch.part(start, end))

    def place(self, at: int) -> int:
        """Return the offset in the file of a byte that is held."""
        return self.ranges(at, at + 1)[0][0]

    def put(self, found: Found, into: Found) -> None:
        """Add changes of these bytes to the changes of the file."""
        into.patches += self.placed(found.patches)
        into.notes += [note._replace(offset=self.place(note.offset)) for note in found.notes]

    def ranges(self, at: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges of the file in which the bytes [at, end) lie."""
        return [(place, place + stop - start) for start, stop, place in self._parts(at, end)]

    def _parts(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the pieces of [at, end): first byte, end, and offset in the file."""
        index = bisect_right(self._starts, at) - 1
        while at < end:
            behind = self._starts[index + 1] if index + 1 < len(self._starts) else self._size
            stop = min(end, behind)
            yield at, stop, self._places[index] + at - self._starts[index]
            at, index = stop, index + 1

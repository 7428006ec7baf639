"""The body of an index. Only the needed blocks of the body are read and checked. (Pure: a function of the
caller reads the bytes.)

An index is a table of the events in one file of the trail. Its file consists of three parts: a head (a line),
digests, and the body. The digests are the SHA-256 of each block of the body. The head has a digest of these
digests. So a binary search in a million bytes of paths reads and hashes only a few blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Final

BLOCK: Final = 1 << 14
_DIGEST: Final = 32

Read = Callable[[int, int], bytes]
"""A function that returns bytes of an index. Its arguments are an offset after the head, and a size."""


class WrongIndexError(ValueError):
    """Error for an index that is damaged, or that is not of this version."""


def digests_of(body: bytes | memoryview) -> bytes:
    """Return the SHA-256 of each block of an index's body, one after the other."""
    view = memoryview(body)
    return b"".join(
        hashlib.sha256(view[begin : begin + BLOCK]).digest() for begin in range(0, len(view), BLOCK)
    )


class Body:
    """The body of one index, read in blocks. Each block is compared with its digest."""

    def __init__(self, size: int, digest: str, read: Read, again: Callable[[], bytes] | None) -> None:
        """size: the bytes of the body. digest: the digest of the blocks' digests, from the head.

        read: returns bytes after the head. again: makes the digests and the body again from the segment (the
        file of the trail), called if a block does not match its digest.
        """
        self._size: Final = size
        self._digest: Final = digest
        self._read: Final = read
        self._again: Final = again
        self._table_bytes: Final = _DIGEST * -(-size // BLOCK)
        self._blocks: dict[int, bytes] = {}

    @cached_property
    def _table(self) -> bytes:
        table = self._read(0, self._table_bytes)
        if hashlib.sha256(table).hexdigest() != self._digest:
            table = self._made[: self._table_bytes]
            if hashlib.sha256(table).hexdigest() != self._digest:
                raise WrongIndexError("the index is damaged")
        return table

    @cached_property
    def _made(self) -> bytes:
        """The digests of the blocks, and the body, made again from the segment. This happens only once."""
        if self._again is None:
            raise WrongIndexError("the index is damaged")
        return self._again()

    def read(self, at: int, count: int) -> bytes:
        """Return *count* bytes of the body from the offset *at* on.

        Raises WrongIndexError if these bytes are damaged and cannot be made again.
        """
        if not count:
            return b""
        first, last = at // BLOCK, -(-(at + count) // BLOCK)
        begin, end = first * BLOCK, min(last * BLOCK, self._size)
        place = self._table_bytes + begin
        table = self._table[first * _DIGEST : last * _DIGEST]
        data = self._read(place, end - begin)
        if digests_of(data) != table:
            data = self._made[place : place + end - begin]
            if digests_of(data) != table:
                raise WrongIndexError("the index is damaged")
        return data[at - begin : at - begin + count]

    def part(self, at: int, count: int) -> bytes:
        """Return a few bytes of the body, as read() does. Keep the block in memory for later calls."""
        number, inside = divmod(at, BLOCK)
        if inside + count > BLOCK:
            return self.read(at, count)
        block = self._blocks.get(number)
        if block is None:
            begin = number * BLOCK
            block = self._blocks[number] = self.read(begin, min(BLOCK, self._size - begin))
        return block[inside : inside + count]

    def check(self) -> None:
        """Raise WrongIndexError if a block of the body is damaged and cannot be made again."""
        self.read(0, self._size)

"""Merkle trees over the lines of a trail's file (segment), hashed as in RFC 6962 (pure).

The entry of a line is the digest in the line, as 32 bytes. So the root depends on the bytes of all lines.
About 17 digests (the audit path of RFC 6962) prove that one line was in a segment, without any other line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

ENTRY_BYTES: Final = 32
_sha256 = hashlib.sha256


class MerkleTree:
    """A Merkle tree to which entries are added at the end. It keeps only the digests of its complete
    subtrees, about 20."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        """The number of entries in the tree."""
        self._peaks: list[bytes] = []

    def add(self, entries: bytes) -> None:
        """Add entries at the end of the tree. entries: 32 bytes for each."""
        peaks, size = self._peaks, self.size
        for at in range(0, len(entries), ENTRY_BYTES):
            node = _sha256(b"\0" + entries[at : at + ENTRY_BYTES]).digest()
            size += 1
            rest = size
            while not rest & 1:
                node = _sha256(b"\1" + peaks.pop() + node).digest()
                rest >>= 1
            peaks.append(node)
        self.size = size

    def root(self) -> bytes:
        """Return the root (32 bytes) of the tree over all entries that were added so far."""
        if not self._peaks:
            return _sha256(b"").digest()
        *peaks, root = self._peaks
        for peak in reversed(peaks):
            root = _sha256(b"\1" + peak + root).digest()
        return root


def root_of(entries: bytes) -> bytes:
    """Return the root over *entries* (32 bytes each), faster than MerkleTree."""
    if not entries:
        return _sha256(b"").digest()
    level = [
        _sha256(b"\0" + entries[at : at + ENTRY_BYTES]).digest()
        for at in range(0, len(entries), ENTRY_BYTES)
    ]
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = iter(level)
        level = [_sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
        level += odd
    return level[0]


def path_of(entries: bytes, index: int) -> list[bytes]:
    """Return the audit path of the entry at *index*: the digests that lead to the root. entries: all, 32
    bytes each."""
    size = len(entries) // ENTRY_BYTES
    if size <= 1:
        return []
    half = 1 << ((size - 1).bit_length() - 1)
    middle = half * ENTRY_BYTES
    if index < half:
        return [*path_of(entries[:middle], index), root_of(entries[middle:])]
    return [*path_of(entries[middle:], index - half), root_of(entries[:middle])]


def root_by_path(entry: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that follows from one entry at *index* of *size*, and its audit path; None if the path
    has a wrong length."""
    node, last = _sha256(b"\0" + entry).digest(), size - 1
    if not 0 <= index <= last:
        return None
    for step in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = _sha256(b"\1" + step + node).digest()
            while not index & 1:
                index >>= 1
                last >>= 1
        else:
            node = _sha256(b"\1" + node + step).digest()
        index >>= 1
        last >>= 1
    return node if last == 0 else None

"""Merkle trees over the lines of a trail's file (segment), hashed as in RFC 6962 (pure).

The entry of a line is the digest in the line, as 32 bytes. So the root depends on the bytes of all lines.
"""

from __future__ import annotations

import hashlib
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
        _sha256(b"\0" + entries[at : at + ENTRY_BYTES]).digest() for at in range(0, len(entries), ENTRY_BYTES)
    ]
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = iter(level)
        level = [_sha256(b"\1" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
        level += odd
    return level[0]

"""A segment (a file of the trail) that the sealer reads and checks while another thread writes it."""

from __future__ import annotations

import hashlib
import os
from typing import Final, NamedTuple

from policyfs.journal.files.extent import Extent
from policyfs.trail.chain import chain
from policyfs.trail.chain.merkle import MerkleTree
from policyfs.trail.lines.record import header_of

BLOCK: Final = 64 * 1024
"""The bytes that are read and hashed before a pause. This takes about 0.3 ms."""
_MOST_BYTES: Final = 1 << 20


class Proven(NamedTuple):
    """The first lines of a segment that are the writer's, who has the same last digest: their number and
    bytes, number and digest of the last, and the root of their Merkle tree (32 bytes)."""

    lines: int
    size: int
    seq: int
    head: str
    root: bytes


class SegmentReading:
    """A position in a segment (a file of the trail), up to which all lines were read and checked."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self.tree = MerkleTree()
        self.offset = 0
        self.head = self.opening = chain.GENESIS
        self.first_seq = self.seq = 0
        self.wrong = ""
        """A text about a line that is not as it was written; empty if all lines are right so far."""
        self.proven: Proven | None = None
        """The lines that were compared with the writer last and were right, or None."""

    def compare(self, extent: Extent) -> None:
        """Compare the lines that were read with the end of the lines as the writer knows it (*extent*).

        If the writer has crashed, *extent* has no digest. Then all lines before the first wrong line count as
        proven. INVARIANT: in all other cases only this comparison proves lines. A person without a key can
        change a line, and compute its digest and all later digests again.
        """
        proven = self.proven
        if proven is not None and (proven.size, proven.seq, proven.head) == extent[1:]:
            return
        if extent.head:
            if self.wrong or self.offset != extent.size:
                return
            if (self.seq, self.head) != (extent.seq, extent.head):
                self.wrong = "the end of the segment is not as it was written"
                return
        self.proven = Proven(self.tree.size, self.offset, self.seq, self.head, self.tree.root())

    def advance(self, size: int, *, most: int = BLOCK) -> bool:
        """Check lines up to the offset *size*. Return False if no line is left, or a line is wrong."""
        if self.wrong or self.offset >= size:
            return False
        wanted = min(most, size - self.offset)
        data = os.pread(self.fd, wanted, self.offset)
        end = data.rfind(b"\n") + 1
        if not end:
            if wanted < size - self.offset and most < _MOST_BYTES and len(data) == wanted:
                return self.advance(size, most=_MOST_BYTES)
            self.wrong = f"the segment has {self.offset + len(data)} bytes instead of {size}"
            return False
        self._take(data[:end])
        return not self.wrong

    def _take(self, data: bytes) -> None:
        entries = bytearray()
        head = self.head
        for raw in data.splitlines(keepends=True):
            sealed = chain.split(raw[:-1])
            if not self.offset and not self._begin(raw):
                break
            head = self.head if not self.offset else head
            found = checked_digest(head, sealed) if sealed else None
            if sealed is None or found is None:
                self.wrong = f"line {self.tree.size + len(entries) // 32 + 1} is not as it was written"
                break
            head = sealed.chain
            entries += found
            self.offset += len(raw)
        self.head = head
        self.tree.add(bytes(entries))
        self.seq = self.first_seq + self.tree.size - 1

    def _begin(self, raw: bytes) -> bool:
        header = header_of(raw)
        if header is None:
            self.wrong = "the segment does not begin with its header"
            return False
        self.first_seq, self.opening = header
        self.head = self.opening
        return True

    def close(self) -> None:
        os.close(self.fd)


def checked_digest(head: str, line: chain.Sealed) -> bytes | None:
    """Return the digest of a line (32 bytes), or None if it states another. head: of the previous line."""
    found = hashlib.sha256(head.encode("ascii") + line.body)
    return found.digest() if found.hexdigest() == line.chain else None

"""The names of a directory by position, in plain Python, as policyfs/kernel/door/_direntries.c has them."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Collection, Iterable

Entry = tuple[int, bytes, int, int]
"""Position, name, inode number, DT_* type."""


def position_of(name: bytes) -> int:
    """The position of a name: 62 bits of its hash; 0 to 2 are the beginning and the dots."""
    return 3 + hash(name) % (1 << 62)


class PlainEntries:
    """As policyfs.kernel.bridge.DirectoryEntries; sorted from the start, at any positions."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = sorted(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Entry:
        return self._entries[index]

    def add(
        self, names: Iterable[tuple[bytes, int, int]], shown: int, hidden: int, apart: dict[bytes, int],
        numbers: Collection[int],
    ) -> list[tuple[bytes, int, int]]:  # fmt: skip
        """Keep what is shown by name and type; return what is neither shown nor hidden, or is in numbers."""
        left = []
        for name, ino, kind in names:
            both = apart.get(name, shown | hidden << 16)
            if ino in numbers or not (both | both >> 16) & (1 << kind):
                left.append((name, ino, kind))
            elif not both >> 16 & (1 << kind):
                self.put(name, ino, kind)
        return left

    def put(self, name: bytes, ino: int, kind: int) -> None:
        bisect.insort(self._entries, (position_of(name), name, ino, kind))

    def sort(self) -> bool:
        return False

    def after(self, position: int) -> int:
        return bisect.bisect_right(self._entries, position, key=lambda entry: entry[0])

    def pack(self, index: int, size: int, plus: bool) -> bytes:
        """struct fuse_dirent, or fuse_direntplus with a node of zeros, each at a multiple of 8 bytes."""
        packed = b""
        for position, name, ino, kind in self._entries[index:]:
            one = bytes(128 * plus) + struct.pack("=QQII", ino, position, len(name), kind) + name
            one += bytes(-len(one) % 8)
            if len(packed) + len(one) > size:
                break
            packed += one
        return packed

    def drop(self) -> bool:
        self._entries.clear()
        return False

"""Reader of the numbers and texts of a binary structure in memory, one after another, big-endian."""

from __future__ import annotations


class Fields:
    """A position in some bytes that moves on with each read. All reads raise ValueError at the end."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def number(self, size: int) -> int:
        """Read an unsigned number of size bytes; 0 for no bytes."""
        return int.from_bytes(self.take(size))

    def take(self, size: int) -> bytes:
        """Read size bytes."""
        start, end = self.at, self.at + size
        if end > len(self.data):
            raise ValueError("too short")
        self.at = end
        return self.data[start:end]

    def string(self) -> bytes:
        """Read bytes up to a zero, which is skipped, or up to the end of the data."""
        end = self.data.find(b"\0", self.at)
        end = len(self.data) if end < 0 else end
        found = self.data[self.at : end]
        self.at = min(end + 1, len(self.data))
        return found

    def kept(self) -> bytes:
        """Return the bytes read so far, and zeros for the rest."""
        return self.data[: self.at].ljust(len(self.data), b"\0")

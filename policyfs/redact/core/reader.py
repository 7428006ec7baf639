"""Reader of the fields of a big-endian binary structure in memory, one field after another."""

from __future__ import annotations


class Fields:
    """A position in a byte string, which each read moves. Raises ValueError if bytes are missing."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def number(self, size: int) -> int:
        """Read an unsigned integer of *size* bytes; return 0 if size is 0."""
        return int.from_bytes(self.take(size))

    def take(self, size: int) -> bytes:
        """Read *size* bytes."""
        start, end = self.at, self.at + size
        if end > len(self.data):
            raise ValueError("too short")
        self.at = end
        return self.data[start:end]

    def string(self) -> bytes:
        """Read the bytes before the next zero byte, and skip the zero. Without a zero, read to the end."""
        end = self.data.find(b"\0", self.at)
        end = len(self.data) if end < 0 else end
        found = self.data[self.at : end]
        self.at = min(end + 1, len(self.data))
        return found

    def kept(self) -> bytes:
        """Return the data, with zeros in place of the bytes that were not read."""
        return self.data[: self.at].ljust(len(self.data), b"\0")

"""Tables of records in shared memory, which outlive the process that writes them at any moment of a write."""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import Final

_HEAD: Final = struct.Struct("=IIH")
"""The head of one copy: checksum of what follows, sequence number, length of the record in bytes."""
_SUM: Final = 4


class RecordTable:
    """A table of records of up to *room* bytes, by slot. A slot has two copies, which are written in turn.

    A copy that was being written when its writer was killed has a wrong checksum: the slot then has the
    record before. An empty record means that the slot is free."""

    def __init__(self, memory: mmap.mmap, offset: int, slots: int, room: int) -> None:
        """memory: zero where the table is new, from *offset* on for size_bytes(slots, room)."""
        self._memory = memory
        self._offset = offset
        self.slots = slots
        self.room = room
        self._copy_bytes = _HEAD.size + room
        self._newest = bytearray()
        """The copy with the newest whole record, by used slot. INVARIANT: only the other is written."""
        self._free: list[int] = []
        self._unused = 0
        """The first slot that was never used: memory is touched only up to there."""

    @staticmethod
    def size_bytes(slots: int, room: int) -> int:
        """Return the size of a table in bytes."""
        return slots * 2 * (_HEAD.size + room)

    def take(self) -> int | None:
        """Return a slot for a new record, or None if all are in use."""
        if self._free:
            return self._free.pop()
        if self._unused == self.slots:
            return None
        self._unused += 1
        self._newest.append(1)
        return self._unused - 1

    def put(self, slot: int, record: bytes) -> None:
        """Write a record of at most *room* bytes. A reader finds it, or the one before, at each moment."""
        newest = self._newest[slot]
        self._write(slot, 1 - newest, self._number(slot, newest) + 1 & 0xFFFFFFFF or 1, record)
        self._newest[slot] = 1 - newest

    def free(self, slot: int) -> None:
        """Make a slot free."""
        self.put(slot, b"")
        self._free.append(slot)

    def read(self) -> dict[int, bytes]:
        """Return all records by slot, and learn the free slots. For the process that continues this table."""
        found: dict[int, bytes] = {}
        self._free, self._unused = [], self.slots
        memory, at, end = self._memory, self._offset, self._at(self.slots, 0)
        heads = struct.Struct("=" + f"IIH{self.room}x" * 2).iter_unpack(memoryview(memory)[at:end])
        for slot, (sum0, number0, size0, sum1, number1, size1) in enumerate(heads):
            if not (sum0 or number0 or size0):
                self._unused = slot  # never used, nor any slot after it
                break
            if slot == len(self._newest):
                self._newest.append(1)
            copy = _newer(number0, number1)
            checksum, size = (sum1, size1) if copy else (sum0, size0)
            start = at + copy * self._copy_bytes
            whole = memory[start + _SUM : start + _HEAD.size + size]
            at += 2 * self._copy_bytes
            if size <= self.room and zlib.crc32(whole) == checksum and (number0 or number1):
                self._newest[slot], record = copy, whole[_HEAD.size - _SUM :]
            else:
                record = self._find(slot)
            if record:
                found[slot] = record
            else:
                self._free.append(slot)
        return found

    def get(self, slot: int) -> bytes:
        """Return the record of a slot that this process wrote last, or that read() found."""
        return self._copy(slot, self._newest[slot]) or b""

    def _find(self, slot: int) -> bytes:
        first, second = self._number(slot, 0), self._number(slot, 1)
        newest = _newer(first, second)
        for copy in (newest, 1 - newest):  # a torn copy may have the newer number
            if (found := self._copy(slot, copy)) is not None:
                self._newest[slot] = copy
                return found
        self._newest[slot] = 1
        return b""

    def _at(self, slot: int, copy: int) -> int:
        return self._offset + (2 * slot + copy) * self._copy_bytes

    def _number(self, slot: int, copy: int) -> int:
        return int(_HEAD.unpack_from(self._memory, self._at(slot, copy))[1])

    def _write(self, slot: int, copy: int, number: int, record: bytes) -> None:
        if len(record) > self.room:
            raise ValueError(f"a record of {len(record)} bytes; {self.room} are possible")
        at = self._at(slot, copy)
        whole = bytearray(_HEAD.pack(0, number, len(record))) + record
        whole[:_SUM] = zlib.crc32(memoryview(whole)[_SUM:]).to_bytes(_SUM, "little")
        self._memory[at : at + len(whole)] = bytes(whole)

    def _copy(self, slot: int, copy: int) -> bytes | None:
        at = self._at(slot, copy)
        checksum, number, size = _HEAD.unpack_from(self._memory, at)
        if size > self.room:
            return None
        whole = self._memory[at + _SUM : at + _HEAD.size + size]
        return whole[_HEAD.size - _SUM :] if zlib.crc32(whole) == checksum and number else None


def _newer(first: int, second: int) -> int:
    """Return which copy has the newer sequence number: 0 or 1. 0 is no number."""
    return int(first == 0 or (second != 0 and (second - first) & 0xFFFFFFFF < 1 << 31))

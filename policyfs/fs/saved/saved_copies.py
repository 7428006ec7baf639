"""The frozen copies of files in memory that outlives the daemon. So do their descriptors."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from policyfs.domain import Lane, Ranges

if TYPE_CHECKING:
    from policyfs.fs.saved.record_table import RecordTable

_HEAD: Final = struct.Struct("=iiQQ")
"""Descriptor, backing id (0: none), and device and inode number of the copy; then the fields as JSON."""
FD_AT: Final = 0
"""The place of the descriptor in a record."""
_BACKING_ID: Final = slice(4, 8)
ROOM: Final = 1024
"""The largest record, in bytes. A copy with a larger one does not go on."""
_RANGES: Final = 16
"""The limit of hidden ranges that a record has (Ranges.first)."""


class SavedCopy(NamedTuple):
    """A finished copy in the cache (redacted/results.py). fd: its descriptor. inode: device and inode number
    behind it. ino_key: NodeTable.key_of of its source. stat: the source's attributes (Stat)."""

    fd: int
    backing_id: int
    inode: tuple[int, int]
    ino_key: int
    stat: tuple[int, ...]
    version: tuple[int, int, int]
    what: frozenset[str]
    lane: Lane
    kind: str | None
    hidden: frozenset[str]
    ranges: Ranges
    settled: bool
    made_s: float
    final: bool
    is_film: bool
    how: str
    memory: int


class SavedCopies:
    """The table of all copies in the cache, by their serial numbers (Copy.serial)."""

    def __init__(self, table: RecordTable) -> None:
        self._table = table
        self._slots: dict[int, int] = {}

    def put(self, serial: int, copy: SavedCopy) -> None:
        """Save a copy, before an app gets it. Without room it is not saved: what shows it will be lost."""
        if len(record := _record_of(copy)) <= ROOM and (slot := self._table.take()) is not None:
            self._slots[serial] = slot
            self._table.put(slot, record)

    def backed(self, serial: int, backing_id: int) -> None:
        """Save the backing id of a copy."""
        if (slot := self._slots.get(serial)) is not None:
            record = bytearray(self._table.get(slot))
            record[_BACKING_ID] = backing_id.to_bytes(4, "little")
            self._table.put(slot, bytes(record))

    def closing(self, serial: int) -> None:
        """Drop a copy. INVARIANT: before its descriptor is closed, and its backing id is given back."""
        if (slot := self._slots.pop(serial, None)) is not None:
            self._table.free(slot)

    def read(self) -> dict[int, SavedCopy]:
        """Read all copies of the daemon before, by slot. Each slot is then for keep() or drop()."""
        found = {}
        for slot, record in self._table.read().items():
            if (copy := _copy_of(record)) is None:
                self._table.free(slot)
            else:
                found[slot] = copy
        return found

    def keep(self, slot: int, serial: int) -> None:
        """Take the slot of a restored copy over."""
        self._slots[serial] = slot

    def drop(self, slot: int) -> None:
        """Drop a copy of the daemon before."""
        self._table.free(slot)


def inode_of(fd: int) -> tuple[int, int]:
    """Return device and inode number behind a descriptor. Raises OSError."""
    stat = os.fstat(fd)
    return stat.st_dev, stat.st_ino


def _record_of(copy: SavedCopy) -> bytes:
    ranges = copy.ranges._replace(first=copy.ranges.first[:_RANGES])
    words = sorted(copy.what), copy.lane, copy.kind, sorted(copy.hidden)
    fields = *copy[3:6], *words, ranges, *copy[11:]
    return _HEAD.pack(copy.fd, copy.backing_id, *copy.inode) + json.dumps(fields).encode()


def _copy_of(record: bytes) -> SavedCopy | None:
    try:
        fd, backing_id, *inode = _HEAD.unpack_from(record)
        ino_key, stat, version, what, lane, kind, hidden, ranges, *rest = json.loads(record[_HEAD.size :])
        first, number, total_bytes = ranges
        return SavedCopy(
            fd, backing_id, tuple(inode), ino_key, tuple(stat), tuple(version), frozenset(what),
            tuple(lane) if isinstance(lane, list) else lane, kind, frozenset(hidden),
            Ranges(tuple((offset, size) for offset, size in first), number, total_bytes), *rest,
        )  # fmt: skip
    except (ValueError, TypeError, struct.error):
        return None

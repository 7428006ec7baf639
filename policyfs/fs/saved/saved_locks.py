"""The locks of apps in memory that outlives the daemon. So do their descriptors, which hold the locks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from policyfs.fs.saved.record_table import RecordTable
from policyfs.store.locking.locks import Holder, Inode
from policyfs.store.locking.ofd import Owner
from policyfs.store.spans import Span

_RECORD: Final = struct.Struct("=QQqQIiBBB")
"""Inode number, device, birth time in ns, number of the owner, pid, descriptor, bits, numbers of ranges and
of handles; then the ranges, and the handles."""
FD_AT: Final = struct.calcsize("=QQqQI")
"""The place of the descriptor in a record."""
_SPAN: Final = struct.Struct("=QQB")
_HANDLE: Final = struct.Struct("=Q")
_FLOCK, _WRITABLE = 1, 2
_MOST: Final = 32
"""The limit of ranges, and of handles, of one owner in one file."""
_INODE: Final = (1 << 64) - 1
ROOM: Final = _RECORD.size + _MOST * (_SPAN.size + _HANDLE.size)
"""The largest record, in bytes."""


class SavedLock(NamedTuple):
    """The locks of one owner in one file (Holder)."""

    inode: Inode
    owner: Owner
    pid: int
    fd: int
    writable: bool
    spans: tuple[Span, ...]
    handles: tuple[int, ...]


class SavedLocks:
    """The table of all locks. prevent: counts owners whose locks are not saved: they prevent a take-over."""

    def __init__(self, table: RecordTable, prevent: Callable[[int], None]) -> None:
        self._table = table
        self._prevent = prevent
        self._slots: dict[tuple[Inode, Owner], int | None] = {}

    def changed(self, holder: Holder, is_locked: bool) -> None:
        """Save an owner's locks after a change. is_locked: False before their descriptor is closed."""
        key = holder.inode, holder.owner
        if not is_locked:
            self._drop(key)
            return
        record, slot = _record_of(holder), self._slots.get(key)
        if record and slot is None:
            slot = self._table.take()
        if not record or slot is None:
            self._drop(key)
            self._slots[key] = None
            self._prevent(1)
            return
        if key in self._slots and self._slots[key] is None:
            self._prevent(-1)
        self._slots[key] = slot
        self._table.put(slot, record)

    def _drop(self, key: tuple[Inode, Owner]) -> None:
        if key in self._slots:
            slot = self._slots.pop(key)
            if slot is None:
                self._prevent(-1)
            else:
                self._table.free(slot)

    def drop(self, lock: SavedLock) -> None:
        """Drop locks of the daemon before."""
        self._drop((lock.inode, lock.owner))

    def read(self) -> list[SavedLock]:
        """Read all locks of the daemon before, and take their slots over."""
        found = []
        for slot, record in self._table.read().items():
            if (lock := _lock_of(record)) is None:
                self._table.free(slot)
            else:
                self._slots[lock.inode, lock.owner] = slot
                found.append(lock)
        return found


def _record_of(holder: Holder) -> bytes:
    """Return the record of an owner's locks; b"" if these are too many."""
    spans, handles, (key, btime_ns) = [*holder.spans], sorted(holder.handles), holder.inode
    if len(spans) > _MOST or len(handles) > _MOST:
        return b""
    bits = _FLOCK * holder.owner.flock | _WRITABLE * holder.writable
    head = _RECORD.pack(
        key & _INODE, key >> 64, btime_ns, holder.owner.number, holder.pid, holder.fd, bits, len(spans),
        len(handles),
    )  # fmt: skip
    return b"".join((head, *(_SPAN.pack(*span) for span in spans), *map(_HANDLE.pack, handles)))


def _lock_of(record: bytes) -> SavedLock | None:
    if len(record) < _RECORD.size:
        return None
    ino, dev, btime_ns, owner, pid, fd, bits, spans, handles = _RECORD.unpack_from(record)
    end = _RECORD.size + spans * _SPAN.size
    if len(record) != end + handles * _HANDLE.size:
        return None
    return SavedLock(
        (dev << 64 | ino, btime_ns), Owner(owner, flock=bool(bits & _FLOCK)), pid, fd, bool(bits & _WRITABLE),
        tuple(Span(a, z, bool(ex)) for a, z, ex in _SPAN.iter_unpack(record[_RECORD.size : end])),
        tuple(fh for (fh,) in _HANDLE.iter_unpack(record[end:])),
    )  # fmt: skip

"""Records of files that are moved aside: renamed to a temporary name before a removal, replacement or rename.
If a daemon is killed meanwhile, the next daemon of the store uses the record. It gives the file its name
back, or finishes the replacement. New objects with a temporary name have such records, too (new_names.py).

Before a daemon moves a file aside (exact_names.py), it writes a record: the directory, the new name and the
old one. Afterwards it clears the record. All daemons of the machine share one file of records, in the
directory of control sockets. Each daemon has a place in this file, and keeps the place locked (an OFD lock).
So if a place can be locked, the daemon that wrote its record has ended. If the store fails, so that a daemon
cannot give a file its name back, the record stays (keep()), and the daemon takes another place.

Nothing is written to a disk: the records outlive their daemon, but not a restart of the machine. If a record
cannot be written, the daemon goes on without the record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from policyfs.linux.libc import proc_fd
from policyfs.linux.statx import Stat, fstatx
from policyfs.store.locking.ofd import UNLCK, WRLCK, Asked, Owner, set_lock

_PLACE: Final = 3 << 12
"""The size in bytes of one daemon's place in the file of records. The longest record is two paths of 4,095
bytes and three names of 255.
"""
_HEAD: Final = struct.Struct("=II")  # length and CRC of the rest
_OURS: Final = Owner(0, flock=False)
_KEPT: Final = 64
"""The limit of records that one daemon leaves for the next (keep())."""


UNKNOWN: Final = (
    "a daemon of another version of policyfs ended while it removed, replaced or renamed a file. This version"
    " does not know the form of its record, so the record stays. `policyfs doctor STORE` searches the store"
    " for the file"
)


class Move(NamedTuple):
    """One file that got a temporary name (was moved aside): directory/name became directory/taken.

    name: empty for a new object, which is to be removed if its daemon is killed. directory, to_directory:
    paths relative to the store's root. to_directory, to_name: the path of the file that the moved file was to
    replace; both empty for a removal, and for a rename to a free name. moved, replaced: the marks (mark()) of
    the two files of a replacement.
    """

    directory: bytes
    name: bytes
    taken: bytes
    to_directory: bytes = b""
    to_name: bytes = b""
    moved: bytes = b""
    replaced: bytes = b""


def mark(stat: Stat) -> bytes:
    """Return the mark of an inode: text that identifies it within its file system.

    The mark has no device number, because a new mount of the file system may change that number.
    """
    return b"%d:%d" % (stat.ino, stat.btime_ns)


class MoveRecords:
    """The record that one daemon keeps in the shared file *path*, which is created if missing.

    root_fd: the root of the daemon's store. If the shared file cannot be opened, nothing is recorded.
    """

    __slots__ = ("_at", "_fd", "_kept", "_root", "_root_fd", "_store")

    def __init__(self, path: str, root_fd: int) -> None:
        self._root_fd = root_fd
        self._root = b""
        self._store = mark(stat := fstatx(root_fd))
        self._at = self._fd = -1
        self._kept: set[int] = set()
        with contextlib.suppress(OSError):
            self._root = _path(root_fd)
            if not stat.btime_ns:
                self._store = self._root
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def begin(self, finish: Callable[[Move], bool]) -> bool:
        """Take a place in the shared file for this daemon, and finish or undo the work of this store's killed
        daemons. Return True if this store has a record of another version of policyfs (UNKNOWN), which stays.

        finish: called with each record of a killed daemon. If *finish* returns False, the record stays for a
        later daemon. Raises OSError if the file cannot be read or locked.
        """
        at, end, is_unknown = 0, 0 if self._fd < 0 else os.fstat(self._fd).st_size, False
        while self._fd >= 0 and (self._at < 0 or at < end):
            if at not in self._kept and self._lock(at, WRLCK):
                store, move = self._read(at)
                is_ours = store == self._store
                is_free = store is None or (is_ours and move is not None and finish(move))
                is_unknown = is_unknown or (is_ours and move is None)
                if is_free:
                    try:
                        os.pwrite(self._fd, bytes(_HEAD.size), at)
                    except OSError:  # no room; but the records behind this place can still be read
                        if at >= end:
                            raise
                        is_free = False
                if is_free and self._at < 0:
                    self._at = at
                else:
                    self._lock(at, UNLCK)
            at += _PLACE
        return is_unknown

    def _lock(self, at: int, kind: int) -> bool:
        return set_lock(self._fd, _OURS, Asked(at, at + _PLACE - 1, kind, 0))

    def _read(self, at: int) -> tuple[bytes | None, Move | None]:
        """Return the store and the move of the record at the offset *at* in the shared file.

        The store is None if the place has no record, or only a part of one. The move is None also if the
        record is one of another version of policyfs. INVARIANT: in each version the store is the first field.
        """
        data = os.pread(self._fd, _PLACE, at)
        if len(data) > _HEAD.size:
            length, crc = _HEAD.unpack_from(data)
            fields = data[_HEAD.size : _HEAD.size + length]
            if length and zlib.crc32(fields) == crc:
                store, *others = fields.split(b"\0")
                return store, Move(*others) if len(others) == len(Move._fields) else None
        return None, None

    def write(self, directory: int, name: bytes, taken: bytes) -> None:
        """Record that a file will get the temporary name *taken*, and will then be removed, or get a free
        name. directory: a descriptor of the file's directory. If the record cannot be written, do nothing.
        """
        with contextlib.suppress(OSError):
            self._write(Move(self._below(directory), name, taken))

    def write_new(self, directory: int, taken: bytes) -> None:
        """Record that a new object will get the temporary name *taken*. directory: a descriptor of the
        object's directory. If the record cannot be written, do nothing.
        """
        self.write(directory, b"", taken)

    def write_replacement(
        self, old_dir: int, old: bytes, taken: bytes, moved: Stat, new_dir: int, new: bytes, replaced: Stat
    ) -> None:  # fmt: skip
        """Record that the file *moved* will get the temporary name *taken*, and will then replace the file
        *replaced*. If the record cannot be written, do nothing.
        """
        with contextlib.suppress(OSError):
            here, there = self._below(old_dir), self._below(new_dir)
            self._write(Move(here, old, taken, there, new, mark(moved), mark(replaced)))

    def _write(self, move: Move) -> None:
        if self._at >= 0:
            fields = b"\0".join((self._store, *move))
            os.pwrite(self._fd, _HEAD.pack(len(fields), zlib.crc32(fields)) + fields, self._at)

    def clear(self) -> None:
        """Clear this daemon's record, because each file has the name that it should have."""
        if self._at >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, bytes(_HEAD.size), self._at)

    def keep(self) -> None:
        """Leave this daemon's record to the next daemon, and take another place for later records.

        If there is no other place, nothing is recorded from now on.
        """
        if self._at >= 0:
            self._kept.add(self._at)
            self._at = -1
            if len(self._kept) < _KEPT:
                with contextlib.suppress(OSError):
                    self.begin(lambda _: False)

    def _below(self, directory: int) -> bytes:
        """Return the path of a directory, relative to the root of the store."""
        path = _path(directory)
        if path == self._root:
            return b""
        if not path.startswith(self._root.rstrip(b"/") + b"/"):
            self._root = _path(self._root_fd)  # somebody has moved the store
            if not path.startswith(self._root.rstrip(b"/") + b"/"):
                raise OSError(errno.ENOENT, "not in the store", path)
        return path[len(self._root.rstrip(b"/")) + 1 :]

    def close(self) -> None:
        """Release this daemon's place in the shared file. A second call does nothing."""
        fd, self._fd, self._at = self._fd, -1, -1
        if fd >= 0:
            os.close(fd)


def _path(fd: int) -> bytes:
    """Return the path of a directory. Raises OSError if the path is too long for the kernel to report."""
    return os.readlink(proc_fd(fd))

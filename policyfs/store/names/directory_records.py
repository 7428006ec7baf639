"""A reader of the names in one directory of the store, part by part. Each getdents64(2) reads one part."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from typing import Final, Self

from policyfs.linux import libc
from policyfs.linux.statx import statx

BUFFER_BYTES: Final = 16 * 1024
"""The limit of bytes of one part of a directory's names: about 400 names, which take about 0.15 ms."""

_DIRENT: Final = struct.Struct("=QqHB")  # linux_dirent64: d_ino, d_off, d_reclen, d_type
_DT_UNKNOWN: Final = 0


class DirectoryRecords:
    """A reader of one directory's names. It keeps the part that was read last, and owns its descriptor.

    If a name is created or removed during the reading, the reader reports or omits the name, as getdents64(2)
    does. Every other name is reported exactly once.
    """

    def __init__(self, dirfd: int) -> None:
        """Open the directory. dirfd: its descriptor, O_PATH or not, used only during this call."""
        self._fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dirfd)
        self.buffer = ctypes.create_string_buffer(BUFFER_BYTES)
        self.size = 0
        """The size of the records in the buffer, in bytes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self) -> int:
        """Read the next part of the directory's names. Return its size in bytes; 0 at the end. Raises
        FileNotFoundError if the directory was removed."""
        self.size = libc.getdents64(self._fd, self.buffer)
        return self.size

    def names(self) -> list[tuple[bytes, int, int]]:
        """Return the names in the part that was read last, without ``.`` and ``..``, as (name, inode number,
        DT_* type)."""
        raw, found = self.buffer.raw[: self.size], list[tuple[bytes, int, int]]()
        at, unpack = 0, _DIRENT.unpack_from
        while at < self.size:
            ino, _, length, kind = unpack(raw, at)
            name = raw[at + _DIRENT.size : raw.index(b"\0", at + _DIRENT.size)]
            if name not in (b".", b".."):
                found.append((name, ino, kind))
            at += length
        return found

    def typed(self, names: list[tuple[bytes, int, int]]) -> list[tuple[bytes, int, int]]:
        """Return *names* with their types. If a type is missing, look it up; leave the name out if it is
        gone."""
        if all(kind != _DT_UNKNOWN for _, _, kind in names):
            return names
        found: list[tuple[bytes, int, int]] = []
        for name, ino, kind in names:
            if kind == _DT_UNKNOWN:
                try:
                    kind = stat.S_IFMT(statx(self._fd, name).mode) >> 12
                except FileNotFoundError:
                    continue
            found.append((name, ino, kind))
        return found

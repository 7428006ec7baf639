"""The directory of one mount's trail, and the files of the trail (segments) in it.

A segment is called ``NNNNNNNN-YYYYMMDDTHHMMSSZ.jsonl``: its number in the hash chain, then the time at which
it was begun. So names, numbers and times have the same order. All accesses use one descriptor of the
directory, and follow no symlinks. Errors are OSError; the journal turns them into its own errors.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from policyfs.journal.files.decompression import decompressed, is_damaged
from policyfs.trail.chain import chain

_NAME: Final = re.compile(r"(\d{8,})-\d{8}T\d{6}Z\.jsonl(?:\.zst)?")
_SEAL: Final = ".seal"
_PLAIN: Final = ".jsonl"
ZST: Final = ".zst"
"""The end of a compressed segment's file name."""
NEW: Final = ".new-"
"""The beginning of the name of a file that is not completely written yet."""
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""The flags with which a directory of the trail, of its keys or of its indexes is opened."""
REGULAR: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""The flags with which a file there is opened for reading: neither a symlink nor a wait for a fifo."""
_SMALL: Final = 1 << 22
_FIRST_WINDOW: Final = 64 * 1024
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of a 64-bit system
_TRIES: Final = 50


def segment_number(name: str) -> int | None:
    """Return the number in the name of a segment (a file of the trail), or None for other file names."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def segment_name(number: int, time_ns: int) -> str:
    """Return the file name of a new segment (a file of the trail). time_ns: now, in ns since 1970."""
    begun = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{number:08d}-{begun:%Y%m%dT%H%M%S}Z.jsonl"


def is_compressed(segment: str) -> bool:
    """Return True if *segment* is the name of a compressed segment (file of the trail)."""
    return segment.endswith(ZST)


def plain_name(segment: str) -> str:
    """Return the name that a segment (a file of the trail) had before it was compressed."""
    return segment.removesuffix(ZST)


def seal_name(segment: str) -> str:
    """Return the name of the file with a segment's seal (a signed statement about its lines)."""
    return segment.partition(".")[0] + _SEAL


def sort_names(names: list[str]) -> list[str]:
    """Return the names of segments, oldest first; a compressed one only if it is certainly finished."""
    there = frozenset(names)
    numbered = [(number, name) for name in names if (number := segment_number(name)) is not None]
    return [name for _, name in sorted(numbered) if not is_compressed(name) or plain_name(name) not in there]


class SegmentDirectory:
    """A trail directory, open by one descriptor, with segments and their seals (signed files about their
    lines)."""

    def __init__(self, fd: int) -> None:
        """fd: a descriptor of the directory. close() closes it."""
        self._fd = fd

    @classmethod
    @contextmanager
    def at(cls, path: str | os.PathLike[str]) -> Iterator[SegmentDirectory]:
        """Open the trail directory at a path, and close it at the end of the ``with`` block."""
        directory = cls(os.open(path, DIRECTORY))
        try:
            yield directory
        finally:
            directory.close()

    @property
    def fd(self) -> int:
        """Return the descriptor of the directory."""
        return self._fd

    def names(self) -> list[str]:
        """Return the names of the segments (files of the trail) in the directory, oldest first."""
        return sort_names(os.listdir(self._fd))

    def seals(self) -> list[str]:
        """Return the uncompressed names of segments, also missing ones, that have a seal, oldest first."""
        names = os.listdir(self._fd)
        return sort_names([name.removesuffix(_SEAL) + _PLAIN for name in names if name.endswith(_SEAL)])

    def highest(self) -> int:
        """Return the highest number of a segment or a seal in the directory, or 0 if there is none."""
        newest = (*self.names()[-1:], *self.seals()[-1:])
        return max((segment_number(name) or 0 for name in newest), default=0)

    def contents(self, name: str) -> bytes:
        """Return the first 4 MiB of a file, which is no symlink: more than a valid seal or list of public
        keys has."""
        with open(open_segment(name, dir_fd=self._fd), "rb") as file:
            return file.read(_SMALL)

    def read(self, name: str) -> int:
        """Open a segment for reading, and return a descriptor. Raises OSError if this is no regular file."""
        return open_segment(name, dir_fd=self._fd)

    def close(self) -> None:
        """Close the descriptor of the directory. If this object has the directory's lock, release it."""
        os.close(self._fd)


class TrailDirectory(SegmentDirectory):
    """The trail directory that the only writer of one mount has open. A lock excludes a second writer."""

    def __init__(self, path: str) -> None:
        """Open and lock the trail directory. If this directory or the trail root above it is missing, create
        it with mode 0700.

        Raises OSError: EWOULDBLOCK if another journal has the lock, EPERM if other users may write in the
        directory or in the trail root, and errors of the file system.
        """
        self.path = path
        for missing in (os.path.dirname(path), path):
            if missing and not os.path.isdir(missing):
                os.mkdir(missing, 0o700)
        root = os.path.dirname(path) or "."
        above = os.stat(root)
        if _is_others(above) and not above.st_mode & stat.S_ISVTX:
            raise PermissionError(errno.EPERM, "other users may replace the trail directory", path)
        super().__init__(_open_locked(path))
        self._root = _identity(root)

    def reopen(self) -> None:
        """Open the path of the trail directory again, after the directory was moved away or replaced.

        A missing one is created only in the same trail root: else its file system may be unmounted, and would
        hide the new records when it is mounted again.
        """
        root = os.path.dirname(self.path) or "."
        if not os.path.lexists(self.path) and os.path.isdir(root) and _identity(root) == self._root:
            os.mkdir(self.path, 0o700)
        fd = _open_locked(self.path)
        os.close(self._fd)
        self._fd = fd

    def is_current(self) -> bool:
        """Return True if the path still leads to the trail directory that this object has open."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        held = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def create(self, name: str) -> int:
        """Create an empty file for a segment, to append to. Only show() names it: no segment lacks its first
        line."""
        self.remove(NEW + name)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(NEW + name, flags, 0o600, dir_fd=self._fd)

    def show(self, name: str) -> None:
        """Give a new segment its name, on the disk."""
        os.rename(NEW + name, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        self.sync()

    def append_to(self, name: str) -> int:
        """Open a segment for appending, and return a descriptor. Raises OSError if it is no regular file."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return only_regular(os.open(name, flags, dir_fd=self._fd))

    def remove(self, name: str) -> None:
        """Delete the file *name* in the trail directory, if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def sync(self) -> None:
        """Write the names in the trail directory to the disk (fsync)."""
        os.fsync(self._fd)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def open_segment(path: str | os.PathLike[str], dir_fd: int | None = None) -> int:
    """Open a segment (a regular file, no symlink) for reading. A compressed one comes as a file in memory
    with the uncompressed bytes. Raises OSError."""
    fd, packed = _open_as_it_is(os.fspath(path), dir_fd)
    if not packed:
        return fd
    try:
        return decompressed(fd)
    finally:
        os.close(fd)


def is_garbled(path: str | os.PathLike[str]) -> bool:
    """Return True if a segment is compressed, and its compressed bytes were changed. Raises OSError."""
    fd, packed = _open_as_it_is(os.fspath(path), None)
    try:
        return packed and is_damaged(fd)
    finally:
        os.close(fd)


def _open_as_it_is(name: str, dir_fd: int | None) -> tuple[int, bool]:
    try:
        fd = os.open(name, REGULAR, dir_fd=dir_fd)
    except FileNotFoundError:
        if is_compressed(name):
            raise
        name += ZST  # the segment was compressed after the directory was listed
        fd = os.open(name, REGULAR, dir_fd=dir_fd)
    return only_regular(fd), is_compressed(name)


def _is_others(info: os.stat_result) -> bool:
    """Return True if users other than root and this user may write in a directory."""
    return bool(info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) or info.st_uid not in (0, os.geteuid())


def _open_locked(path: str) -> int:
    fd = os.open(path, DIRECTORY)
    try:
        if _is_others(os.fstat(fd)):
            raise PermissionError(errno.EPERM, "other users may write in the trail directory", path)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def only_regular(fd: int) -> int:
    """Return the descriptor of a segment. If the file is not regular, close it, and raise OSError."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "a segment of the trail is not a regular file")


def flock(kind: int, start: int = 0) -> bytes:
    """Return a ``struct flock`` for fcntl(2): type *kind*, from the offset *start* to the end of the file."""
    return _FLOCK.pack(kind, os.SEEK_SET, start, 0, 0)


UNLOCK: Final = flock(fcntl.F_UNLCK)


class Tail(NamedTuple):
    """The end of a segment. line: the last complete line without newline, or None. offset: behind it. rest:
    the bytes there, such as a cut line of an interrupted write."""

    line: bytes | None
    offset: int
    rest: bytes


def settled_tail(fd: int) -> bytes | None:
    """Return the last line of a segment that is sure to stay, without its newline, or None. (After a failed
    write, the writer removes its lines again.)"""
    for _ in range(_TRIES):
        tail = read_tail(fd, unfinished_from(fd))
        if tail.line is None:
            return None
        begun = unfinished_from(fd)
        if begun is not None and begun < tail.offset:
            continue  # the line belongs to a batch that was begun meanwhile
        data = tail.line + b"\n"
        if _pread_all(fd, tail.offset - len(data), len(data)) == data:
            return tail.line
    return None


def settled_lines(fd: int, offset: int, most: int) -> bytes:
    """Return the lines of a segment from an offset on that are sure to stay, as for settled_tail(). most: the
    limit in bytes, but a single line may be longer."""
    for _ in range(_TRIES):
        data = os.pread(fd, most, offset)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == most:
            most *= 2
            continue
        begun = unfinished_from(fd)
        if begun is not None:
            end = max(0, min(end, begun - offset))
        if _pread_all(fd, offset, end) == data[:end]:
            return data[:end]
    return b""


def unfinished_from(fd: int) -> int | None:
    """Return the offset in the file at which a write that is under way begins, or None."""
    try:
        kind, _, start, _, _ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, flock(fcntl.F_RDLCK)))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else int(start)


def read_tail(fd: int, end: int | None = None) -> Tail:
    """Return the tail of a segment: its last line with number and digest, and the bytes behind it. Reads no
    more than needed, and only before the offset *end*."""
    size = os.fstat(fd).st_size
    size = size if end is None else min(size, end)
    window = _FIRST_WINDOW
    while True:
        start = max(0, size - window)
        data = _pread_all(fd, start, size - start)
        tail = _last_line(data, start)
        if tail is not None or start == 0:
            return tail or Tail(None, 0, data)
        window *= 4


def _last_line(data: bytes, start: int) -> Tail | None:
    end = data.rfind(b"\n")
    while end >= 0:
        begin = data.rfind(b"\n", 0, end) + 1
        if begin == 0 and start > 0:
            return None  # the line may begin before the window
        line = data[begin:end]
        sealed = chain.split(line)
        if sealed is not None and chain.seq_of(sealed.body) is not None:
            return Tail(line, start + end + 1, data[end + 1 :])
        end = begin - 1
    return None


def _pread_all(fd: int, offset: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(fd, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


@contextmanager
def synced_file(place: int, name: str) -> Iterator[BinaryIO]:
    """Create or empty a file with mode 0600, to write. Its bytes are on the disk at the end of the block."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=place), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_file(place: int, name: str, data: bytes) -> None:
    """Write a file with mode 0600 to the disk. After a crash it has either all old or all new bytes."""
    with synced_file(place, NEW + name) as file:
        file.write(data)
    os.rename(NEW + name, name, src_dir_fd=place, dst_dir_fd=place)
    os.fsync(place)


class Chain(NamedTuple):
    """One hash chain of the trail: its name, which is also that of its directory, with its segments. machine:
    the name of its trail root, if several are read together."""

    mount_id: str
    directory: Path
    machine: str = ""

    @property
    def name(self) -> str:
        """Return the chain's name among all that are read together: two machines can have one mount_id."""
        return f"{self.machine}/{self.mount_id}" if self.machine else self.mount_id

    def segments(self) -> list[str]:
        """Return the names of the chain's files (segments), oldest first."""
        return sort_names(os.listdir(self.directory))

"""The directory of one mount's trail, and the segment files in it.

A segment is one file of the trail. Its name is ``NNNNNNNN-YYYYMMDDTHHMMSSZ.jsonl``: its number in the chain,
then the time at which it was begun. So names, numbers and times have the same order. The directory is reached
by one descriptor, and symlinks in it are never followed. Errors are OSError; the journal turns them into its
own errors.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple

from policyfs.trail import chain

_NAME: Final = re.compile(r"(\d{8,})-\d{8}T\d{6}Z\.jsonl(?:\.zst)?")
_SEAL: Final = ".seal"
_PLAIN: Final = ".jsonl"
ZST: Final = ".zst"
"""The end of a compressed segment's name."""
NEW: Final = ".new-"
"""The beginning of an unfinished file's name."""
_SMALL: Final = 1 << 22
_FIRST_WINDOW: Final = 64 * 1024
_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of a 64-bit system
_TRIES: Final = 50


def segment_number(name: str) -> int | None:
    """Return the number in a segment's file name, or None if it is not a segment's name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def segment_name(number: int, time_ns: int) -> str:
    """Return the file name of a segment that was begun at that time (ns since 1970)."""
    begun = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{number:08d}-{begun:%Y%m%dT%H%M%S}Z.jsonl"


def is_compressed(segment: str) -> bool:
    """Return True if this is the name of a compressed segment."""
    return segment.endswith(ZST)


def plain_name(segment: str) -> str:
    """Return the name that a segment had before it was compressed."""
    return segment.removesuffix(ZST)


def seal_name(segment: str) -> str:
    """Return the file name of a segment's seal."""
    return segment.partition(".")[0] + _SEAL


def sort_names(names: list[str]) -> list[str]:
    """Return the names of segments among *names*, in the order of the chain.

    If a segment exists plain and compressed, only the plain name counts: the compressed file may be
    unfinished.
    """
    there = frozenset(names)
    numbered = [(number, name) for name in names if (number := segment_number(name)) is not None]
    return [name for _, name in sorted(numbered) if not is_compressed(name) or plain_name(name) not in there]


class SegmentDirectory:
    """A directory of segments and their seals, reached through one descriptor."""

    def __init__(self, fd: int) -> None:
        """fd: a descriptor of the directory; close() closes it."""
        self._fd = fd

    @classmethod
    @contextmanager
    def at(cls, path: str | os.PathLike[str]) -> Iterator[SegmentDirectory]:
        """Open the directory at a path, and close it at the end of the context."""
        directory = cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        try:
            yield directory
        finally:
            directory.close()

    @property
    def fd(self) -> int:
        """Return the descriptor of the directory."""
        return self._fd

    def names(self) -> list[str]:
        """Return the names of the segments, in the order of the chain."""
        return sort_names(os.listdir(self._fd))

    def seals(self) -> list[str]:
        """Return the plain names of the segments that have a seal, in the order of the chain."""
        names = os.listdir(self._fd)
        return sort_names([name.removesuffix(_SEAL) + _PLAIN for name in names if name.endswith(_SEAL)])

    def highest(self) -> int:
        """Return the highest number of a segment or a seal, or 0 if the directory has none."""
        newest = (*self.names()[-1:], *self.seals()[-1:])
        return max((segment_number(name) or 0 for name in newest), default=0)

    def contents(self, name: str) -> bytes:
        """Return the bytes of a small file that is not a segment, such as a seal. Follows no symlink."""
        with open(open_segment(name, dir_fd=self._fd), "rb") as file:
            return file.read(_SMALL)

    def read(self, name: str) -> int:
        """Open an existing segment to read. Raises OSError if it is not a regular file."""
        return open_segment(name, dir_fd=self._fd)

    def close(self) -> None:
        """Close the descriptor. This also releases the directory's lock, if this object has it."""
        os.close(self._fd)


class TrailDirectory(SegmentDirectory):
    """One mount's trail directory. It is kept open, and locked against a second writer."""

    def __init__(self, path: str) -> None:
        """Open and lock the directory. Create it and the trail root above it, mode 0700, if missing.

        Raises OSError: EWOULDBLOCK if another journal has the lock, EPERM if other users may write in the
        directory, and errors of the file system.
        """
        self.path = path
        for missing in (os.path.dirname(path), path):
            if missing and not os.path.isdir(missing):
                os.mkdir(missing, 0o700)
        super().__init__(_open_locked(path))
        self._root = _identity(os.path.dirname(path) or ".")

    def reopen(self) -> None:
        """Open the path again, after the directory was moved away or replaced.

        A missing directory is created only if the trail root is the same as before. Otherwise the root's file
        system may be unmounted. Records in a directory below the mountpoint would be hidden once that file
        system is mounted again.
        """
        root = os.path.dirname(self.path) or "."
        if not os.path.lexists(self.path) and os.path.isdir(root) and _identity(root) == self._root:
            os.mkdir(self.path, 0o700)
        fd = _open_locked(self.path)
        os.close(self._fd)
        self._fd = fd

    def is_current(self) -> bool:
        """Return True if the path still leads to the directory that this object has open."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        held = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)

    def create(self, name: str) -> int:
        """Create an empty segment with mode 0600, and open it to append."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self._fd)

    def append_to(self, name: str) -> int:
        """Open an existing segment to append. Raises OSError if it is not a regular file."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return _only_regular(os.open(name, flags, dir_fd=self._fd))

    def remove(self, name: str) -> None:
        """Delete one segment, if it exists."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return

    def sync(self) -> None:
        """Write the directory's names to the disk."""
        os.fsync(self._fd)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def open_segment(path: str | os.PathLike[str], dir_fd: int | None = None) -> int:
    """Open a segment to read its lines. Raises OSError if it is not a regular file. Follows no symlink.

    For a compressed segment, return a descriptor of a file in memory with the plain bytes.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    name = os.fspath(path)
    try:
        fd = os.open(name, flags, dir_fd=dir_fd)
    except FileNotFoundError:
        if is_compressed(name):
            raise
        name += ZST  # it was compressed after the directory was listed
        fd = os.open(name, flags, dir_fd=dir_fd)
    fd = _only_regular(fd)
    if not is_compressed(name):
        return fd
    from policyfs.journal.compression import decompressed  # noqa: PLC0415 - loaded only where it is needed

    try:
        return decompressed(fd)
    finally:
        os.close(fd)


def _open_locked(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = os.fstat(fd)
        if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or info.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "others may write in the trail directory", path)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _only_regular(fd: int) -> int:
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "a segment of the trail is not a regular file")


def flock(kind: int, start: int = 0) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, 0, 0)


UNLOCK: Final = flock(fcntl.F_UNLCK)


class Tail(NamedTuple):
    """The end of a segment: its last whole line, and the bytes after it.

    line: the last whole line without its newline; None if there is no line. offset: the offset behind this
    line. rest: the bytes behind this line. They are no line, and are empty unless the writer was interrupted.
    """

    line: bytes | None
    offset: int
    rest: bytes


def settled_tail(fd: int) -> bytes | None:
    """Return the last line that its writer will not remove any more, without newline, or None."""
    for _ in range(_TRIES):
        tail = read_tail(fd, _unfinished_from(fd))
        if tail.line is None:
            return None
        begun = _unfinished_from(fd)
        if begun is not None and begun < tail.offset:
            continue  # the line belongs to a batch that was begun meanwhile
        data = tail.line + b"\n"
        if _pread_all(fd, tail.offset - len(data), len(data)) == data:
            return tail.line
    return None


def settled_lines(fd: int, offset: int, most: int) -> bytes:
    """Return whole lines from an offset on, without lines that their writer may still remove.

    most: the limit in bytes. A single line may be longer.
    """
    for _ in range(_TRIES):
        data = os.pread(fd, most, offset)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == most:
            most *= 2
            continue
        begun = _unfinished_from(fd)
        if begun is not None:
            end = max(0, min(end, begun - offset))
        if _pread_all(fd, offset, end) == data[:end]:
            return data[:end]
    return b""


def _unfinished_from(fd: int) -> int | None:
    """Return the offset of a batch that is being written, or None."""
    try:
        kind, _, start, _, _ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, flock(fcntl.F_RDLCK)))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else int(start)


def read_tail(fd: int, end: int | None = None) -> Tail:
    """Return the tail of a segment: its last line of the right form, and the bytes behind this line.

    Reads no more than needed. end: the offset before which the function reads, or None for the file's end.
    """
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


def write_file(place: int, name: str, data: bytes) -> None:
    """Write a file of mode 0600 to the disk. After a crash it has either the old or the new bytes."""
    new = NEW + name
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o600, dir_fd=place), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, name, src_dir_fd=place, dst_dir_fd=place)
    os.fsync(place)

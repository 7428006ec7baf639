"""Stored indexes of the trail's files (segments). An index shows which lines of a segment a search may find.

The indexes belong to one user. The name of an index is the SHA-256 of its segment's bytes. So no index fits
a segment that was changed. Each stored file begins with a seal, a digest with a secret key (index_seal.py).
An index is made again from its segment in four cases: the index's seal is wrong; other users could have
written the file; the index has another version; a part of the index does not match the part's digest.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final

from policyfs.journal.files.directories import seal_directory
from policyfs.journal.files.segment_file import SegmentFile
from policyfs.journal.index.seal import SEAL_BYTES, IndexSeal
from policyfs.linux.private_files import make_private
from policyfs.trail.query.index import HEAD_BYTES, Index, head_of
from policyfs.trail.query.index_body import WrongIndexError
from policyfs.trail.query.index_build import IndexBuilder

_DAY_S: Final = 86400
_KEPT_S: Final = 90 * _DAY_S
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def build(segment: SegmentFile, begin: int, end: int, digest: str) -> bytes:
    """Return the index of a range of a segment (a file of the trail), as bytes.

    begin, end: the range, as offsets in bytes. digest: the SHA-256 of the range.
    """
    builder = IndexBuilder()
    for offset, line in segment.lines(begin, end):
        builder.add(line, offset)
    return builder.finish(segment.name, end - begin, digest)


class IndexCache:
    """A cache of the indexes by which one user's commands search the trail.

    If there is no directory that only this user can write, or no key for seals, no index is stored.
    """

    def __init__(self, directory: Path, keys: Path | None = None) -> None:
        """directory: the directory of the indexes.

        keys: the directory of the key for the indexes' seals, or None for the user's standard directory.
        """
        self.directory = directory
        self.problem = ""
        """The reason why indexes cannot be stored; empty if there is no such reason."""
        self._fd = -1
        try:
            self._seal = IndexSeal(keys or seal_directory())
            self._fd = _open_private(directory)
        except OSError as exc:
            self.problem = f"{directory}: {exc.strerror or exc}"
        else:
            self._closing = weakref.finalize(self, os.close, self._fd)

    def close(self) -> None:
        """Close the directory. (Python also closes the directory when this object is freed.)"""
        if self._fd >= 0:
            self._closing()

    def _open(self, name: str) -> int | None:
        """Return a descriptor of a stored file. Return None if the file is missing or other users could write
        it."""
        if self._fd < 0:
            return None
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except OSError:
            return None
        info = os.fstat(fd)
        if _is_private(info) and stat.S_ISREG(info.st_mode):
            return fd
        os.close(fd)
        return None

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file that save() has stored, or None if it is missing or was changed."""
        fd = self._open(name)
        if fd is None:
            return None
        with open(fd, "rb") as file:
            seal, data = file.read(SEAL_BYTES), file.read()
        return data if self._seal.fits(seal, name, data) else None

    def load(self, digest: str, size: int, again: Callable[[], bytes] | None = None) -> Index | None:
        """Return the stored index of a segment, or of a part of it. Return None if no valid index is stored.

        digest: the SHA-256 of the segment's bytes. size: the number of these bytes. again: function that
        makes the index again, called if a part of the stored index is found to be damaged later.
        """
        name = index_name(digest)
        fd = self._open(name)
        if fd is None:
            return None
        file, used_s = _Kept(fd), os.fstat(fd).st_mtime
        start = file.read(0, SEAL_BYTES + HEAD_BYTES)
        head = head_of(start[SEAL_BYTES:])
        if not self._seal.fits(start[:SEAL_BYTES], name, head):
            return None
        begin = SEAL_BYTES + len(head) + 1
        try:
            index = Index(head, lambda at, count: file.read(begin + at, count), again)
        except WrongIndexError:
            return None
        if abs(time.time() - used_s) > _DAY_S:  # not at each use: utime takes longer than a search
            with contextlib.suppress(OSError):
                os.utime(name, dir_fd=self._fd, follow_symlinks=False)
        return index if (index.sha256, index.size) == (digest, size) else None

    def save_index(self, digest: str, data: bytes) -> None:
        """Store the index of a segment, or of a part of it. If this fails, no error is raised.

        digest: the SHA-256 of the segment's bytes. data: the bytes of the index.
        """
        self._save(index_name(digest), data, head_of(data))

    def save(self, name: str, data: bytes) -> None:
        """Store the small file *name* with a seal. If this fails, no error is raised."""
        self._save(name, data, data)

    def _save(self, name: str, data: bytes, sealed: bytes) -> None:
        if self._fd < 0:
            return
        new = f".new-{os.getpid()}-{threading.get_ident()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=self._fd)
            with open(os.open(new, flags, 0o600, dir_fd=self._fd), "wb") as file:
                file.write(self._seal.of(name, sealed))
                file.write(data)
            os.rename(new, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as exc:
            self.problem = f"{self.directory}: {exc.strerror or exc}"
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=self._fd)

    def forget_old(self) -> None:
        """Remove the stored indexes that nobody has used for 90 days."""
        if self._fd < 0:
            return
        for name in os.listdir(self._fd):
            with contextlib.suppress(OSError):
                if time.time() - os.stat(name, dir_fd=self._fd).st_mtime > _KEPT_S:
                    os.unlink(name, dir_fd=self._fd)


class _Kept:
    """An open index file. Python closes the file when this object is freed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def read(self, at: int, count: int) -> bytes:
        """Return *count* bytes from the offset *at* on, or fewer bytes at the end of the file."""
        return os.pread(self._fd, count, at)


def index_name(digest: str) -> str:
    """Return the file name of the index for a segment with this SHA-256."""
    return f"{digest}.index"


def _is_private(info: os.stat_result) -> bool:
    return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _open_private(directory: Path) -> int:
    """Open the directory of the indexes, or create it with mode 0700. Return a descriptor.

    Raises OSError if other users may write to the directory, or replace it.
    """
    make_private(directory)
    for place in (directory, *directory.resolve().parents):
        info = os.stat(place)
        others = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if info.st_uid not in (0, os.geteuid()) or (others and not info.st_mode & stat.S_ISVTX):
            raise PermissionError(1, f"users other than root and you may write to {place}")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not _is_private(os.fstat(fd)):
        os.close(fd)
        raise PermissionError(1, "other users may write to it")
    return fd

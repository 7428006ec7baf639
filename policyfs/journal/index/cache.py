"""Stored indexes of the trail's segments, of one user: they show which lines a search may find.

An index is named by the SHA-256 of its segment's bytes, so none fits a changed segment. The file begins with
a seal (seal.py). An index is made again if its seal is wrong, if other users could have written the file, or
if it has another version.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from policyfs.journal.files.directories import key_directory
from policyfs.journal.files.segments import DIRECTORY, REGULAR
from policyfs.journal.index.database import Index, WrongIndexError
from policyfs.journal.index.seal import SEAL_BYTES, IndexSeal
from policyfs.linux.private_files import make_private

_KEPT_S: Final = 90 * 86400


class IndexCache:
    """A cache of the indexes by which one user's commands search the trail. Without a directory that only
    this user can write, or a key for seals, no index is stored."""

    def __init__(self, directory: Path, keys: Path | None = None) -> None:
        """keys: the directory of the key for seals; None for the standard one."""
        self.directory = directory
        self.problem = ""
        """The reason why indexes cannot be stored; empty if there is no such reason."""
        self._fd = -1
        try:
            self._seal = IndexSeal(keys or key_directory())
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
        if self._fd < 0:
            return None
        try:
            fd = os.open(name, REGULAR, dir_fd=self._fd)
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

    def load(self, digest: str, size: int) -> Index | None:
        """Return the stored index of bytes of a segment with this SHA-256 and size, or None."""
        name = index_name(digest)
        data = self.read(name)
        if data is None:
            return None
        try:
            index = Index(data)
        except WrongIndexError:
            return None
        with contextlib.suppress(OSError):
            os.utime(name, dir_fd=self._fd, follow_symlinks=False)  # see forget_old()
        return index if (index.sha256, index.size) == (digest, size) else None

    def save_index(self, digest: str, data: bytes) -> None:
        """Store the index of bytes with this SHA-256. If this fails, no error is raised."""
        self.save(index_name(digest), data)

    def save(self, name: str, data: bytes) -> None:
        """Store the file *name* with a seal. If this fails, no error is raised."""
        if self._fd < 0:
            return
        new = f".new-{os.getpid()}-{threading.get_ident()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=self._fd)
            with open(os.open(new, flags, 0o600, dir_fd=self._fd), "wb") as file:
                file.write(self._seal.of(name, data))
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


def index_name(digest: str) -> str:
    """Return the file name of the index for a segment with this SHA-256."""
    return f"{digest}.index"


def _is_private(info: os.stat_result) -> bool:
    return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _open_private(directory: Path) -> int:
    """Open the directory, or create it. Raises OSError if other users may write to it, or replace it."""
    make_private(directory)
    for place in (directory, *directory.resolve().parents):
        info = os.stat(place)
        others = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if info.st_uid not in (0, os.geteuid()) or (others and not info.st_mode & stat.S_ISVTX):
            raise PermissionError(1, f"users other than root and you may write to {place}")
    fd = os.open(directory, DIRECTORY)
    if not _is_private(os.fstat(fd)):
        os.close(fd)
        raise PermissionError(1, "other users may write to it")
    return fd

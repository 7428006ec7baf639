"""Indexes of segments on disk: derived, kept for one user alone, and made anew whenever they are not right.

An index is named after the SHA-256 of its segment's bytes, so a changed segment has no index. The segment is
read for that each time; it costs less than asking its lines. Indexes that others could have written, damaged
ones, and those of another version are made anew.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
import weakref
from pathlib import Path
from typing import Final

from policyfs.journal.segment_file import SegmentFile
from policyfs.trail.index import Index, WrongIndexError
from policyfs.trail.index_build import IndexBuilder

DEFAULT: Final = "/var/cache/policyfs"
_KEPT_S: Final = 90 * 86400
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def cache_directory() -> Path:
    """Return the directory of indexes: $POLICYFS_CACHE_DIR, root's, or the user's own."""
    given = os.environ.get("POLICYFS_CACHE_DIR")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path(DEFAULT)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "policyfs"


def build(segment: SegmentFile, begin: int, end: int, digest: str) -> bytes:
    """Make the index of a range of a segment."""
    builder = IndexBuilder()
    for offset, line in segment.lines(begin, end):
        builder.add(line, offset)
    return builder.finish(segment.name, end - begin, digest)


class IndexCache:
    """The indexes of one user. Without a directory of its own it keeps none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problem = ""
        """Why indexes cannot be kept; empty if they can."""
        try:
            self._fd = _open_private(directory)
        except OSError as exc:
            self._fd = -1
            self.problem = f"{directory}: {exc.strerror or exc}"
        else:
            self._closing = weakref.finalize(self, os.close, self._fd)

    def close(self) -> None:
        """Close the directory, which otherwise happens when nobody has the cache any more."""
        if self._fd >= 0:
            self._closing()

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a kept file; None if there is none, or others could have written it."""
        if self._fd < 0:
            return None
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except OSError:
            return None
        with open(fd, "rb") as file:
            info = os.fstat(fd)
            if not _is_private(info) or not stat.S_ISREG(info.st_mode):
                return None
            return file.read()

    def load(self, digest: str) -> Index | None:
        """Return the kept index of bytes with this digest, if there is one that can be used."""
        name = index_name(digest)
        data = self.read(name)
        if data is None:
            return None
        try:
            index = Index(data)
        except WrongIndexError:
            return None
        with contextlib.suppress(OSError):
            os.utime(name, dir_fd=self._fd, follow_symlinks=False)
        return index if index.sha256 == digest else None

    def save(self, name: str, data: bytes) -> None:
        """Keep a file; no error if it cannot be kept."""
        if self._fd < 0:
            return
        new = f".new-{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=self._fd)
            with open(os.open(new, flags, 0o600, dir_fd=self._fd), "wb") as file:
                file.write(data)
            os.rename(new, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as exc:
            self.problem = f"{self.directory}: {exc.strerror or exc}"
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=self._fd)

    def forget_old(self) -> None:
        """Remove indexes that nobody has used for 90 days."""
        if self._fd < 0:
            return
        for name in os.listdir(self._fd):
            with contextlib.suppress(OSError):
                if time.time() - os.stat(name, dir_fd=self._fd).st_mtime > _KEPT_S:
                    os.unlink(name, dir_fd=self._fd)


def index_name(digest: str) -> str:
    """Return the name of the index of bytes with this digest."""
    return f"{digest}.index"


def _is_private(info: os.stat_result) -> bool:
    return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _open_private(directory: Path) -> int:
    """Open the directory, made with mode 0700 if it is missing. Raises OSError if others may write to it."""
    directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    for place in (directory, *directory.resolve().parents):
        info = os.stat(place)
        others = info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if info.st_uid not in (0, os.geteuid()) or (others and not info.st_mode & stat.S_ISVTX):
            raise PermissionError(1, f"others may write to {place}")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not _is_private(os.fstat(fd)):
        os.close(fd)
        raise PermissionError(1, "others may write to it")
    return fd

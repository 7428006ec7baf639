"""Records of new objects with a temporary name (new_names.py): the next daemon of the store removes the
object of a killed daemon. Otherwise no app could remove the object's directory.

All daemons of the machine share one file of records, in the directory of control sockets. Each daemon has a
place in this file, and keeps the place locked (an OFD lock). So if a place can be locked, the daemon that
wrote its record has ended. Nothing is written to a disk. A daemon that cannot write records goes on without.

INVARIANT: only an empty directory, an empty file or another object without bytes is removed, and only by a
temporary name. So a wrong record costs no bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from policyfs.domain import FileType
from policyfs.linux.libc import proc_fd
from policyfs.linux.mountinfo import fuse_mounts_below
from policyfs.store.locking.ofd import UNLCK, WRLCK, Asked, Owner, set_lock
from policyfs.store.names.aside_names import is_aside
from policyfs.store.tree import Tree

_PLACE: Final = 3 << 12
"""The size in bytes of one place. The longest record is two paths of 4,095 bytes and a name."""
_KEPT_MAX: Final = 64
"""The limit of records that a daemon keeps of objects that it could not remove."""
_OVER: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EEXIST})
"""Errors of a removal after which there is nothing to remove, or what is there is not the daemon's."""
_OURS: Final = Owner(0, flock=False)


class NewRecords:
    """The record that one daemon keeps in the shared file *path*, which is created if missing."""

    __slots__ = ("_at", "_fd", "_kept", "_root", "_tree")

    def __init__(self, path: str, tree: Tree) -> None:
        """Take a place in the shared file, and remove what this store's killed daemons have not finished."""
        self._tree, self._root = tree, b""
        self._at = self._fd = -1
        self._kept = 0
        with contextlib.suppress(OSError):
            self._root = os.readlink(proc_fd(tree.root_fd)).rstrip(b"/") + b"/"
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._begin(0)

    def _begin(self, at: int) -> None:
        end = os.fstat(self._fd).st_size
        while self._at < 0 or at < end:
            if self._lock(at, WRLCK):
                is_free = self._finish(os.pread(self._fd, _PLACE, at).split(b"\0"))
                if is_free:
                    os.pwrite(self._fd, b"\0", at)
                if is_free and self._at < 0:
                    self._at = at
                else:
                    self._lock(at, UNLCK)
            at += _PLACE

    def _lock(self, at: int, kind: int) -> bool:
        return set_lock(self._fd, _OURS, Asked(at, at + _PLACE - 1, kind, 0))

    def _finish(self, record: list[bytes]) -> bool:
        """Remove the object of a record. Return False if the record must stay: it is of another store, or of
        a FUSE file system within the store, which may not answer, or the object could not be removed."""
        if len(record) < 4 or not record[0]:
            return True
        root, below, name = record[0], record[1], record[2]
        mounts = fuse_mounts_below(root.rstrip(b"/") or b"/")
        if root != self._root or any((root + below + b"/").startswith(mount + b"/") for mount in mounts):
            return False
        try:
            with contextlib.ExitStack() as stack:
                dirfd = self._tree.root_fd
                if below:
                    dirfd = self._tree.open_below(dirfd, below.split(b"/"))
                    stack.callback(os.close, dirfd)
                stat = self._tree.stat(dirfd, name)
                is_kept = stat.ftype is FileType.REGULAR and stat.size
                if is_aside(name) and not is_kept:
                    is_directory = stat.ftype is FileType.DIRECTORY
                    (self._tree.rmdir if is_directory else self._tree.unlink)(dirfd, name)
        except OSError as error:
            return error.errno in _OVER
        return True

    def write(self, dirfd: int, name: bytes) -> None:
        """Record that a new object gets the temporary name *name*. If this fails, do nothing."""
        if self._at >= 0:
            with contextlib.suppress(OSError):
                path = os.readlink(proc_fd(dirfd)) + b"/"
                if path.startswith(self._root):
                    below = path[len(self._root) : -1]
                    os.pwrite(self._fd, b"\0".join((self._root, below, name, b"")), self._at)

    def clear(self) -> None:
        """Clear this daemon's record."""
        if self._at >= 0:
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, b"\0", self._at)

    def keep(self) -> None:
        """Leave the record to the next daemon, since its object could not be removed, and take another
        place."""
        if self._at >= 0 and self._kept < _KEPT_MAX:
            self._kept, at, self._at = self._kept + 1, self._at, -1
            with contextlib.suppress(OSError):
                self._begin(at + _PLACE)

    def close(self) -> None:
        """Release this daemon's place. A second call does nothing."""
        fd, self._fd, self._at = self._fd, -1, -1
        if fd >= 0:
            os.close(fd)

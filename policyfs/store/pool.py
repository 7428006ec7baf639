"""The files below a mergerfs pool: each file of a pool is a file of one of its branches.

A lease on a file of a FUSE store proves nothing. But mergerfs changes a file only through its own descriptor
of the branch's file. So a lease on that file proves that nobody writes, through the pool or beside it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final, NamedTuple, Self

from policyfs.linux.libc import is_fuse, proc_fd
from policyfs.linux.mountinfo import mount_of_fd
from policyfs.linux.statx import fstatx, fstatx_of_server
from policyfs.store.facts import leases_mean
from policyfs.store.tree import Tree

_FSTYPE: Final = "fuse.mergerfs"
_BY_ROOT: Final = "user_id=0"
_CONTROL: Final = b".mergerfs"
_BRANCHES: Final = "user.mergerfs.branches"
_BRANCH: Final = "user.mergerfs.basepath"
_ELSEWHERE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES}
)
"""Errors that mean: the file is not below, or not where the pool's branches are in this mount namespace."""


class NotBelowError(Exception):
    """No known branch of the pool has the file, or not at its path."""


class Pool(NamedTuple):
    """The mergerfs pool that a store is in. root_fd: the pool's root, O_PATH. inner: the names of the
    directories from there to the store."""

    root_fd: int
    inner: tuple[bytes, ...]

    @classmethod
    def of(cls, store_fd: int) -> Self | None:
        """Return the pool of a store, or None if the store is in none that root has mounted."""
        mount = mount_of_fd(store_fd) if is_fuse(store_fd) else None
        if mount is None or mount.fstype != _FSTYPE or mount.root != "/":
            return None
        if _BY_ROOT not in mount.super_options:
            return None
        at = os.fsencode(mount.path)
        inner = os.path.relpath(os.readlink(proc_fd(store_fd)), at)
        try:
            root_fd = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        pool = cls(root_fd, () if inner == b"." else tuple(inner.split(b"/")))
        if b".." in pool.inner or os.fstat(root_fd).st_dev != os.fstat(store_fd).st_dev:  # mounted over
            pool.close()
            return None
        return pool

    def close(self) -> None:
        """Close the pool's root."""
        os.close(self.root_fd)

    def branches(self) -> list[bytes]:
        """Return the absolute paths of the branches now; none if the pool does not tell them."""
        try:
            value = os.getxattr(os.path.join(proc_fd(self.root_fd), _CONTROL), _BRANCHES)
        except OSError:
            return []
        return [branch.partition(b"=")[0] for branch in value.split(b":")]  # =RW and the like follow the path

    def leases_mean(self) -> bool:
        """Return True if a lease proves on every branch that nobody writes (leases_mean of facts.py)."""
        found = []
        for branch in self.branches():
            with contextlib.suppress(OSError), Tree.open(branch) as tree:
                found.append(leases_mean(tree.root_fd))
        return bool(found) and all(found)

    def open_below(self, fd: int, path: bytes) -> int:
        """Open the branch's file of the pool's file *fd* for reading. path: the file's path in the store.

        INVARIANT: mergerfs tells only which branch it is. It answers for ``user.mergerfs.basepath`` itself,
        whatever an app has stored under this name. The path is the daemon's own, and no symlink is followed.
        Raises NotBelowError, or OSError (EIO, EMFILE).
        """
        try:
            branch = os.getxattr(fd, _BRANCH)
            if branch not in self.branches():
                raise NotBelowError
            with Tree.open(branch) as tree:
                *directories, name = *self.inner, *path.strip(b"/").split(b"/")
                dirfd = tree.open_below(tree.root_fd, directories) if directories else os.dup(tree.root_fd)
                with contextlib.closing(Tree(dirfd)):
                    return tree.open_file(dirfd, name, os.O_RDONLY)
        except OSError as error:
            if error.errno in _ELSEWHERE:
                raise NotBelowError from error
            raise

    @staticmethod
    def same(fd: int, below_fd: int) -> bool:
        """Return True if a branch's file has the size and times of the pool's file *fd*. Raises OSError."""
        ours, below = fstatx_of_server(fd), fstatx(below_fd)
        return (ours.size, ours.mtime_ns, ours.ctime_ns) == (below.size, below.mtime_ns, below.ctime_ns)

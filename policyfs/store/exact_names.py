"""Removal of a name only while it is that of one certain inode.

unlink(2) takes a name, and no system call removes an inode by its number. If the name is looked at and then
removed, another program can rename another file over it in between, and that file would be lost. So the name
is first moved aside, to a new name in the same directory. Only this name, which no other program knows, is
looked at and removed. If it is of another inode, it is moved back, and never over a third file.

A rename that must move one certain file is undone likewise if it has moved another (has_got(), move_back()).

A daemon that is killed between these steps leaves the file under the new name (aside()). Meanwhile the old
name is missing: for a few microseconds, and only if another program renames a file over it at that moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final

from policyfs.linux import libc
from policyfs.linux.libc import RENAME_EXCHANGE, RENAME_NOREPLACE
from policyfs.linux.statx import Stat
from policyfs.store.tree import Tree

_ASIDE: Final = b"policyfs-aside-"  # also in kernel/_listing.c
_NOT_TAKEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES})
"""Errors of a store that takes no other name: it has no room, or it is itself a mount of policyfs."""
_NO_FLAGS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""Errors of renameat2(2) on a file system that knows no flags, such as NFS."""
_OVERLAY: Final = 0x794C7630  # f_type, see linux/magic.h
_LARGE: Final = 1 << 20
"""The size from which a file is not renamed on an overlay only to be removed, bytes."""


def knows_no_flags(error: OSError) -> bool:
    """True if renameat2(2) failed because the file system does not know the flag."""
    return error.errno in _NO_FLAGS


def takes_no_name(error: OSError) -> bool:
    """True if a rename failed because the store has no room for one more name, or permits no such name."""
    return error.errno in _NOT_TAKEN


def aside() -> bytes:
    """Return a new name for a file that is moved out of the way."""
    return _ASIDE + os.urandom(8).hex().encode()


def is_aside(name: bytes) -> bool:
    """True for a name that aside() may have made.

    INVARIANT: no app gets a file by such a name. The rules that hide the file may be about its own name, or
    about another directory.
    """
    return name.startswith(_ASIDE)


class ExactNames:
    """Removes names in one store. warn: logs a problem with a name."""

    __slots__ = ("_tree", "_warn")

    def __init__(self, tree: Tree, warn: Callable[[str, bytes], None]) -> None:
        self._tree = tree
        self._warn = warn

    def unlink(
        self, dirfd: int, name: bytes, target: Stat, still: Callable[[Stat], bool] = lambda _: True
    ) -> bool:
        """Remove a name of the file in *target*. False if another object has the name, which then keeps it.

        still: called with the file's present attributes; if it returns False, the file keeps its name, too.
        Raises the OSError of rename(2) or unlink(2), FileNotFoundError if there is no such name.

        In a store that takes no other name, the name is removed right after the look, and so is that of a
        file that a rename would copy.
        """
        now = self._tree.stat(dirfd, name)
        if not (now.same_inode(target) and still(now)):
            return False
        if self.would_copy(dirfd, now):
            self._tree.unlink(dirfd, name)
            return True
        taken = aside()
        try:
            self._take(dirfd, name, taken)
        except OSError as error:
            if error.errno not in _NOT_TAKEN:
                raise
            self._tree.unlink(dirfd, name)
            return True
        now = self._tree.stat(dirfd, taken)
        if now.same_inode(target) and still(now):
            self._tree.unlink(dirfd, taken)
            return True
        self._put_back(dirfd, taken, name)
        return False

    def replace(
        self, old_dir: int, old: bytes, moved: Stat, new_dir: int, new: bytes, replaced: Stat
    ) -> bool:
        """Rename one certain file over another one. False if another file had one of the names: then each
        file has its name as before. Raises OSError, also before any change.

        The file is moved aside first, and exchanged with the other one from there. So the replaced file never
        has the old name, by which apps may see it that must not.
        """
        taken = aside()
        self._tree.rename2(old_dir, old, old_dir, taken, RENAME_NOREPLACE)
        if not self._tree.stat(old_dir, taken).same_inode(moved):
            self._put_back(old_dir, taken, old)
            return False
        try:
            self._tree.rename2(old_dir, taken, new_dir, new, RENAME_EXCHANGE)
        except OSError:
            self._put_back(old_dir, taken, old)
            raise
        if self._tree.stat(old_dir, taken).same_inode(replaced):
            self._tree.unlink(old_dir, taken)
            return True
        self._undo_replace(old_dir, old, moved, new_dir, new, taken)
        return False

    def _undo_replace(
        self, old_dir: int, old: bytes, moved: Stat, new_dir: int, new: bytes, taken: bytes
    ) -> None:
        """Give a file its name back that was exchanged with *moved*, and is aside."""
        try:
            self._tree.rename2(old_dir, taken, new_dir, new, RENAME_EXCHANGE)
        except FileNotFoundError:  # another program has removed the moved file
            with contextlib.suppress(FileExistsError):
                self._tree.rename2(old_dir, taken, new_dir, new, RENAME_NOREPLACE)
            return
        if self._tree.stat(old_dir, taken).same_inode(moved):
            self._put_back(old_dir, taken, old)
            return
        # Another program has replaced the moved file by a third one, which must keep the new name.
        self._tree.rename2(old_dir, taken, new_dir, new, RENAME_EXCHANGE)
        self._tell(taken, new, OSError(errno.EEXIST, os.strerror(errno.EEXIST)))

    def would_copy(self, dirfd: int, stat: Stat) -> bool:
        """True if a rename of this large file may copy all its bytes: an overlay does so for a lower layer's.

        All requests would wait meanwhile. A removal copies nothing.
        """
        return stat.size >= _LARGE and libc.file_system_type(dirfd) == _OVERLAY

    def _take(self, dirfd: int, name: bytes, taken: bytes) -> None:
        try:
            self._tree.rename2(dirfd, name, dirfd, taken, RENAME_NOREPLACE)
        except OSError as error:
            if not knows_no_flags(error):
                raise
            self._tree.rename2(dirfd, name, dirfd, taken)

    def _put_back(self, dirfd: int, taken: bytes, name: bytes) -> None:
        """Give a file its name back, unless a third file has that name by now."""
        try:
            try:
                self._tree.rename2(dirfd, taken, dirfd, name, RENAME_NOREPLACE)
            except OSError as error:
                if not knows_no_flags(error):
                    raise
                self._link_back(dirfd, taken, name)
        except OSError as error:
            self._tell(taken, name, error)

    def _link_back(self, dirfd: int, taken: bytes, name: bytes) -> None:
        fd = self._tree.open_path(dirfd, taken)
        try:
            self._tree.link(fd, dirfd, name)
        finally:
            os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            self._tree.unlink(dirfd, taken)

    def has_got(self, fd: int, target: Stat, dirfd: int, name: bytes) -> bool:
        """True if a rename has given this name to the file in *target*, also if another program has removed
        the file or replaced it since. fd: an O_PATH descriptor that was opened by the file's old name.

        Otherwise a file that came later would count as one that was moved by mistake, and would be moved to
        the old name. The kernel knows the last name by which a descriptor's file was within reach.
        """
        try:
            return self._tree.stat(dirfd, name).same_inode(target) or self._lost(fd, dirfd, name)
        except FileNotFoundError:
            return self._lost(fd, dirfd, name)

    @staticmethod
    def _lost(fd: int, dirfd: int, name: bytes) -> bool:
        """True if the file behind *fd* had this name until it lost its name."""
        try:
            last, directory = (os.readlink(libc.proc_fd(one)) for one in (fd, dirfd))
        except OSError:  # such a path is too long for the kernel
            return False
        return last == directory.rstrip(b"/") + b"/" + name + b" (deleted)"

    def move_back(self, new_dir: int, new: bytes, old_dir: int, old: bytes, *, swapped: bool) -> None:
        """Undo a rename that has moved another file than it should. swapped: the names were exchanged. Raises
        FileNotFoundError if the new name is gone.

        If a third file has the old name by now, the file gets a new name beside it.
        """
        try:
            if swapped:
                with contextlib.suppress(FileNotFoundError):  # the old name is free again
                    self._tree.rename2(new_dir, new, old_dir, old, RENAME_EXCHANGE)
                    return
            self._tree.rename2(new_dir, new, old_dir, old, RENAME_NOREPLACE)
        except FileExistsError as error:
            taken = aside()
            self._tree.rename2(new_dir, new, old_dir, taken, RENAME_NOREPLACE)
            self._tell(taken, old, error)

    def _tell(self, taken: bytes, name: bytes, error: OSError) -> None:
        """Log that a file stays under another name."""
        self._warn(
            f"this file was replaced while policyfs changed its name, and is now called {os.fsdecode(taken)}"
            f" ({error.strerror})",
            name,
        )

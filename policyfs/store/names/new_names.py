"""Functions that make an object under a temporary name, and give it its owner before its own name.

A regular file can be made without a name (Tree.create_unnamed) on many stores. Other objects, and files on
other stores, cannot. So each first gets a temporary name, which no app gets (aside_names.py). Otherwise an
app of another mount could use the object before it has an owner. Or another object could take the name, and
would then get the owner of the new object.

If a daemon is killed between these steps, the next daemon of the store removes the object (new_records.py).
(The app got no answer to its request.)
A network store may make the object and then report an error, because the answer of its server was lost. So
after an error the daemon looks for the object and removes it. Where this fails, the record stays.

In a directory that can lose no name (chattr +a) nothing gets a temporary name: nobody could remove it, and
nobody else can take the name of a new object there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from policyfs.domain import FileType
from policyfs.linux.libc import RENAME_NOREPLACE
from policyfs.linux.statx import is_append_only
from policyfs.store.names.aside_names import aside
from policyfs.store.names.new_records import NewRecords
from policyfs.store.tree import Tree

NOT_MADE: Final = -1


class NewNames:
    """A helper that makes objects under temporary names in one store. records: keeps the record of the
    present temporary name; None: nothing is recorded."""

    __slots__ = ("_records", "_tree")

    def __init__(self, tree: Tree, records: NewRecords | None) -> None:
        self._tree = tree
        self._records = records

    def make(self, dirfd: int, name: bytes, make: Callable[[bytes], None], own: Callable[[int], None]) -> int:
        """Make an object with a name in *dirfd*. Return a descriptor of the object (O_PATH), which the caller
        closes.

        make: makes the object under the name that it gets. own: gives the object behind a descriptor its
        owner. Return NOT_MADE if the directory permits no temporary name, or the store does not keep
        RENAME_NOREPLACE. Raises OSError if nothing was made: EEXIST if an object has the name, even if the
        store also has no room (as natively).
        """
        if not self._tree.noreplace or is_append_only(dirfd):
            return NOT_MADE
        taken = aside()
        if self._records is not None:
            self._records.write(dirfd, taken)
        try:
            return self._made(dirfd, name, taken, make, own)
        except FileExistsError:
            raise
        except OSError:
            self._tree.check_free(dirfd, name)
            raise
        finally:
            if self._records is not None:
                self._records.clear()

    def _made(
        self, dirfd: int, name: bytes, taken: bytes, make: Callable[[bytes], None], own: Callable[[int], None]
    ) -> int:
        try:
            make(taken)
        except OSError as error:
            if error.errno == errno.EACCES:
                return NOT_MADE  # the store is itself a mount of policyfs
            self._take_back(dirfd, taken, -1)  # a network store may have made the object and lost the answer
            if error.errno == errno.EEXIST:  # the temporary name is taken: the app must not get this error
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
            raise
        fd, is_named = -1, False
        try:
            fd = self._tree.open_path(dirfd, taken)
            own(fd)
            self._tree.rename2(dirfd, taken, dirfd, name, RENAME_NOREPLACE)
            is_named = True
        finally:
            if not is_named:
                self._take_back(dirfd, taken, fd)
        return fd

    def _take_back(self, dirfd: int, taken: bytes, fd: int) -> None:
        """Remove a new object by its temporary name, if it exists. Keep its record if this fails."""
        if fd >= 0:
            os.close(fd)
        try:
            if self._tree.stat(dirfd, taken).ftype is FileType.DIRECTORY:
                self._tree.rmdir(dirfd, taken)
            else:
                self._tree.unlink(dirfd, taken)
        except FileNotFoundError:
            pass
        except OSError:
            if self._records is not None:
                self._records.keep()

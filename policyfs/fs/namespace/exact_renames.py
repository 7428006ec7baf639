"""Renames that move exactly the files that the decision was about, or no file."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
from typing import Final

from policyfs.domain import FileType
from policyfs.fs.access.audit import Call
from policyfs.fs.inodes.node import StaleNodeError
from policyfs.kernel.bridge import pyfuse3
from policyfs.linux import libc
from policyfs.linux.statx import Stat
from policyfs.store import ranges
from policyfs.store.names.aside_names import knows_no_flags, takes_no_name
from policyfs.store.names.exact_names import ExactNames
from policyfs.store.tree import Tree

_EXCHANGE: Final = int(pyfuse3.RENAME_EXCHANGE)
_NOREPLACE: Final = int(pyfuse3.RENAME_NOREPLACE)
_WRITE_FIRST: Final = frozenset({0xEF53, 0x9123683E})
"""The file systems (f_type, linux/magic.h) that begin to write a file when it replaces another one: ext4 and
btrfs.
"""


_RENAMES: Final = {_NOREPLACE: "renameat2(RENAME_NOREPLACE)", _EXCHANGE: "renameat2(RENAME_EXCHANGE)"}


def call_of(flags: int) -> Call:
    """Return the words of the trail for a rename with these flags."""
    return Call("rename", _RENAMES.get(flags, "rename"))


class How(enum.Enum):
    """The way in which a rename is carried out."""

    SETTLED = "settled"
    """Move exactly the file whose content was checked, or no file."""
    EXACT = "exact"
    """Move exactly the objects of the decision, if the store can do so."""
    BY_PATHS = "by paths"
    """Move the objects that have the names now. Undo this if a directory was moved instead of another object,
    or another object instead of a directory."""
    PLAIN = "plain"
    """Move the objects that have the names now."""

    @property
    def is_exact(self) -> bool:
        """True if the decision counts only for the objects that had the names at the time of the decision."""
        return self in {How.SETTLED, How.EXACT}


def how_to_move(
    moved: Stat, replaced: Stat | None, flags: int, *, settled: bool, by_facts: bool, alike: bool
) -> How:
    """Return the way in which a rename must be carried out.

    settled: True if a file's content was checked for this move. by_facts: True if the decision depends on
    facts. alike: True if both paths have the same state, so that the same rules hold at both.

    If other rules hold at the new path, the decision also depends on the type of the object: a symlink has no
    content to check, and only a directory has paths below it. But a decision about a regular file also counts
    for all other regular files and all symlinks.
    """
    if settled:
        return How.SETTLED
    replaces = replaced is not None and not flags & _EXCHANGE
    if replaces and replaced is not None and FileType.DIRECTORY in {moved.ftype, replaced.ftype}:
        return How.PLAIN if alike else How.BY_PATHS  # ExactNames.replace() removes no directory
    if by_facts:
        return How.EXACT
    if alike:
        return How.PLAIN
    return How.BY_PATHS if replaces and moved.ftype is FileType.REGULAR else How.EXACT


class ExactRenames:
    """The part of a mount that renames exactly: a rename moves the files of its decision, or no file."""

    __slots__ = ("_exact_names", "_tree")

    def __init__(self, tree: Tree, exact_names: ExactNames) -> None:
        self._tree = tree
        self._exact_names = exact_names

    def move(
        self, names: tuple[int, bytes, int, bytes], moved: Stat, replaced: Stat | None, flags: int, how: How
    ) -> None:
        """Rename in the way *how*. names: a descriptor of the old directory, the old name, a descriptor of
        the new directory, the new name. moved, replaced: the objects of the decision.

        Raise StaleNodeError if other objects have the names now, and *how* does not permit to move them.
        """
        if how.is_exact:
            self.rename(*names, moved, replaced, flags, settled=how is How.SETTLED)
        elif how is How.BY_PATHS:
            self._by_paths(*names, moved, flags)
        else:
            self._tree.rename2(*names, flags)

    def rename(
        self, old_dir: int, old: bytes, new_dir: int, new: bytes, moved: Stat, replaced: Stat | None,
        flags: int, *, settled: bool,
    ) -> None:  # fmt: skip
        """Move exactly the file of the decision. If another file has one of the names now, move nothing and
        raise StaleNodeError (ESTALE: the kernel tries again).

        renameat2(2) takes names. After the last check, another file may get a name through another mount or
        in the store. So the daemon removes a replaced file only after it knows which file was moved. If other
        files were exchanged, the daemon undoes the exchange.

        settled: True if a file's content was checked for this move. Then raise OSError (EXDEV) if the store
        knows no flags of renameat2(2). If settled is False, there are three cases in which any file with the
        name is moved: the store knows no flags, has no room for one more name, or would copy the replaced
        file.
        """
        replaces = replaced is not None and not flags
        if replaces and replaced is not None:
            if replaced.same_inode(moved):
                return  # two names of one file: rename(2) does nothing, and both stay
            if not settled and self._exact_names.would_copy(new_dir, replaced):
                self._tree.rename2(old_dir, old, new_dir, new)
                return
        try:
            if replaces and replaced is not None:
                if moved.ftype is FileType.REGULAR and libc.file_system_type(old_dir) in _WRITE_FIRST:
                    self._begin_to_write(old_dir, old)
                is_done = self._exact_names.replace(old_dir, old, moved, new_dir, new, replaced)
            elif flags & _EXCHANGE:
                is_done = self._moved_and_compared(old_dir, old, new_dir, new, moved, replaced, flags)
            else:
                is_done = self._moved_to_free_name(old_dir, old, new_dir, new, moved)
        except (FileExistsError, FileNotFoundError):
            raise StaleNodeError from None
        except OSError as error:
            if settled and knows_no_flags(error):
                raise OSError(errno.EXDEV, "the store cannot move exactly this file") from None
            if settled or not (knows_no_flags(error) or (replaces and takes_no_name(error))):
                raise
            self._tree.rename2(old_dir, old, new_dir, new, flags)
            return
        if not is_done:
            raise StaleNodeError

    def _begin_to_write(self, dirfd: int, name: bytes) -> None:
        """Make the kernel begin to write a file's bytes to the disk, as rename(2) does for a file that
        replaces another one. The exchange of two names, which the daemon uses instead, does not do this.
        Without this method, the new file could be empty after a power cut, and the old file gone.
        """
        with contextlib.suppress(OSError):
            fd = self._tree.open_file(dirfd, name, os.O_RDONLY)
            try:
                ranges.begin_to_write_out(fd)
            finally:
                os.close(fd)

    def _by_paths(self, old_dir: int, old: bytes, new_dir: int, new: bytes, moved: Stat, flags: int) -> None:
        self._tree.rename2(old_dir, old, new_dir, new, flags)
        try:
            now = self._tree.stat(new_dir, new)
        except FileNotFoundError:  # another process has removed it
            return
        if FileType.DIRECTORY in {now.ftype, moved.ftype} and now.ftype is not moved.ftype:
            self._exact_names.move_back(new_dir, new, old_dir, old)
            raise StaleNodeError

    def _moved_to_free_name(
        self, old_dir: int, old: bytes, new_dir: int, new: bytes, moved: Stat
    ) -> bool:  # fmt: skip
        try:
            return self._exact_names.move(old_dir, old, moved, new_dir, new)
        except OSError as error:
            if not takes_no_name(error):
                raise
        return self._moved_and_compared(old_dir, old, new_dir, new, moved, None, 0)

    def _moved_and_compared(
        self, old_dir: int, old: bytes, new_dir: int, new: bytes, moved: Stat, replaced: Stat | None,
        flags: int,
    ) -> bool:  # fmt: skip
        """Exchange two files. Or, where the store permits no temporary name, give a file a name that no file
        has. If the rename has moved other files than *moved* and *replaced*, move them back and return False.
        Until then apps may find them at the new names. An exchange by temporary names would avoid this. But
        then one of the two names would be free for a moment, and another file could take this name.
        """
        swap = flags & _EXCHANGE
        with contextlib.ExitStack() as stack:
            moved_fd = self._opened(stack, old_dir, old, moved)
            replaced_fd = self._opened(stack, new_dir, new, replaced) if swap and replaced is not None else -1
            self._tree.rename2(old_dir, old, new_dir, new, swap or _NOREPLACE)
            is_done = self._exact_names.has_got(moved_fd, moved, new_dir, new)
            if is_done and swap and replaced is not None:
                is_done = self._exact_names.has_got(replaced_fd, replaced, old_dir, old)
        if not is_done:
            self._exact_names.move_back(new_dir, new, old_dir, old, swapped=bool(swap))
        return is_done

    def _opened(self, stack: contextlib.ExitStack, dirfd: int, name: bytes, stat: Stat) -> int:
        """Open the file that has a name now (O_PATH). Raise StaleNodeError if it is not the file in
        *stat*.
        """
        fd = self._tree.open_path(dirfd, name)
        stack.callback(os.close, fd)
        if not self._tree.fstat(fd).same_inode(stat):
            raise StaleNodeError
        return fd

"""Functions that remove, replace or rename a file only if its name still refers to the expected inode.

unlink(2) takes a name, and no system call removes an inode by its number. Between a check of the name and its
removal, another program could rename another file over the name, and that file would be lost. So the daemon
first moves the file aside: it gives the file a new name in the same directory, which no other program knows.
The daemon checks and removes only this new name. If the moved file is not the given one, the daemon gives
the moved file its old name back, and never replaces a third file.

A file that is renamed is moved aside, too, before it gets its new name (move(), replace()). In an exchange no
file is moved aside: if the exchange has moved a wrong file, it is undone (has_got(), move_back()).

A daemon that is killed between these steps leaves the file under the new name (aside()). The next daemon of
the store finds a record of this (move_records.py), and gives the file its name back, or finishes a
replacement. If the store fails between these steps, this daemon gives the file its name back at once. If that
fails, too, the log has the new name, and the record stays for the next daemon.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import Final

from policyfs.linux import libc
from policyfs.linux.libc import RENAME_EXCHANGE, RENAME_NOREPLACE
from policyfs.linux.mountinfo import fuse_mounts_below
from policyfs.linux.statx import Stat
from policyfs.store.names.aside_names import aside, is_aside, knows_no_flags, takes_no_name
from policyfs.store.names.move_records import UNKNOWN, Move, MoveRecords, mark
from policyfs.store.names.new_names import NewNames
from policyfs.store.tree import Tree

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors of open(2) for a directory that is not at its path any more."""
_UNREAD: Final = "files to which a killed daemon gave temporary names do not get their own names back"
_UNFINISHED: Final = (
    "a daemon ended while it removed, replaced or renamed this file. The file should be in the same"
    " directory, which may have been moved: `policyfs doctor STORE` searches for the file. Its name is now"
)
_FINISHED: Final = (
    "a daemon was killed while it removed, replaced or renamed this file; all names are right again"
)
_OVERLAY: Final = 0x794C7630  # f_type, see linux/magic.h
_LARGE: Final = 1 << 20
"""The least size in bytes of a large file. On an overlay such a file is removed without a rename before."""


class ExactNames:
    """A helper that removes, replaces and moves names in one store, only if they refer to the expected files.

    new: makes objects that have an owner before their name.
    """

    __slots__ = ("_records", "_tree", "_warn", "new")

    def __init__(self, tree: Tree, warn: Callable[[str, bytes], None], records: str = "") -> None:
        """Give the old names back to files that killed daemons have left under temporary names.

        warn: logs a problem with a name. records: the path of the shared file of records (MoveRecords). If
        the path is empty, the files of killed daemons stay as they are, and this object records nothing.
        """
        self._tree = tree
        self._warn = warn
        self._records = MoveRecords(records, tree.root_fd) if records else None
        self.new = NewNames(tree, self._records)
        if self._records is not None:
            try:
                if self._records.begin(self._finish):
                    self._warn(UNKNOWN, b"/")
            except OSError as error:
                self._warn(f"{_UNREAD} ({error.strerror})", b"/")

    def close(self) -> None:
        """Release this daemon's place in the shared file of records. A second call does nothing."""
        if self._records is not None:
            self._records.close()

    def unlink(
        self, dirfd: int, name: bytes, target: Stat, still: Callable[[Stat], bool] = lambda _: True
    ) -> bool:
        """Remove *name* if it refers to the file *target*. Return False if another object has the name; the
        other object keeps the name.

        still: called with the file's present attributes. If *still* returns False, the file keeps its name,
        and this call returns False. Raises the OSError of rename(2) or unlink(2): FileNotFoundError if there
        is no such name.

        Normally the file is first moved to a temporary name, checked there, and then removed. In two cases
        the file is not moved, and *name* is removed right after a check of *target* and *still*: if the store
        permits no new name, and if a rename would copy the file.
        """
        now = self._tree.stat(dirfd, name)
        if not (now.same_inode(target) and still(now)):
            return False
        if self.would_copy(dirfd, now):
            self._tree.unlink(dirfd, name)
            return True
        taken = aside()
        if self._records is not None:
            self._records.write(dirfd, name, taken)
        with self._clearing(dirfd, taken):
            return self._unlink_aside(dirfd, name, taken, target, still)

    def _unlink_aside(
        self, dirfd: int, name: bytes, taken: bytes, target: Stat, still: Callable[[Stat], bool]
    ) -> bool:
        try:
            self._take(dirfd, name, taken)
        except OSError as error:
            if not takes_no_name(error):
                raise
            self._tree.unlink(dirfd, name)
            return True
        try:
            now = self._tree.stat(dirfd, taken)
            if now.same_inode(target) and still(now):
                self._tree.unlink(dirfd, taken)
                return True
        except OSError:
            self.move_back(dirfd, taken, dirfd, name)
            raise
        self.move_back(dirfd, taken, dirfd, name)
        return False

    @contextlib.contextmanager
    def _clearing(self, dirfd: int, taken: bytes) -> Iterator[None]:
        """Clear the record at the end. After an error, keep it if a file may still have the name *taken*."""
        try:
            yield
        except OSError:
            if self._records is not None and self._may_exist(dirfd, taken):
                self._records.keep()
            raise
        if self._records is not None:
            self._records.clear()

    def _may_exist(self, dirfd: int, name: bytes) -> bool:
        try:
            self._tree.stat(dirfd, name)
        except OSError as error:
            return error.errno != errno.ENOENT
        return True

    def replace(
        self, old_dir: int, old: bytes, moved: Stat, new_dir: int, new: bytes, replaced: Stat
    ) -> bool:
        """Rename the file *moved* over *replaced*. Return False if another file had one of the names.

        After False or an OSError each file has its name as before, unless the store fails again. The moved
        file first gets a temporary name. Then the two files exchange their names. So the replaced file never
        has the name *old*. Otherwise apps that must not see the replaced file could see it under this name.
        """
        taken = aside()
        if self._records is not None:
            self._records.write_replacement(old_dir, old, taken, moved, new_dir, new, replaced)
        with self._clearing(old_dir, taken):
            return self._replace_by(taken, old_dir, old, moved, new_dir, new, replaced)

    def move(self, old_dir: int, old: bytes, moved: Stat, new_dir: int, new: bytes) -> bool:
        """Give the object *moved* a name that no object has. Return False if another object had the name
        *old*; that object keeps the name.

        After an OSError all names are as before, unless the store fails again. FileExistsError: *new* is in
        use. The object first gets a temporary name. Otherwise another object, which apps must not find at
        the new name, could have this name until it is moved back.
        """
        taken = aside()
        if self._records is not None:
            self._records.write(old_dir, old, taken)
        with self._clearing(old_dir, taken):
            return self._move_by(taken, old_dir, old, moved, new_dir, new, RENAME_NOREPLACE)

    def _move_by(
        self, taken: bytes, old_dir: int, old: bytes, moved: Stat, new_dir: int, new: bytes, flag: int
    ) -> bool:
        self._tree.rename2(old_dir, old, old_dir, taken, RENAME_NOREPLACE)
        try:
            is_moved = self._tree.stat(old_dir, taken).same_inode(moved)
            if is_moved:
                self._tree.rename2(old_dir, taken, new_dir, new, flag)
        except OSError:
            self.move_back(old_dir, taken, old_dir, old)
            raise
        if not is_moved:
            self.move_back(old_dir, taken, old_dir, old)
        return is_moved

    def _replace_by(
        self, taken: bytes, old_dir: int, old: bytes, moved: Stat, new_dir: int, new: bytes, replaced: Stat
    ) -> bool:
        if not self._move_by(taken, old_dir, old, moved, new_dir, new, RENAME_EXCHANGE):
            return False
        try:
            if self._tree.stat(old_dir, taken).same_inode(replaced):
                self._tree.unlink(old_dir, taken)
                return True
        except OSError:
            try:
                self._undo_replace(old_dir, old, moved, new_dir, new, taken)
            except FileNotFoundError:
                pass
            except OSError as error:
                self._tell(taken, old, error)
            raise
        self._undo_replace(old_dir, old, moved, new_dir, new, taken)
        return False

    def _undo_replace(
        self, old_dir: int, old: bytes, moved: Stat, new_dir: int, new: bytes, taken: bytes
    ) -> None:
        """Undo the exchange of the file *moved* and a third file: each of the two gets its name back."""
        try:
            self._tree.rename2(old_dir, taken, new_dir, new, RENAME_EXCHANGE)
        except FileNotFoundError:  # another program has removed the moved file
            with contextlib.suppress(FileExistsError):
                self._tree.rename2(old_dir, taken, new_dir, new, RENAME_NOREPLACE)
            return
        if self._tree.stat(old_dir, taken).same_inode(moved):
            self.move_back(old_dir, taken, old_dir, old)
            return
        # Another program has replaced the moved file by a third one, which must keep the new name.
        self._tree.rename2(old_dir, taken, new_dir, new, RENAME_EXCHANGE)
        self._tell(taken, new, OSError(errno.EEXIST, os.strerror(errno.EEXIST)))

    def would_copy(self, dirfd: int, stat: Stat) -> bool:
        """Return True if a rename may copy all bytes of a large file: an overlay copies from lower layers.

        All requests would wait for the end of the copying. A removal copies nothing.
        """
        return stat.size >= _LARGE and libc.file_system_type(dirfd) == _OVERLAY

    def _take(self, dirfd: int, name: bytes, taken: bytes) -> None:
        try:
            self._tree.rename2(dirfd, name, dirfd, taken, RENAME_NOREPLACE)
        except OSError as error:
            if not knows_no_flags(error):
                raise
            self._tree.rename2(dirfd, name, dirfd, taken)

    def _rename_back(self, dirfd: int, name: bytes, old_dir: int, old: bytes) -> None:
        """Give a file its old name back, and replace no other file."""
        try:
            self._tree.rename2(dirfd, name, old_dir, old, RENAME_NOREPLACE)
        except OSError as error:
            if not (knows_no_flags(error) and is_aside(name)):
                raise
            self._link_back(dirfd, name, old_dir, old)

    def _link_back(self, dirfd: int, name: bytes, old_dir: int, old: bytes) -> None:
        fd = self._tree.open_path(dirfd, name)
        try:
            self._tree.link(fd, old_dir, old)
        finally:
            os.close(fd)
        self._tree.unlink(dirfd, name)

    def _finish(self, move: Move) -> bool:
        """Undo the removal or rename that a killed daemon has begun (*move*), finish or undo its replacement,
        or remove the object that it was making. Return False to try again later.
        """
        if not is_aside(move.taken):
            return True
        path = b"/".join((b"", *filter(None, (move.directory, move.name))))
        try:
            self._check_fuse(move.directory, move.to_directory)
            with contextlib.ExitStack() as stack:
                old_dir = self._opened(stack, move.directory)
                try:
                    aside_now = self._tree.stat(old_dir, move.taken)
                except FileNotFoundError:
                    return True
                if not move.name:
                    self.new.remove(old_dir, move.taken)
                    return True
                if move.to_name:
                    new_dir = self._opened(stack, move.to_directory)
                    is_back = self._finish_replacement(move, aside_now, old_dir, new_dir)
                else:
                    is_back = self._give_back(old_dir, move)
        except OSError as error:
            self._warn(f"{_UNFINISHED} {os.fsdecode(move.taken)} ({error.strerror})", path)
            return error.errno in _GONE
        if is_back:
            self._warn(_FINISHED, path)
        return True

    def _check_fuse(self, *paths: bytes) -> None:
        """Raise OSError if a directory is in a FUSE file system within the store.

        If the daemon of that file system hangs, the start of this daemon would hang, too.
        """
        root = os.readlink(libc.proc_fd(self._tree.root_fd)).rstrip(b"/") + b"/"
        for mount in fuse_mounts_below(root.rstrip(b"/") or b"/"):
            if any((root + path + b"/").startswith(mount + b"/") for path in paths):
                raise OSError(errno.EBUSY, "in another FUSE file system, which may not answer", mount)

    def _opened(self, stack: contextlib.ExitStack, path: bytes) -> int:
        """Return a descriptor of the directory *path* of the store. *stack* closes all except the root's."""
        if not path:
            return self._tree.root_fd
        fd = self._tree.open_below(self._tree.root_fd, path.split(b"/"))
        stack.callback(os.close, fd)
        return fd

    def _finish_replacement(self, move: Move, aside_now: Stat, old_dir: int, new_dir: int) -> bool:
        """Finish a replacement if the two files were exchanged, otherwise undo it.

        Return False if the file under the temporary name cannot be identified, or if another file has its old
        name. Raises OSError.
        """
        try:
            there = self._tree.stat(new_dir, move.to_name)
        except FileNotFoundError:
            there = None
        at_new = b"" if there is None else mark(there)
        is_replaced = mark(aside_now) == move.replaced
        if mark(aside_now) == move.moved or (at_new == move.replaced and not is_replaced):  # not exchanged
            return self._give_back(old_dir, move)
        if is_replaced and at_new != move.replaced:
            self._tree.unlink(old_dir, move.taken)
        elif there is not None and at_new == move.moved:
            self._undo_replace(old_dir, move.name, there, new_dir, move.to_name, move.taken)
        else:
            # The temporary name may be another link of the file that now has the new name. The file does not
            # get the old name back, because some apps must not read the file by the old name. The temporary
            # name is not removed either: it is the file's last name if the new name is removed.
            self._tell(move.taken, move.name, OSError(errno.ESTALE, os.strerror(errno.ESTALE)))
            return False
        return True

    def _give_back(self, dirfd: int, move: Move) -> bool:
        """Give the old name back to a file that a killed daemon has left under a temporary name.

        Return False if another file has the old name by now: both files then keep their names. Raises
        OSError.
        """
        try:
            self._rename_back(dirfd, move.taken, dirfd, move.name)
        except FileNotFoundError:
            return True
        except FileExistsError as error:
            self._tell(move.taken, move.name, error)
            return False
        return True

    def has_got(self, fd: int, target: Stat, dirfd: int, name: bytes) -> bool:
        """Return True if a rename has given this name to the file with the attributes *target*.

        Also return True if another program has since removed or replaced the moved file. Otherwise the
        caller would think that the rename has moved the later file, and would give that file the old name.
        fd: an O_PATH descriptor that was opened by the old name. The kernel reports the last name of a
        removed file.
        """
        try:
            return self._tree.stat(dirfd, name).same_inode(target) or self._lost(fd, dirfd, name)
        except FileNotFoundError:
            return self._lost(fd, dirfd, name)

    @staticmethod
    def _lost(fd: int, dirfd: int, name: bytes) -> bool:
        """Return True if the file behind *fd* has no name any more, and *name* was its last name."""
        try:
            last, directory = (os.readlink(libc.proc_fd(one)) for one in (fd, dirfd))
        except OSError:  # such a path is too long for the kernel
            return False
        return last == directory.rstrip(b"/") + b"/" + name + b" (deleted)"

    def move_back(self, dirfd: int, name: bytes, old_dir: int, old: bytes, *, swapped: bool = False) -> bool:
        """Give the old name back to a file that was moved by mistake.

        Return True if the file has the old name again, or is gone. swapped: True if the two names were
        exchanged. If a third file has the old name by now, the moved file gets a temporary name in the
        directory of the old name. No app sees this temporary name.
        """
        try:
            if swapped:
                with contextlib.suppress(FileNotFoundError):  # the old name is free again
                    self._tree.rename2(dirfd, name, old_dir, old, RENAME_EXCHANGE)
                    return True
            self._rename_back(dirfd, name, old_dir, old)
        except FileNotFoundError:
            return True
        except OSError as error:
            taken = name
            if not is_aside(name):
                taken = aside()
                self._tree.rename2(dirfd, name, old_dir, taken, RENAME_NOREPLACE)
            self._tell(taken, old, error)
            return False
        return True

    def _tell(self, taken: bytes, name: bytes, error: OSError) -> None:
        """Log that the file *name* stays under the name *taken*."""
        self._warn(
            "policyfs moved this file aside and could not rename the file back; the file is now called"
            f" {os.fsdecode(taken)} ({error.strerror})",
            name,
        )

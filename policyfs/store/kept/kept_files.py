"""Keeping: the store's objects and bytes go to the kept directories before a change would lose them.

Each function writes its record first, so that a daemon that is killed leaves the object or the kept one: a
record whose kept object is missing tells of a change that was not made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from policyfs.linux.libc import link_fd, proc_fd
from policyfs.linux.statx import Stat
from policyfs.store import ranges
from policyfs.store.kept.bins import Bin, Bins, new_name, part
from policyfs.store.kept.record import Record
from policyfs.store.kept.room import NoRoomError, Room
from policyfs.store.tree import Tree

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


class UnkeptError(Exception):
    """The error if what a change would lose cannot be kept. The message is the reason."""


class KeptFiles:
    """The objects that one machine's daemons keep in a store. On the event loop, except copy()."""

    def __init__(self, tree: Tree, bins: Bins, room: Room, *, most_bytes: int) -> None:
        """most_bytes: of a file that is copied, where blocks cannot be shared."""
        self._tree = tree
        self._most_bytes = most_bytes
        self.bins = bins
        self.room = room

    def tend(self) -> None:
        """Remove what is too old or has no room. Takes long: call it on a thread."""
        bins = Bins(self._tree.making_fd, self.bins.machine)
        try:
            with contextlib.suppress(OSError):  # the next time, or a command, tells
                self.room.tend(bins)
        finally:
            bins.close()

    def note(self, app: str, record: Record) -> None:
        """Record a change that loses no bytes. Raise UnkeptError."""
        try:
            self.room.check(app, 0)
            self.room.took(app, self.bins.of(app, record.until_s).append(record), files=0)
        except OSError as error:
            raise UnkeptError(_reason(error)) from error
        except NoRoomError as error:
            raise UnkeptError(str(error)) from error

    def take(self, app: str, record: Record, dirfd: int, name: bytes, stat: Stat) -> None:
        """Move an object out of its directory instead of removing it. Raise UnkeptError.

        INVARIANT: the caller has locked the name, which leads to the object with these attributes."""
        self._keep(app, record, stat, lambda fd, kept: self._tree.rename_to_free(dirfd, name, fd, kept))

    def hold(self, app: str, record: Record, dirfd: int, name: bytes, stat: Stat) -> None:
        """Give an object that a rename is about to replace one more name. Raise UnkeptError."""

        def link(fd: int, kept: bytes) -> None:
            at = self._tree.open_path(dirfd, name)
            try:
                link_fd(at, fd, kept)
            finally:
                os.close(at)

        self._keep(app, record, stat, link)

    def _keep(self, app: str, record: Record, stat: Stat, move: Callable[[int, bytes], None]) -> None:
        size = stat.blocks * 512
        try:
            self.room.check(app, size)
            where = self.bins.of(app, record.until_s)
            kept = new_name(record.time_ns)
            size += where.append(replace(record, kept=kept))
            move(where.fd, kept.encode())
        except OSError as error:
            raise UnkeptError(_reason(error)) from error
        except NoRoomError as error:
            raise UnkeptError(str(error)) from error
        self.room.took(app, size)

    def copy(self, app: str, record: Record, fd: int, stat: Stat) -> str:
        """Keep the present bytes of a file: shared blocks, or a copy. Return the kept file's name. May take
        long: call it on a thread. Raise UnkeptError.

        fd: open for reading. A file that is changed meanwhile is copied once more, then as it is."""
        reserved = 0
        try:
            self.room.check(app, stat.size, reserve=True)
            reserved = stat.size
            where = self.bins.of(app, record.until_s)
            kept = new_name(record.time_ns)
            target, named = _new_file(where, kept)
            try:
                self._fill(fd, target, where)
                line = where.append(replace(record, kept=kept))
                if named:
                    os.rename(part(kept), kept, src_dir_fd=where.fd, dst_dir_fd=where.fd)
                else:
                    link_fd(target, where.fd, kept.encode())
                self.room.took(app, os.fstat(target).st_blocks * 512 + line)
            except BaseException:
                if named:
                    with contextlib.suppress(OSError):
                        os.unlink(part(kept), dir_fd=where.fd)
                raise
            finally:
                os.close(target)
        except OSError as error:
            raise UnkeptError(_reason(error)) from error
        except NoRoomError as error:
            raise UnkeptError(str(error)) from error
        finally:
            self.room.took(app, -reserved, files=0)
        return kept

    def _fill(self, fd: int, target: int, where: Bin) -> None:
        own = os.open(proc_fd(fd), os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)  # reading changes no time
        try:
            before = self._tree.fstat(own)
            if ranges.share(own, target, before.size, where.fd):
                return
            if before.size > self._most_bytes:
                told = f"the file has more than {self._most_bytes} bytes (--keep-max-file)"
                raise OSError(errno.EFBIG, told)
            ranges.copy_all(own, target, before.size)
            after = self._tree.fstat(own)
            if (after.mtime_ns, after.size) != (before.mtime_ns, before.size):
                os.ftruncate(target, 0)
                ranges.copy_all(own, target, after.size)
            ranges.begin_to_write_out(target)
        finally:
            os.close(own)


def _new_file(where: Bin, kept: str) -> tuple[int, bool]:
    """Make a file. Return its descriptor, and True if it has a name already (part())."""
    try:
        return os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=where.fd), False
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    return os.open(part(kept), _NEW, 0o600, dir_fd=where.fd), True


def _reason(error: OSError) -> str:
    if error.errno == errno.EXDEV:
        return "the file is on another file system than the store's root"
    return error.strerror or str(error)


def until_of(age_s: int) -> int:
    """Return the time until which something is kept that is lost now, in seconds since 1970."""
    return int(time.time()) + age_s

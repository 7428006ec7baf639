"""Inter-daemon locks: serialise changes to one file between the daemons of this machine.

A checked write is safe only if the file still has the bytes that were checked. Within one daemon nothing
changes the file between the last check and the write, because there is no await between them. A latch is a
lock between daemons: while one daemon has the latch of a file, no other daemon of the same store (or of a
directory in the store) changes this file.

A latch is not a lock of the checked file, because apps and programs in the store use the locks of that file.
A latch is an OFD lock of one byte of a shared file in the directory of control sockets. If a daemon dies, the
kernel releases its latches. Only root can take a latch. A latch does not exclude daemons that have another
directory of control sockets, such as those of other machines that use the same network store.

In a second shared file, each daemon marks the files of which it has held bytes (written by an app, but not in
the store yet). Before a daemon renames one file over another file, it checks the marks of the moved file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final

from policyfs.linux.statx import Stat
from policyfs.store.locking.ofd import RDLCK, UNLCK, WRLCK, Asked, find_blocker, set_byte_lock

_BYTES: Final = (1 << 62) - 1
_LOCKED: Final = "another process has locked the file in which daemons mark files with held bytes"
_SPREAD: Final = 0x9E3779B97F4A7C15


class _SharedFile:
    """One daemon's locks of bytes in a file that all daemons share, *path*. A lock's number is its byte. The
    kernel releases all locks when the daemon ends."""

    __slots__ = ("_fd", "_held", "_in_store", "_kind", "_opened", "_path")

    def __init__(self, path: str, kind: int, *, in_store: bool = False) -> None:
        """kind: of all locks, RDLCK or WRLCK. in_store: True for a file in a store, which is never created
        (without the store, there is an empty directory), and opened again after an error: a server that was
        started anew knows no open files."""
        self._path, self._kind, self._in_store, self._fd = path, kind, in_store, -1
        self._opened: Callable[[int], object] = lambda _fd: None
        self._held: dict[int, int] = {}  # by number: how many times
        with contextlib.suppress(OSError):  # the first call that needs the file tries again
            self._open()

    def tell(self, opened: Callable[[int], object]) -> None:
        """Let *opened* get the file's descriptor now and whenever it is another one; -1: there is none."""
        self._opened = opened
        opened(self._fd)

    def _is_usable(self) -> bool:
        """Return False if the file must be opened, because root has removed it. If its directory is gone,
        too, no other daemon can open a new file, and the removed one is used."""
        if self._fd < 0 or self._in_store:
            return self._fd >= 0
        return os.fstat(self._fd).st_nlink > 0 or not os.path.isdir(os.path.dirname(self._path))

    def _open(self) -> bool:
        """Open the shared file, or a new one if root has removed it. Take the held locks in it, too. Return
        False if another daemon has one of them in the new file. Then the old file stays. Raises OSError."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags if self._in_store else flags | os.O_CREAT, 0o600)
        is_ours, old = False, fd
        try:
            is_ours = all(set_byte_lock(fd, at, self._kind) for at in self._held)
            if is_ours:
                old, self._fd = self._fd, fd
                self._opened(fd)
        finally:
            if old >= 0:
                os.close(old)
        return is_ours

    def _lock(self, at: int) -> bool:
        try:
            return (self._is_usable() or self._open()) and set_byte_lock(self._fd, at, self._kind)
        except OSError:
            if not self._in_store:
                raise
        self._drop()
        try:
            return self._open() and set_byte_lock(self._fd, at, self._kind)
        except FileNotFoundError:
            raise OSError(errno.EIO, "the store, or its marker, is not there any more") from None

    def _unlock(self, at: int) -> None:
        self._held.pop(at, None)
        if self._fd >= 0:
            try:
                set_byte_lock(self._fd, at, UNLCK)
            except OSError:
                if not self._in_store:
                    raise
                self._drop()

    def close(self) -> None:
        self._held.clear()
        self._drop()

    def _drop(self) -> None:
        fd, self._fd = self._fd, -1
        self._opened(-1)
        if fd >= 0:
            with contextlib.suppress(OSError):  # ENOTCONN: it was in a store whose server has ended
                os.close(fd)


class Latches(_SharedFile):
    """The latches that one daemon takes: locks in the file *path*, which is created if missing, unless it is
    in a store.

    INVARIANT: a latch does not exclude other tasks of the same daemon (fs/checked/change_lock.py excludes
    them). If a daemon takes a latch twice, the first give() releases the latch.
    """

    __slots__ = ()

    def __init__(self, path: str, *, in_store: bool = False) -> None:
        super().__init__(path, WRLCK, in_store=in_store)

    @staticmethod
    def number(fd: int) -> int:
        """Return the number of the latch (the lock between daemons) for the file behind *fd*."""
        status = os.fstat(fd)
        return _number(status.st_dev, status.st_ino)

    def take(self, fd: int) -> int | None:
        """Take the latch (the lock between daemons) of the file behind *fd*. Return the latch's number, or
        None if another daemon has the latch.

        Raises OSError if the shared file cannot be opened. The latches that were taken before then stay.
        """
        at = self.number(fd)
        return at if self.take_number(at) else None

    def take_number(self, at: int) -> bool:
        """Take the latch (the lock between daemons) with a number of at most 62 bits. Return False if another
        daemon has the latch. Raises OSError as take() does."""
        is_taken = self._lock(at)
        if is_taken:
            self._held[at] = 1
        return is_taken

    def give(self, at: int) -> None:
        """Release a latch (a lock between daemons). at: the number that take() returned. Does nothing after
        close()."""
        self._unlock(at)


class HeldFiles(_SharedFile):
    """The marks that a daemon sets for files with held bytes, in the shared file *path* (created if missing).

    A mark is a shared OFD lock of one byte, so several daemons can mark one file. No call waits for a mark.
    The marks of a daemon end with the daemon.
    """

    __slots__ = ()

    def __init__(self, path: str) -> None:
        super().__init__(path, RDLCK)

    def mark(self, fd: int) -> int:
        """Tell other daemons that this daemon has held bytes of the file behind *fd*. Return a number for
        unmark(). Each mark() needs one unmark().

        Raises OSError if the shared file cannot be opened or locked.
        """
        at = Latches.number(fd)
        if not self._lock(at):
            raise OSError(errno.ENOLCK, _LOCKED)
        self._held[at] = self._held.get(at, 0) + 1
        return at

    def unmark(self, at: int) -> None:
        """Undo one mark(). at: the number that mark() returned. Does nothing after close()."""
        left = self._held.get(at, 0) - 1
        if left > 0:
            self._held[at] = left
        elif left == 0:
            with contextlib.suppress(OSError):  # out of memory: the mark then ends with the daemon
                self._unlock(at)

    def is_held_elsewhere(self, stat: Stat) -> bool:
        """Return True if another daemon has marked this file with mark(): that daemon has held bytes of it.

        Takes two system calls. If root has removed the shared file, another daemon's marks stay in the
        removed file until that daemon's next mark(). So this call checks the removed shared file and the new
        one. Raises OSError if the new shared file cannot be opened.
        """
        at = _number(stat.dev, stat.ino)
        asked = Asked(at, at, WRLCK, 0)
        if self._fd >= 0 and find_blocker(self._fd, asked) is not None:
            return True
        if self._is_usable():
            return False
        if not self._open():
            raise OSError(errno.ENOLCK, _LOCKED)
        return find_blocker(self._fd, asked) is not None


def _number(dev: int, ino: int) -> int:
    return (dev * _SPREAD + ino) & _BYTES

"""The control files of FUSE connections (fs/fuse/control.c). A write to `abort` ends a mount.

By default these files belong to the uid that the mount admits. In an app mount, this is the app's uid. The
app could end its own mount, and then requests would not be recorded. So the daemon makes root the owner.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from policyfs.kernel import mount_api
from policyfs.linux.leases import writers_seen

_ABORT: Final = "abort"


class OpenedError(Exception):
    """Error: a process has opened a control file for writing before root became the owner."""


class ControlFiles:
    """The fusectl file system, through a private mount that has no path. The machine has one such file
    system, and keeps the owners of its files only while it is mounted somewhere. INVARIANT: this object stays
    open as long as the app must not reach the connection."""

    __slots__ = ("_mount_fd",)

    def __init__(self) -> None:
        """Mount fusectl without a path. Raises OSError: ENODEV if the kernel has no FUSE (fsopen(2))."""
        self._mount_fd = mount_api.detached("fusectl", (), 0)

    def take(self, conn_id: int) -> None:
        """Make root the owner of a connection's control files. Call this on the main thread.

        Raises OpenedError if a process has opened a file for writing before. This process could use its
        descriptor for as long as the connection exists, so the caller must end the connection. Raises OSError
        (EPERM without CAP_CHOWN).
        """
        directory = os.open(str(conn_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._mount_fd)
        try:
            names = os.listdir(directory)
            for name in names:
                os.chown(name, 0, 0, dir_fd=directory, follow_symlinks=False)
            os.fchown(directory, 0, 0)
            if any(_is_written(directory, name) for name in names):
                raise OpenedError
        finally:
            os.close(directory)

    def abort(self, conn_id: int) -> bool:
        """End a connection: all its requests fail. Return False if there is no such connection any more."""
        try:
            fd = self.open_abort(conn_id)
        except FileNotFoundError:
            return False
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)
        return True

    def open_abort(self, conn_id: int) -> int:
        """Open a connection's file `abort`. A write to it ends this connection, never a later one with its
        number. Raises OSError (ENOENT)."""
        return os.open(f"{conn_id}/{_ABORT}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._mount_fd)

    def close(self) -> None:
        """Close the mount. A second call does nothing."""
        fd, self._mount_fd = self._mount_fd, -1
        with suppress(OSError):
            if fd >= 0:
                os.close(fd)


def _is_written(directory: int, name: str) -> bool:
    """Return True if a process has the file open for writing, or is opening it (False: no leases)."""
    with suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            with writers_seen(fd) as written:
                return written()
        finally:
            os.close(fd)
    return False

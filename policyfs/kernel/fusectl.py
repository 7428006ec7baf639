"""The control files of FUSE connections (fs/fuse/control.c): writing to `abort` ends a mount.

The kernel gives them to the uid that a mount admits. In an app mount that is the app, which could
end its own mount, and with it the record of its requests. So the daemon takes these files over.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from policyfs.kernel import mount_api

_ABORT: Final = "abort"


class ControlFiles:
    """The fusectl file system, through a mount of our own that has no path.

    The machine has one such file system, and it keeps the owners of its files only while
    it is mounted somewhere. INVARIANT: open for as long as the connection must be out of the app's reach.
    """

    __slots__ = ("_mount_fd",)

    def __init__(self) -> None:
        """Raises OSError as fsopen(2): ENODEV where the kernel has no FUSE."""
        self._mount_fd = mount_api.detached("fusectl", (), 0)

    def take(self, conn_id: int) -> None:
        """Make root the owner of a connection's control files. Raises OSError (EPERM without CAP_CHOWN)."""
        directory = os.open(str(conn_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._mount_fd)
        try:
            for name in os.listdir(directory):
                os.chown(name, 0, 0, dir_fd=directory, follow_symlinks=False)
            os.fchown(directory, 0, 0)
        finally:
            os.close(directory)

    def abort(self, conn_id: int) -> bool:
        """End a connection: all its requests fail, and the mount is dead. False if it is gone."""
        flags = os.O_WRONLY | os.O_CLOEXEC
        try:
            fd = os.open(f"{conn_id}/{_ABORT}", flags, dir_fd=self._mount_fd)
        except FileNotFoundError:
            return False
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)
        return True

    def close(self) -> None:
        """Close the mount. A second call does nothing."""
        fd, self._mount_fd = self._mount_fd, -1
        with suppress(OSError):
            if fd >= 0:
                os.close(fd)

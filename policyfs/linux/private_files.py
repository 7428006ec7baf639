"""Files and directories that no other user can read or change, whatever the umask of the caller is."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from typing import Final

_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PARENT: Final = 0o755
_FOREIGN: Final = 0o027
"""Mode bits: others read or write the file, or a group writes it. (The owner may let a group read.)"""


def make_private(path: str | os.PathLike[str], mode: int = 0o700) -> None:
    """Make a directory with this mode, unless it exists, and missing parents that only their owner may
    change. Raises OSError.

    os.makedirs gives parents 0777 less the umask: with umask 0, every user could replace the directory.
    """
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    except FileNotFoundError:
        above = os.path.dirname(os.path.abspath(path))
        if above == os.path.abspath(path):
            raise
        make_private(above, _PARENT)
        with suppress(FileExistsError):  # another process made it meanwhile
            os.mkdir(path, mode)


def check_private(fd: int, path: str) -> None:
    """Raise PermissionError for an open file that another user may have made, to read or change its text."""
    info = os.fstat(fd)
    reason = ""
    if not stat.S_ISREG(info.st_mode):
        reason = "not a regular file"
    elif info.st_uid not in {0, os.geteuid()} or info.st_mode & _FOREIGN or info.st_nlink != 1:
        reason = "belongs to another user, others may read or change it, or it has two names: remove it"
    if reason:
        raise PermissionError(errno.EPERM, reason, path)


def append_lines(path: str, data: bytes) -> None:
    """Append whole lines to a file that only its owner can read, at a new line, and sync it. If the disk is
    full, the written part is taken back, unless another program has appended lines. Raises OSError."""
    fd = os.open(path, _APPEND, 0o600)
    try:
        check_private(fd, path)
        with suppress(OSError):  # another command may append, too
            fcntl.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data  # a crash cut the last line
        done = 0
        try:
            while done < len(data):
                done += os.write(fd, data[done:])
            os.fsync(fd)
        except OSError:
            with suppress(OSError):
                if os.fstat(fd).st_size == size + done:  # else another program has appended lines
                    os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)

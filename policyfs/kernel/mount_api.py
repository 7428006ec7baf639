"""The mount API of Linux 5.2 (fsopen, fsconfig, fsmount, move_mount).

With this API a process can create and examine a file system before any other process can reach it. See
fs/fsopen.c and include/uapi/linux/mount.h.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Final

from policyfs.linux.libc import LIBC, fail
from policyfs.linux.statx import cached_stat

# The same numbers on every architecture (asm-generic/unistd.h).
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_CLOEXEC: Final = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6  # FSCONFIG_*
_FROM_EMPTY_PATH: Final = 4  # MOVE_MOUNT_F_EMPTY_PATH
_TO_EMPTY_PATH: Final = 0x40  # MOVE_MOUNT_T_EMPTY_PATH

MOUNT_RDONLY: Final = 1
MOUNT_NOSUID: Final = 2
MOUNT_NODEV: Final = 4


def detached(fstype: str, options: Sequence[str | tuple[str, str]], attributes: int) -> int:
    """Create a file system that is mounted nowhere yet. Return the descriptor of its mount.

    options: flags, and (name, value) pairs. attributes: MOUNT_* bits. If the descriptor is closed before
    the mount is attached, the file system ends. Raises OSError: ENOSYS before Linux 5.2, EPERM without
    CAP_SYS_ADMIN, and errors of the file system.
    """
    context = _call(_FSOPEN, fstype.encode(), _CLOEXEC)
    try:
        for option in options:
            if isinstance(option, str):
                _call(_FSCONFIG, context, _SET_FLAG, option.encode(), None, 0)
            else:
                name, value = option
                _call(_FSCONFIG, context, _SET_STRING, name.encode(), os.fsencode(value), 0)
        _call(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, attributes)
    finally:
        os.close(context)


def procfs_instance() -> int:
    """Create an instance of procfs that no other process reaches (linux/procfs.py). Return its root. Raises
    OSError, for example if this process may mount nothing."""
    return detached("proc", (), MOUNT_NOSUID | MOUNT_NODEV)


def attach(mount_fd: int, place: str | int) -> None:
    """Attach a detached mount to a directory.

    place: the directory's descriptor, or an absolute path without symlinks. The kernel looks nothing up, so
    an automounter of the directory is not asked (fs/autofs/root.c, autofs_d_manage). Raises OSError, also for
    a symlink on the way.
    """
    target = _opened_without_links(place) if isinstance(place, str) else os.dup(place)
    try:
        _call(_MOVE_MOUNT, mount_fd, b"", target, b"", _FROM_EMPTY_PATH | _TO_EMPTY_PATH)
    finally:
        os.close(target)


def _opened_without_links(path: str) -> int:
    """Return an O_PATH descriptor of a directory. It is not asked to mount itself if it is an automount."""
    fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
    names = [name for name in path.split("/") if name]
    for number, name in enumerate(names, 1):
        only_directories = os.O_DIRECTORY if number < len(names) else 0
        try:
            inner = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | only_directories, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def device_minor(mount_fd: int) -> int:
    """Return the minor device number of a mount without sending a request to its file system."""
    return os.minor(cached_stat(mount_fd, b"").dev)


def _call(number: int, *arguments: object) -> int:
    result: int = LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise fail()
    return result

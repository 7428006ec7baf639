"""The mount API of Linux 5.2 (fsopen, fsconfig, fsmount, move_mount, open_tree), and mount_setattr of 5.12.

With this API a process can create and examine a file system before any other process can reach it. See
fs/fsopen.c and include/uapi/linux/mount.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Final

from policyfs.linux.libc import LIBC, fail
from policyfs.linux.statx import cached_stat

# The same numbers on every architecture (asm-generic/unistd.h).
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_CLOEXEC: Final = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6  # FSCONFIG_*
_FROM_EMPTY_PATH: Final = 4  # MOVE_MOUNT_F_EMPTY_PATH
_TO_EMPTY_PATH: Final = 0x40  # MOVE_MOUNT_T_EMPTY_PATH
_RECURSIVE: Final = 0x8000  # AT_RECURSIVE
_ALL_OF_IT: Final = 0x1000 | _RECURSIVE  # AT_EMPTY_PATH
_CLONE: Final = 1 | os.O_CLOEXEC | _ALL_OF_IT  # OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC
_ATTRIBUTES: Final = struct.Struct("=QQQQ")  # struct mount_attr: set, clear, propagation, user namespace
_ATIMES: Final = 0x70  # MOUNT_ATTR__ATIME
_PRIVATE, _SHARED = 1 << 18, 1 << 20  # MS_PRIVATE, MS_SHARED

MOUNT_RDONLY: Final = 1
MOUNT_NOSUID: Final = 2
MOUNT_NODEV: Final = 4
MOUNT_NOATIME: Final = 0x10


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


def detached_overlay() -> int:
    """Return a detached overlay of lower, upper and work in the working directory, whose marks
    are user.* attributes (Documentation/filesystems/overlayfs.rst). Raises OSError."""
    places = [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")]
    options: list[str | tuple[str, str]] = [*places, ("source", "policyfs"), "userxattr"]
    return detached("overlay", options, MOUNT_NOSUID | MOUNT_NODEV)


def unchangeable(directory: int) -> int:
    """Return the root (O_PATH) of a copy of the mounts at a directory and below it, through which no process
    changes a file or an access time, nor through what the kernel opens itself for passthrough.

    Other processes do not find the copy. It lacks what is mounted below later. In a user namespace the kernel
    keeps access times from being changed (MNT_LOCK_ATIME): these then stay as they are. Raises OSError."""
    copy = _call(_OPEN_TREE, directory, b"", _CLONE)
    try:
        for times, clear in ((MOUNT_NOATIME, _ATIMES), (0, 0)):
            try:
                _change(copy, MOUNT_RDONLY | times, clear)
                break
            except PermissionError as error:
                if not times or error.errno != errno.EPERM:
                    raise
    except BaseException:
        os.close(copy)
        raise
    return copy


def bind(directory: int, *, read_only: bool) -> int:
    """Return the descriptor of a detached mount of a directory. read_only: refuse all changes through it.
    What is mounted at either mount later is not mounted at the other. Raises OSError."""
    copy = _call(_OPEN_TREE, directory, b"", _CLONE & ~_RECURSIVE)
    try:
        _change(copy, MOUNT_RDONLY if read_only else 0, propagation=_PRIVATE)
        share(copy)
    except BaseException:
        os.close(copy)
        raise
    return copy


def share(mount_fd: int) -> None:
    """Let later mounts on a mount appear also on its binds in other mount namespaces. Raises OSError."""
    _change(mount_fd, propagation=_SHARED)


def keep_to_itself(place: str) -> None:
    """Let later mounts on the mount at a path appear nowhere else. Raises OSError."""
    mount = _opened_without_links(place)
    try:
        _change(mount, propagation=_PRIVATE)
    finally:
        os.close(mount)


def _change(mount_fd: int, to_set: int = 0, to_clear: int = 0, propagation: int = 0) -> None:
    attributes = _ATTRIBUTES.pack(to_set, to_clear, propagation, 0)
    _call(_MOUNT_SETATTR, mount_fd, b"", _ALL_OF_IT, attributes, ctypes.c_size_t(_ATTRIBUTES.size))


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

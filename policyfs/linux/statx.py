"""Attributes of store objects by descriptor, with birth time, from one system call (statx(2))."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from typing import Final, NamedTuple

from policyfs.domain import FileType
from policyfs.linux.libc import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_SYMLINK_NOFOLLOW,
    STATX,
    check_name,
    fail,
)

AT_STATX_DONT_SYNC: Final = 0x4000
_FORCE_SYNC: Final = 0x2000  # AT_STATX_FORCE_SYNC
_WANTED: Final = 0x0FFF  # STATX_BASIC_STATS | STATX_BTIME
_STATX_BTIME: Final = 0x0800
_KEPT: Final = [_STATX_BTIME]
"""The bits that count of what statx(2) tells: see ignore_birth_times()."""
_BUFFER: Final = ctypes.c_char * 256
_ATTRIBUTES: Final = struct.Struct("=8xQ")
_APPEND: Final = 0x20  # STATX_ATTR_APPEND

# struct statx (include/uapi/linux/stat.h): mask, blksize, attributes (skipped), nlink, uid, gid,
# mode, ino, size, blocks, attributes_mask (skipped), atime, btime, ctime, mtime as (s64, u32,
# padding), rdev_major, rdev_minor, dev_major, dev_minor.
_LAYOUT: Final = struct.Struct("=II8xIIIH2xQQQ8xqI4xqI4xqI4xqI4xIIII")
_FTYPES: Final = {
    stat.S_IFREG: FileType.REGULAR,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
}


class Stat(NamedTuple):
    """Attributes of one inode. Sizes in bytes, blocks of 512 bytes, times in ns since 1970. btime_ns: birth
    time; 0 if the file system keeps none. rdev: the number of a device, else 0."""

    ino: int
    dev: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    blksize: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
    rdev: int = 0

    @property
    def ftype(self) -> FileType:
        """The type: regular file, directory or symlink; SPECIAL for fifos, sockets and devices."""
        return _FTYPES.get(stat.S_IFMT(self.mode), FileType.SPECIAL)

    def same_inode(self, other: Stat) -> bool:
        """Return True if both are of one inode, not of a later one with the same number (btime_ns)."""
        return (self.dev, self.ino, self.btime_ns) == (other.dev, other.ino, other.btime_ns)


def ignore_birth_times() -> None:
    """Let this process take every inode for one without a birth time: a store changes them."""
    _KEPT[0] = 0


def statx(dirfd: int, name: bytes) -> Stat:
    """Return the attributes of *name* in the directory *dirfd* (no symlink is followed). Raises OSError:
    EINVAL if it is not a single name."""
    return _statx(dirfd, check_name(name), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)


def fstatx(fd: int) -> Stat:
    """Return the attributes of the object behind *fd*, O_PATH or not. Raises OSError of statx(2)."""
    return _statx(fd, b"", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)


def is_append_only(fd: int) -> bool:
    """Return True if a file can only grow, or a directory can lose no name (``chattr +a``). O_PATH is enough.
    Raises OSError of statx(2)."""
    buffer = _BUFFER()
    if STATX(fd, b"", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, buffer):
        raise fail(None)
    return bool(_ATTRIBUTES.unpack_from(buffer)[0] & _APPEND)


def fstatx_of_server(fd: int) -> Stat:
    """Return the attributes that the server of a FUSE or network store has now, not those that the kernel
    remembers. Raises OSError of statx(2)."""
    return _statx(fd, b"", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | _FORCE_SYNC)


def fstatx_of_new(fd: int) -> Stat:
    """Return the attributes of an object that was opened just now. If this fails, close *fd*. Raises OSError
    of statx(2): ESTALE, for example, if it was removed on a network store after the open."""
    try:
        return fstatx(fd)
    except OSError:
        os.close(fd)
        raise


def cached_device(path: str) -> str:
    """Return the device (``major:minor``) of a path, as cached_stat() does."""
    found = cached_stat(AT_FDCWD, os.fsencode(path))
    return f"{os.major(found.dev)}:{os.minor(found.dev)}"


def cached_stat(dirfd: int, name: bytes) -> Stat:
    """Return what the kernel knows of *name* (empty: of *dirfd* itself), at least device and inode number.

    INVARIANT: the mask of statx is empty. For any other mask, the kernel would ask a FUSE daemon, which may
    not serve yet, or refuse a process that is not the mount's user (fs/fuse/dir.c, fuse_getattr).
    """
    flags = AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | (0 if name else AT_EMPTY_PATH)
    return _statx(dirfd, name, flags, wanted=0)


def _statx(dirfd: int, name: bytes, flags: int, *, wanted: int = _WANTED) -> Stat:
    buffer = _BUFFER()
    if STATX(dirfd, name, flags, wanted, buffer):
        raise fail(name or None)
    (
        mask, blksize, nlink, uid, gid, mode, ino, size, blocks,
        a_s, a_ns, b_s, b_ns, c_s, c_ns, m_s, m_ns, r_major, r_minor, major, minor,
    ) = _LAYOUT.unpack_from(buffer)  # fmt: skip  # one line per group of the C struct
    return Stat(
        ino, os.makedev(major, minor), mode, nlink, uid, gid, size, blocks, blksize,
        a_s * 1_000_000_000 + a_ns, m_s * 1_000_000_000 + m_ns, c_s * 1_000_000_000 + c_ns,
        b_s * 1_000_000_000 + b_ns if mask & _KEPT[0] else 0, os.makedev(r_major, r_minor),
    )  # fmt: skip

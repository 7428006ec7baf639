"""System calls on byte ranges of a file: write, reserve, punch, zero, find holes, copy and share blocks.

Calls that need blocks use no blocks that the file system reserves for root (libc.NoReserve).

Offsets and lengths are in bytes. Each function calls one system call and raises a plain OSError with its
errno. If a function may take long, its docstring says so: call it on a worker thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

from policyfs.linux import libc

Buffer = bytes | memoryview

# include/uapi/linux/falloc.h
KEEP_SIZE: Final = 1
PUNCH_HOLE: Final = 2
ZERO_RANGE: Final = 16

_WRITE: Final = 2
"""SYNC_FILE_RANGE_WRITE, linux/fs.h."""
_WRITE_AND_WAIT: Final = 7
"""SYNC_FILE_RANGE_WAIT_BEFORE | WRITE | WAIT_AFTER, linux/fs.h."""

FICLONE: Final = 0x40049409  # linux/fs.h, _IOW(0x94, 9, int)
_CANNOT: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS})
"""Errors of FICLONE if files cannot share blocks, because of their file system, flags (NOCOW) or lengths."""
_ZEROS: Final = bytes(1 << 20)
_UNNAMED: Final = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC

_FS_IOC_GETFLAGS: Final = 0x80086601  # _IOR('f', 1, long); the result is an int
_FLAGS: Final = struct.Struct("=i4x")


def allocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2) with FALLOC_FL_* bits. May take long. EOPNOTSUPP if the store lacks the mode."""
    with libc.NoReserve():
        libc.fallocate(fd, mode, offset, length)


def write(fd: int, data: Buffer, offset: int, flags: int = 0) -> int:
    """Call pwritev2(2) with one buffer. Return the number of bytes written. flags: 0 or os.RWF_APPEND."""
    with libc.NoReserve():
        return os.pwritev(fd, [data], offset, flags)


def only_appends(fd: int) -> bool:
    """Return True if each write through *fd* goes to the file's end (O_APPEND). False without one (-1)."""
    return fd >= 0 and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)


def put_all(fd: int, data: Buffer, offset: int) -> None:
    """Write all of *data*, or raise OSError of the store."""
    view = memoryview(data)
    while view:
        done = write(fd, view, offset)
        view, offset = view[done:], offset + done


def seek(fd: int, offset: int, whence: int) -> int:
    """Return the offset of the next data (os.SEEK_DATA) or hole (os.SEEK_HOLE). ENXIO beyond the end."""
    return os.lseek(fd, offset, whence)


def data_ranges(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges [start, end) of a file that are not holes. Reads of all other bytes give zeros. On a
    store without SEEK_DATA the kernel says that there are no holes. May take long."""
    while start < end:
        try:
            start = seek(fd, start, os.SEEK_DATA)
            stop = min(end, seek(fd, start, os.SEEK_HOLE)) if start < end else end
        except OSError as error:
            if error.errno != errno.ENXIO:  # no data up to the file's end
                raise
            return
        if start < stop:
            yield start, stop
        start = stop


def zero(fd: int, start: int, end: int) -> None:
    """Make a range of a file read as zeros, as a hole if the store can have holes. May take long. The file
    keeps its length. Raises OSError of the store."""
    try:
        allocate(fd, PUNCH_HOLE | KEEP_SIZE, start, end - start)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        for at in range(start, end, len(_ZEROS)):
            put_all(fd, memoryview(_ZEROS)[: end - at], at)


def copy_all(source: int, target: int, size: int) -> None:
    """Copy the first *size* bytes of a file, or all if there are fewer, into an empty file. Holes stay holes.
    May take long."""
    for start, end in data_ranges(source, 0, size):
        at = start
        while at < end and (data := os.pread(source, min(len(_ZEROS), end - at), at)):
            put_all(target, data, at)
            at += len(data)
    os.ftruncate(target, min(size, os.fstat(source).st_size))


def copy(source: int, source_at: int, target: int, target_at: int, length: int) -> int:
    """Copy with copy_file_range(2), which shares blocks if the store can. Return the number of bytes copied.
    EXDEV if the two files are on different file systems. May take long."""
    with libc.NoReserve():
        return os.copy_file_range(source, target, length, source_at, target_at)


def write_out(fd: int) -> None:
    """Write a file's bytes to the disk, and wait. The metadata with the position of the bytes is not written.

    May take long. Unlike fsync(2), the call does not hold the file's lock in the kernel meanwhile (fs/sync.c,
    ksys_sync_file_range). Raises OSError of the disk.
    """
    libc.sync_file_range(fd, _WRITE_AND_WAIT)


def begin_to_write_out(fd: int) -> None:
    """Begin to write a file's bytes to the disk, and do not wait for the disk. Raises OSError."""
    libc.sync_file_range(fd, _WRITE)


def share(source: int, target: int, size: int, dirfd: int, begin: Callable[[], None] = lambda: None) -> bool:
    """Give the file *target* the bytes of *source*: both files then share their blocks. If *target* is longer
    than *source*, it keeps its length: the caller cuts it to *size*.

    Return False if the store cannot share blocks of these files; then nothing has changed. size: the size of
    *source* in bytes. dirfd: a directory of the same file system. The call needs no free space for the bytes.

    begin: called right before *target* changes. If an earlier step fails, *target* keeps its bytes. But the
    kernel replaces the blocks one extent after the other (xfs_reflink_remap_blocks, btrfs_clone). It stops
    between two extents if the disk has no room for the metadata, or if the process is killed. Then *target*
    begins with new bytes, and old bytes follow.

    The kernel first writes the bytes of both files to the disk. This may take long, and the kernel holds the
    locks of both files during this time. So first call write_out().
    """
    now = os.fstat(target)
    try:
        if now.st_size <= size:
            begin()
            with libc.NoReserve():
                fcntl.ioctl(target, FICLONE, source)
            return True
        # In the middle of a longer file, only whole blocks can be shared.
        whole = os.open(b".", _UNNAMED, 0o600, dir_fd=dirfd)
        try:
            with libc.NoReserve():
                fcntl.ioctl(whole, FICLONE, source)
                os.ftruncate(whole, min(-(-size // now.st_blksize) * now.st_blksize, now.st_size))
                begin()
                fcntl.ioctl(target, FICLONE, whole)
        finally:
            os.close(whole)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def inode_flags(fd: int) -> int:
    """Return the FS_*_FL bits (immutable, append-only, ...). ENOTTY or EOPNOTSUPP if the store has none."""
    answer: bytes = fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(_FLAGS.size))
    flags: int = _FLAGS.unpack(answer)[0]
    return flags & 0xFFFFFFFF

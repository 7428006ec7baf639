"""The bodies of the requests that operations.py takes, and of their replies.

The structures are those of the kernel's include/uapi/linux/fuse.h (7.45), with their names. Offsets and sizes
are in bytes. A body that is too short raises struct.error; the kernel sends no such body.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final, NamedTuple

from policyfs.kernel.bridge import pyfuse3
from policyfs.kernel.operations import Request
from policyfs.kernel.protocol import Opcode

_FALLOCATE: Final = struct.Struct("=QQQI")
_LSEEK: Final = struct.Struct("=QQI")
_COPY: Final = struct.Struct("=QQQQQQQ")
_IOCTL: Final = struct.Struct("=QIIQII")
_LOCK: Final = struct.Struct("=QQQQIIII")
_FSYNC: Final = struct.Struct("=QI4x")
_READ: Final = struct.Struct("=QQI")
_WRITE: Final = struct.Struct("=QQI")
_GETXATTR: Final = struct.Struct("=I4x")

_OFFSET_REPLY: Final = struct.Struct("=Q")
_WRITE_REPLY: Final = struct.Struct("=II")
_IOCTL_REPLY: Final = struct.Struct("=iIII")
_DIRENT: Final = struct.Struct("=QQII")
_GETXATTR_REPLY: Final = struct.Struct("=I4x")
_LOCK_REPLY: Final = struct.Struct("=QQII")
_STATX_REPLY: Final = struct.Struct("=QII16x")
_STATX: Final = struct.Struct("=IIQIIIHxxQQQQ" + "qIxxxx" * 4 + "IIII112x")

_FUSE_LK_FLOCK: Final = 1 << 0
_FUSE_FSYNC_FDATASYNC: Final = 1 << 0
_STATX_BASIC_STATS: Final = 0x7FF  # include/uapi/linux/stat.h
_STATX_BTIME: Final = 0x800
_S: Final = 1_000_000_000


class Fallocate(NamedTuple):
    """A request for fallocate(2). mode: FALLOC_FL_* bits."""

    fh: int
    offset: int
    length: int
    mode: int


class Seek(NamedTuple):
    """A request for lseek(2) with SEEK_DATA or SEEK_HOLE. (The kernel handles the other kinds itself.)"""

    fh: int
    offset: int
    whence: int


class CopyRange(NamedTuple):
    """A request for copy_file_range(2), from the request's node to nodeid_out. flags: 0 so far."""

    fh_in: int
    offset_in: int
    nodeid_out: int
    fh_out: int
    offset_out: int
    length: int
    flags: int


class Ioctl(NamedTuple):
    """A request for ioctl(2). in_size: of the input, which follows this struct. out_size: of the largest
    reply."""

    fh: int
    flags: int
    command: int
    argument: int
    in_size: int
    out_size: int


class Lock(NamedTuple):
    """A request for a lock by fcntl(2) or flock(2). owner: the kernel's lock owner. kind: fcntl.F_RDLCK,
    F_WRLCK or F_UNLCK. start, end: first and last byte (2^63 - 1: to the end of the file). sleep: True to
    wait for the lock."""

    fh: int
    owner: int
    start: int
    end: int
    kind: int
    pid: int
    flock: bool
    sleep: bool


class Fsync(NamedTuple):
    """A request for fsync(2) of a file or a directory. datasync: True for fdatasync(2)."""

    fh: int
    datasync: bool


class ReadDirectory(NamedTuple):
    """A request for getdents(2). start: the position after the last entry that was read. size: of the largest
    reply."""

    fh: int
    start: int
    size: int


class GetXattr(NamedTuple):
    """A request for getxattr(2). size: of the caller's buffer; 0 to learn the size of the value."""

    size: int
    name: bytes


def read_directory(request: Request) -> ReadDirectory:
    """Parse READDIR."""
    return ReadDirectory._make(_READ.unpack_from(request.body))


def getxattr(request: Request) -> GetXattr:
    """Parse GETXATTR."""
    (size,) = _GETXATTR.unpack_from(request.body)
    return GetXattr(size, request.body[_GETXATTR.size :].split(b"\0", 1)[0])


def fsync(request: Request) -> Fsync:
    """Parse FSYNC and FSYNCDIR."""
    fh, flags = _FSYNC.unpack_from(request.body)
    return Fsync(fh, bool(flags & _FUSE_FSYNC_FDATASYNC))


def write_range(request: Request) -> tuple[int, int]:
    """Return the offset and the length of a WRITE. The request may lack its data (bridge.RawRequest)."""
    _, offset, length = _WRITE.unpack_from(request.body)
    return offset, length


def fallocate(request: Request) -> Fallocate:
    """Parse FALLOCATE."""
    return Fallocate._make(_FALLOCATE.unpack_from(request.body))


def seek(request: Request) -> Seek:
    """Parse LSEEK. A negative offset stays negative."""
    fh, offset, whence = _LSEEK.unpack_from(request.body)
    return Seek(fh, offset - (1 << 64) if offset >> 63 else offset, whence)


def copy_range(request: Request) -> CopyRange:
    """Parse COPY_FILE_RANGE and COPY_FILE_RANGE_64."""
    return CopyRange._make(_COPY.unpack_from(request.body))


def ioctl(request: Request) -> Ioctl:
    """Parse IOCTL."""
    return Ioctl._make(_IOCTL.unpack_from(request.body))


def lock(request: Request) -> Lock:
    """Parse GETLK, SETLK and SETLKW."""
    fh, owner, start, end, kind, pid, flags, _ = _LOCK.unpack_from(request.body)
    return Lock(
        fh, owner, start, end, kind, pid,
        flock=bool(flags & _FUSE_LK_FLOCK), sleep=request.opcode is Opcode.SETLKW,
    )  # fmt: skip


class DirentBuffer:
    """The reply to READDIR: one entry after the other, each at a multiple of 8 bytes."""

    def __init__(self, size: int) -> None:
        """size: the largest reply that the kernel takes, in bytes."""
        self._parts: list[bytes] = []
        self._left = size

    def add(self, name: bytes, ino: int, kind: int, position: int) -> bool:
        """Add an entry. Return False if it does not fit. kind: DT_* of readdir(3). position: the offset of
        the entry after this one, which the next request passes."""
        head = _DIRENT.pack(ino, position, len(name), kind)
        padding = -(len(head) + len(name)) % 8
        self._left -= len(head) + len(name) + padding
        if self._left < 0:
            return False
        self._parts += (head, name, bytes(padding))
        return True

    def data(self) -> bytes:
        """Return the body of the reply."""
        return b"".join(self._parts)


def getxattr_reply(asked: GetXattr, value: bytes) -> bytes:
    """Return the reply to GETXATTR: the value, or its size. Raises OSError (ERANGE) for a small buffer."""
    if asked.size == 0:
        return _GETXATTR_REPLY.pack(len(value))
    if len(value) > asked.size:
        raise OSError(errno.ERANGE, "the value is larger than the caller's buffer")
    return value


def offset_reply(offset: int) -> bytes:
    """Return the reply to LSEEK."""
    return _OFFSET_REPLY.pack(offset)


def copied_reply(request: Request, count: int) -> bytes:
    """Return the reply to COPY_FILE_RANGE (at most 2^32 - 1 bytes) or COPY_FILE_RANGE_64."""
    if request.opcode is Opcode.COPY_FILE_RANGE_64:
        return _OFFSET_REPLY.pack(count)
    return _WRITE_REPLY.pack(count, 0)


def ioctl_reply(data: bytes) -> bytes:
    """Return the reply to IOCTL: result 0, and the data for the caller's argument."""
    return _IOCTL_REPLY.pack(0, 0, 0, 0) + data


def lock_reply(start: int, end: int, kind: int, pid: int) -> bytes:
    """Return the reply to GETLK: the conflicting lock, or F_UNLCK. (SETLK and SETLKW get an empty reply.)"""
    return _LOCK_REPLY.pack(start, end, kind, pid)


def statx_reply(entry: pyfuse3.EntryAttributes, btime_ns: int) -> bytes:
    """Return the reply to STATX: the attributes of GETATTR, and the birth time (0: not known). An entry has a
    device's number in st_blocks, as in every reply (_interposition.c, place_ino)."""
    device = entry.st_blocks if stat.S_IFMT(entry.st_mode) in {stat.S_IFCHR, stat.S_IFBLK} else 0
    seconds, nanoseconds = _split(entry.attr_timeout)
    times: list[int] = []
    for ns in (entry.st_atime_ns, btime_ns, entry.st_ctime_ns, entry.st_mtime_ns):
        times += (ns // _S, ns % _S)
    return _STATX_REPLY.pack(seconds, nanoseconds, 0) + _STATX.pack(
        _STATX_BASIC_STATS | (_STATX_BTIME if btime_ns else 0), entry.st_blksize, 0,
        entry.st_nlink, entry.st_uid, entry.st_gid, entry.st_mode,
        entry.st_rdev or entry.st_ino, entry.st_size, 0 if device else entry.st_blocks, 0, *times,
        os.major(device), os.minor(device), 0, 0,
    )  # fmt: skip


def _split(timeout_s: float) -> tuple[int, int]:
    whole = max(0, min(int(timeout_s), (1 << 31) - 1))
    return whole, max(0, int((timeout_s - whole) * 1e9)) if timeout_s < (1 << 31) - 1 else 0

"""Numbers of the FUSE wire protocol, as in the kernel's include/uapi/linux/fuse.h (7.45)."""

from __future__ import annotations

import enum
import errno
from typing import Final

_MAX_ERRNO: Final = 511
"""The largest errno that the kernel takes in a reply (fs/fuse/dev.c, fuse_dev_do_write)."""


def errno_of_reply(code: int | None) -> int:
    """Return the errno for a reply; EIO if the kernel refuses a reply with this number: the caller would wait
    for ever, unkillable. Such numbers come from stores: NFS has 512 and more (for example 524, ENOTSUPP)."""
    return code if code is not None and 0 < code <= _MAX_ERRNO else errno.EIO


class Opcode(enum.IntEnum):
    """The type of a request. OTHER stands for all types that the bridge does not count one by one."""

    OTHER = 0
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


class InitFlag(enum.IntFlag):
    """The flags of INIT. Flags from bit 32 on are in the second flag word of the reply."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    FLOCK_LOCKS = 1 << 10
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40


WANTED: Final = (
    InitFlag.ASYNC_READ
    | InitFlag.ATOMIC_O_TRUNC  # O_TRUNC comes with OPEN, so that it is carried out last
    | InitFlag.BIG_WRITES
    | InitFlag.DONT_MASK  # the daemon applies the umask: a default ACL overrides it
    | InitFlag.AUTO_INVAL_DATA
    | InitFlag.DO_READDIRPLUS
    | InitFlag.PARALLEL_DIROPS
    | InitFlag.MAX_PAGES
    | InitFlag.CACHE_SYMLINKS
    | InitFlag.HANDLE_KILLPRIV_V2  # else GETXATTR(security.capability) before every write
    | InitFlag.INIT_EXT
    | InitFlag.NO_EXPORT_SUPPORT  # no file handle may give access past a hidden directory
)
"""Flags that the daemon requests from every kernel. Left out: SETXATTR_EXT (libfuse 3.14 cannot parse its
requests), WRITEBACK_CACHE (excludes passthrough, and hides writes), ASYNC_DIO (one app's direct writes of a
file that hangs would fill the lanes, or the kernel's limit in the background). Flags for locks and
READDIRPLUS_AUTO: see operations.py."""

NO_FLAGS: Final = InitFlag(0)

MINOR_EXPIRE_ONLY: Final = 38
MINOR_INC_EPOCH: Final = 44
MINOR_PRUNE: Final = 45

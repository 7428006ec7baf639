"""The features of a store's file system: what a trial has shown (trial.py), and what only its type tells.

No trial can prove some features, for example that leases are reliable, or that inodes keep their numbers. For
these the type of the file system (such as ext4) counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.linux import libc
from policyfs.linux.statx import statx

# linux/magic.h, and the sources of the file systems that have no entry there.
NAMES: Final = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x2FC12FC1: "zfs",
    0x858458F6: "ramfs",
    0x3153464A: "jfs",
    0x3434: "nilfs2",
    0x4D44: "vfat",
    0x2011BAB0: "exfat",
    0x7366746E: "ntfs3",
    0x794C7630: "overlay",
    0x65735546: "fuse",
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x517B: "smb",
    0x01021997: "9p",
    0x00C36400: "ceph",
    0x9660: "iso9660",
    0x15013346: "udf",
    0x73717368: "squashfs",
    0xE0F5E1E2: "erofs",
    0x24051905: "ubifs",
    0x482B: "hfsplus",
}
LEASES_MEAN: Final = frozenset(
    {"ext4", "xfs", "btrfs", "tmpfs", "f2fs", "bcachefs", "ramfs", "jfs", "nilfs2", "vfat", "exfat", "ntfs3"}
)
"""File systems on which a lease proves that nobody writes: local ones, with one kernel and one inode for each
file. Overlays, FUSE and network stores grant leases that a writer below, or on another machine, does not
break. File systems that are not in this list may do the same."""
FOLDING: Final = frozenset({"vfat", "exfat", "ntfs3", "cifs", "smb2", "smb"})
_FLAGGED: Final = frozenset({"ext4", "f2fs", "tmpfs", "bcachefs"})
"""File systems on which single directories may have the casefold flag."""
REMOTE: Final = frozenset({"fuse", "nfs", "cifs", "smb2", "smb", "9p", "ceph"})
"""File systems for which another process or machine answers calls, perhaps late. File systems that are not in
NAMES count as remote, too: many of them are (ocfs2, gfs2, lustre, afs, vboxsf)."""
_RESERVING: Final = frozenset({"ext2", "ext3", "ext4", "f2fs", "ubifs"})
UNSTABLE_INODES: Final = frozenset({"vfat", "exfat", "fuse", "9p"})
TIMES_SILENT: Final = frozenset({"tmpfs", "ramfs", "vfat"})
"""File systems whose times do not show every write. tmpfs and ramfs have no writeback, and so do not notice
each page that a mapping makes dirty (mm/mmap.c, vma_wants_writenotify). vfat stores times in steps of 2 s."""

_FS_IOC_GETFLAGS: Final = 0x80086601
_FS_CASEFOLD_FL: Final = 0x40000000


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The features of a store. f_type: as in statfs(2). name: as in /proc/mounts (``fuse.sshfs``).

    reflink: FICLONE works. leases: a granted read lease proves that nobody writes. trusted_xattr, user_xattr:
    xattrs of this namespace can be set. casefold: a name is found in upper and in lower case, at least in the
    root (directory_folds checks other directories). fanotify: the file system can be watched. stable_inodes:
    an inode keeps its number when it leaves memory, so that records may refer to the number. checks_callers:
    the program or server that serves the store checks the rights of the user that calls (mergerfs, gocryptfs,
    NFS). So the daemon cannot make an object as the app: root makes it, and gives it to the app. root_as: the
    uid whose rights root has in the store, and which owns what root makes; 0 except for an NFS server with
    root_squash or all_squash, and for sshfs as another user. one_owner: the store gives each new file to
    root_as, whoever makes it.

    times_tell: after a writer has closed a file, mtime or ctime shows its
    writes. times_tell is False on file systems with coarse times, and on tmpfs. (On tmpfs a write through a
    mapping changes no time if the page was only read before.) remote: another process or machine may
    answer for the file system, and then any call may wait for that process or machine.

    tried: the trial could make names, so that what follows is known (False: the store was full or read-only).
    keeps: a new file has its bytes after its close. unnamed: a file of O_TMPFILE that got a name keeps it
    after its close. noreplace, exchange: renameat2(2) does what its flag says. hard_links: link(2) gives the
    same file a second name. birth_times: an inode has one, and keeps it. range_locks, file_locks: OFD locks
    and flock(2) exclude others. What is False is not used (trial.py, ROWS).
    """

    f_type: int
    name: str
    reflink: bool
    leases: bool
    trusted_xattr: bool
    user_xattr: bool
    casefold: bool
    read_only: bool
    fanotify: bool
    stable_inodes: bool
    checks_callers: bool = False
    root_as: int = 0
    one_owner: bool = False
    times_tell: bool = True
    remote: bool = False
    tried: bool = False
    keeps: bool = True
    unnamed: bool = False
    noreplace: bool = False
    exchange: bool = False
    hard_links: bool = False
    birth_times: bool = False
    range_locks: bool = False
    file_locks: bool = False

    @property
    def squashes_root(self) -> bool:
        """True if the store's server gives root the rights of another user, but makes files as their apps.
        The daemon, which is root, then opens only what this user may open (NFS with root_squash)."""
        return self.root_as != 0 and not self.one_owner

    @property
    def owners_in_database(self) -> bool:
        """True if owners are in a database of this machine: they cannot be on the files, which keep their
        inode numbers, and no other machine writes. (It would not know of a writer there, by whom a file loses
        its owner.) If False without trusted_xattr, no file has an owner."""
        return not self.trusted_xattr and self.stable_inodes and not self.remote

    def check(self, store: str) -> None:
        """Raise PolicyfsError if no mount of this store could keep its policy. store: the store's path."""
        if self.casefold:
            raise PolicyfsError(
                f"the store {store} ({self.name}) ignores the case of names, so a rule that denies"
                " /Private would not deny /private; put the files on a case-sensitive file system"
            )
        if not self.keeps:
            raise PolicyfsError(
                f"the store {store} ({self.name}) loses what is written: a new file did not have its bytes"
                " after its close; see to the program or server that serves it"
            )

    @property
    def delegates(self) -> bool:
        """True if the kernel grants leases under delegations of the store's server alone (NFS 4, since Linux
        5.14: fs/nfs/nfs4file.c). The server grants one while no machine has the file open for writing, and
        takes it back before one may. It need not grant any, so *leases* is False."""
        return self.name == "nfs4"

    @property
    def reserves(self) -> bool:
        """True if the file system reserves blocks for root (ext4's `mkfs -m`)."""
        return self.name in _RESERVING

    @property
    def tells_each(self) -> bool:
        """True if a write-back error is reported only to the open file that wrote, at its fsync or close.
        FUSE file systems can do this. Other file systems report the error to every open file of the inode."""
        return self.name.startswith("fuse")


def is_lasting(fd: int) -> bool:
    """Return True if *fd* is on a local file system of which a later process finds the same inodes by their
    numbers. Raises OSError."""
    kind = NAMES.get(libc.file_system_type(fd))
    return kind is not None and kind not in REMOTE | UNSTABLE_INODES


def leases_mean(fd: int) -> bool:
    """Return True if *fd* is on a file system on which a lease proves that nobody writes. Raises OSError.
    Unlike StoreFacts.leases, the answer is also right for a file system that is mounted within the store."""
    return NAMES.get(libc.file_system_type(fd)) in LEASES_MEAN


def times_are_silent(fd: int) -> bool:
    """Return True if *fd* is on a file system whose times do not show every write. Raises OSError."""
    return NAMES.get(libc.file_system_type(fd)) in TIMES_SILENT


def directory_folds_by_flag(dirfd: int) -> bool:
    """Return True if look-ups in this directory ignore upper and lower case.

    The answer comes from the file system's type or the directory's flags. Unlike directory_folds(), this
    function tries no name. So the call is quick enough for each directory of a lookup. *dirfd* may be an
    O_PATH descriptor. Raises OSError: EACCES if the flags cannot be read.
    """
    kind = NAMES.get(libc.file_system_type(dirfd))
    if kind in FOLDING or kind not in _FLAGGED:
        return kind in FOLDING
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        return casefold_flag(fd)
    finally:
        os.close(fd)


def casefold_flag(fd: int) -> bool:
    """Return True if a directory has the casefold flag (``chattr +F``). Not for O_PATH."""
    flags = bytearray(8)
    with contextlib.suppress(OSError):  # ENOTTY: a file system without flags
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, flags, True)
    return bool(int.from_bytes(flags[:4], "little") & _FS_CASEFOLD_FL)


def directory_folds(dirfd: int) -> bool:
    """Return True if this directory finds a name in upper and in lower case, whatever case the listing shows.

    Reads the casefold flag, which single directories of ext4, f2fs, tmpfs and bcachefs may have. Without the
    flag, the function tries a name that exists, and returns False if no name has letters. O_PATH is enough.
    """
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        return casefold_flag(fd) or _finds_swapped_case(fd)
    finally:
        os.close(fd)


def _finds_swapped_case(fd: int) -> bool:
    names = {os.fsencode(name) for name in os.listdir(fd)}
    for name in names:
        swapped = name.swapcase()
        if swapped != name and swapped not in names:
            try:
                same = statx(fd, swapped).ino == statx(fd, name).ino
                # FUSE may give each spelling an inode number. It may have been made meanwhile.
                return same or os.fsdecode(swapped) not in os.listdir(fd)
            except OSError:
                return False
    return False

"""The features of a store's file system, found by trials where possible.

No trial can prove some features, for example that leases are reliable. For these features the type of the
file system (such as ext4) counts, too. Trials use unnamed files (O_TMPFILE) and leave nothing behind. One
trial shows if the store finds a name in upper and in lower case. If no name in the store's root has letters,
this trial creates a new name for a moment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from dataclasses import dataclass
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.linux import libc
from policyfs.linux.mountinfo import mount_of_fd
from policyfs.linux.statx import is_append_only, statx
from policyfs.store.names.aside_names import aside
from policyfs.store.ranges import FICLONE
from policyfs.store.watch import Watch

# linux/magic.h, and the sources of the file systems that have no entry there.
_NAMES: Final = {
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
_LEASES_MEAN: Final = frozenset(
    {"ext4", "xfs", "btrfs", "tmpfs", "f2fs", "bcachefs", "ramfs", "jfs", "nilfs2", "vfat", "exfat", "ntfs3"}
)
"""File systems on which a lease proves that nobody writes: local ones, with one kernel and one inode for each
file. Overlays, FUSE and network stores grant leases that a writer below, or on another machine, does not
break. File systems that are not in this list may do the same."""
_FOLDING: Final = frozenset({"vfat", "exfat", "ntfs3", "cifs", "smb2", "smb"})
_FLAGGED: Final = frozenset({"ext4", "f2fs", "tmpfs", "bcachefs"})
"""File systems on which single directories may have the casefold flag."""
_REMOTE: Final = frozenset({"fuse", "nfs", "cifs", "smb2", "smb", "9p", "ceph"})
"""File systems for which another process or machine answers calls, perhaps late. File systems that are not in
_NAMES count as remote, too: many of them are (ocfs2, gfs2, lustre, afs, vboxsf)."""
_RESERVING: Final = frozenset({"ext2", "ext3", "ext4", "f2fs", "ubifs"})
_UNSTABLE_INODES: Final = frozenset({"vfat", "exfat", "fuse", "9p"})
_TIMES_SILENT: Final = frozenset({"tmpfs", "ramfs", "vfat"})
"""File systems whose times do not show every write. tmpfs and ramfs have no writeback, and so do not notice
each page that a mapping makes dirty (mm/mmap.c, vma_wants_writenotify). vfat stores times in steps of 2 s."""

_FS_IOC_GETFLAGS: Final = 0x80086601
_FS_CASEFOLD_FL: Final = 0x40000000
_SOMEBODY: Final = 65533
"""A user that makes a trial file. Not nobody (65534), whose rights root has on a server with root_squash."""
_PROBE_TRUSTED: Final = b"trusted.policyfs.probe"
_PROBE_USER: Final = b"user.policyfs.probe"


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

    @property
    def squashes_root(self) -> bool:
        """True if the store's server gives root the rights of another user, but makes files as their apps.
        The daemon, which is root, then opens only what this user may open (NFS with root_squash)."""
        return self.root_as != 0 and not self.one_owner

    def check(self, store: str) -> None:
        """Raise PolicyfsError if no mount of this store could keep its policy. store: the store's path."""
        if self.casefold:
            raise PolicyfsError(
                f"the store {store} ({self.name}) ignores the case of names, so a rule that denies"
                " /Private would not deny /private; put the files on a case-sensitive file system"
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


def probe(root_fd: int, seen_by: int = -1) -> StoreFacts:
    """Try the features of the file system of *root_fd* (a directory; O_PATH is enough). Raises OSError only
    if the root itself cannot be examined. seen_by: the same directory in another mount, by which to look: if
    that is read-only, this makes no name."""
    f_type = libc.file_system_type(root_fd)
    kind = _NAMES.get(f_type, f"{f_type:#x}")
    is_remote = kind in _REMOTE or f_type not in _NAMES
    mount = mount_of_fd(root_fd)
    seen_by = root_fd if seen_by < 0 else seen_by
    directory = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=seen_by)
    trial = _unnamed_file(root_fd)
    checks_callers, root_as, one_owner = _try_callers(directory) if is_remote else (False, 0, False)
    try:
        return StoreFacts(
            f_type=f_type,
            name=mount.fstype if mount is not None else kind,
            reflink=trial is not None and _clones(trial, root_fd),
            leases=kind in _LEASES_MEAN and (trial is None or _leases(trial)),
            trusted_xattr=_has_xattrs(directory if trial is None else trial, _PROBE_TRUSTED),
            user_xattr=_has_xattrs(directory if trial is None else trial, _PROBE_USER),
            casefold=kind in _FOLDING or directory_folds(directory) or _folds_new_name(directory),
            read_only=bool(os.fstatvfs(root_fd).f_flag & os.ST_RDONLY),
            fanotify=_can_watch(directory),
            stable_inodes=kind not in _UNSTABLE_INODES,
            checks_callers=checks_callers,
            root_as=root_as,
            one_owner=one_owner,
            times_tell=kind not in _TIMES_SILENT and (trial is None or _tells_mapped_store(trial)),
            remote=is_remote,
        )
    finally:
        if trial is not None:
            os.close(trial)
        os.close(directory)


def is_lasting(fd: int) -> bool:
    """Return True if *fd* is on a local file system of which a later process finds the same inodes by their
    numbers. Raises OSError."""
    kind = _NAMES.get(libc.file_system_type(fd))
    return kind is not None and kind not in _REMOTE | _UNSTABLE_INODES


def leases_mean(fd: int) -> bool:
    """Return True if *fd* is on a file system on which a lease proves that nobody writes. Raises OSError.
    Unlike StoreFacts.leases, the answer is also right for a file system that is mounted within the store."""
    return _NAMES.get(libc.file_system_type(fd)) in _LEASES_MEAN


def times_are_silent(fd: int) -> bool:
    """Return True if *fd* is on a file system whose times do not show every write. Raises OSError."""
    return _NAMES.get(libc.file_system_type(fd)) in _TIMES_SILENT


def directory_folds_by_flag(dirfd: int) -> bool:
    """Return True if look-ups in this directory ignore upper and lower case.

    The answer comes from the file system's type or the directory's flags. Unlike directory_folds(), this
    function tries no name. So the call is quick enough for each directory of a lookup. *dirfd* may be an
    O_PATH descriptor. Raises OSError: EACCES if the flags cannot be read.
    """
    kind = _NAMES.get(libc.file_system_type(dirfd))
    if kind in _FOLDING or kind not in _FLAGGED:
        return kind in _FOLDING
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        return _casefold_flag(fd)
    finally:
        os.close(fd)


def _casefold_flag(fd: int) -> bool:
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
        return _casefold_flag(fd) or _finds_swapped_case(fd)
    finally:
        os.close(fd)


def _finds_swapped_case(fd: int) -> bool:
    names = {os.fsencode(name) for name in os.listdir(fd)}
    for name in names:
        swapped = name.swapcase()
        if swapped != name and swapped not in names:
            try:
                return statx(fd, swapped).ino == statx(fd, name).ino
            except OSError:
                return False
    return False


def _folds_new_name(fd: int) -> bool:
    """True if a new name is found in upper and in lower case. False if an existing name has letters, or a new
    one could not be removed."""
    if is_append_only(fd) or any(name.swapcase() != name for name in map(os.fsencode, os.listdir(fd))):
        return False
    name = b".policyfs-probe-%d" % os.getpid()
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=fd))
    except OSError:
        return False  # read-only, or full: no program can create a name in another case either
    try:
        return _finds_swapped_case(fd)
    finally:
        os.unlink(name, dir_fd=fd)


def _try_callers(directory: int) -> tuple[bool, int, bool]:
    """Make a directory as root, and in it a file as another user whose thread has all capabilities. Return
    checks_callers, root_as and one_owner of StoreFacts.

    If root may not make a directory, or remove it, return the facts of a local store: nothing is known.
    """
    name = aside()
    if is_append_only(directory):
        return False, 0, False
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except OSError:
        return False, 0, False
    inner = -1
    try:
        inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        root_as = os.fstat(inner).st_uid
        try:
            with libc.Identity(_SOMEBODY, _SOMEBODY, 0):
                fd = os.open(b"x", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=inner)
        except (PermissionError, FileNotFoundError):
            return root_as == 0, root_as, False  # what another user than root makes cannot be given away
        made = os.fstat(fd).st_uid
        os.close(fd)
        os.unlink(b"x", dir_fd=inner)
        return False, root_as, made == root_as
    finally:
        if inner >= 0:
            os.close(inner)
        os.rmdir(name, dir_fd=directory)


def _unnamed_file(directory: int) -> int | None:
    flags = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(b".", flags, 0o600, dir_fd=directory)
    except OSError:
        return None


def _clones(trial: int, directory: int) -> bool:
    other = _unnamed_file(directory)
    if other is None:
        return False
    try:
        os.pwrite(trial, b"policyfs", 0)
        fcntl.ioctl(other, FICLONE, trial)
        return os.pread(other, 9, 0) == b"policyfs"
    except OSError:
        return False
    finally:
        os.close(other)


def _leases(trial: int) -> bool:
    """Return True if a lease is granted on the trial file, which only this descriptor has open."""
    try:
        fcntl.fcntl(trial, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(trial, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _tells_mapped_store(trial: int) -> bool:
    """Return True if a write through a mapping changes mtime, also on a page that was read before."""
    try:
        os.ftruncate(trial, mmap.PAGESIZE)
        os.utime(trial, ns=(0, 0))
        with mmap.mmap(trial, mmap.PAGESIZE) as page:
            page[0] = page[0] ^ 1
        return os.fstat(trial).st_mtime_ns != 0
    except OSError:
        return False


def _has_xattrs(fd: int, name: bytes) -> bool:
    """Return True if an xattr can be set and removed. On a read-only store: True if it can be looked up."""
    try:
        os.setxattr(fd, name, b"1")
        os.removexattr(fd, name)
    except OSError as error:
        if error.errno != errno.EROFS:
            return False
    else:
        return True
    try:
        os.getxattr(fd, name)
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


def _can_watch(directory: int) -> bool:
    try:
        Watch(directory).close()
    except OSError:
        return False
    return True

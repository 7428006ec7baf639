"""The store's tree: every operation on names, by a directory descriptor and one name.

Nothing here joins paths or follows a symlink. A name is looked up in exactly the directory behind the
descriptor. So no rename and no symlink in the store leads to another place. ``/proc/self/fd`` is used only
for an object that the daemon already has open. Every function calls one or a few system calls, and raises a
plain OSError with their errno. A name that is not a single path component gets EINVAL. Nothing here decides
on access: callers ask the policy before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Self

from policyfs.domain import FileType
from policyfs.linux import libc
from policyfs.linux.libc import TIME_NOW, Identity, Umask, check_name, join_names, proc_fd
from policyfs.linux.statx import Stat, fstatx, statx
from policyfs.store.facts import StoreFacts
from policyfs.store.names.directory_records import DirectoryRecords

__all__ = ["ACLS", "TIME_NOW", "Tree"]

ACLS: Final = (b"system.posix_acl_access", b"system.posix_acl_default")

_SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_O_TMPFILE_BIT: Final = os.O_TMPFILE & ~os.O_DIRECTORY
_MAKES_OR_CUTS: Final = os.O_CREAT | os.O_TRUNC | _O_TMPFILE_BIT

_SUID_SGID: Final = stat.S_ISUID | stat.S_ISGID
_CAPABILITY: Final = b"security.capability"
_UNSURE: Final = frozenset({errno.EIO, errno.ETIMEDOUT, errno.ESTALE})
"""Errors after which the server may have renamed the file nevertheless."""
_USER: Final = b"user."
_POOL: Final = b"user.mergerfs."
"""The xattrs by which mergerfs is controlled. With the daemon's rights, an app could add any directory of the
machine to the pool."""


class Tree:
    """The tree of one store. Owns *root_fd*, an O_PATH descriptor of the root directory, until close().

    making_fd: the root by which unnamed files for copies are made; another if *root_fd* is read-only. The
    features of trial.py count as proved until limit_to() says otherwise: unnamed, noreplace, exchange,
    hard_links, user_xattr."""

    __slots__ = (
        "_by_root", "exchange", "hard_links", "making_fd", "noreplace", "root_fd", "unnamed", "user_xattr",
    )  # fmt: skip

    def __init__(self, root_fd: int) -> None:
        self.root_fd = self.making_fd = root_fd
        self._by_root = False
        self.unnamed = self.noreplace = self.exchange = self.hard_links = self.user_xattr = True

    def limit_to(self, facts: StoreFacts) -> None:
        """Use only what a trial has shown of the store. If the store would refuse the caller
        (StoreFacts.checks_callers), root makes new objects and gives them to the caller."""
        self._by_root = facts.checks_callers
        self.unnamed, self.noreplace, self.exchange = facts.unnamed, facts.noreplace, facts.exchange
        self.hard_links, self.user_xattr = facts.hard_links, facts.user_xattr

    @classmethod
    def open(cls, path: str | bytes) -> Self:
        """Open the store at *path*. If the last component is a symlink, this fails (ELOOP or ENOTDIR)."""
        return cls(os.open(path, os.O_PATH | _DIRECTORY))

    def look_by(self, root_fd: int) -> None:
        """Use, and own, another descriptor of the root, of a mount through which nothing changes."""
        self.root_fd = root_fd

    def close(self) -> None:
        """Close the root descriptors; a second call does nothing."""
        fds = {self.root_fd, self.making_fd} - {-1}
        self.root_fd = self.making_fd = -1
        for fd in fds:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def identity(self) -> str:
        """Return a text that tells this root from other directories, also after a restart of the machine. A
        store that is not mounted, or another store in its place, has another identity."""
        root = fstatx(self.root_fd)
        # The id of a file system can change when a disk gets another device number, the birth time never.
        return f"{root.ino}:{root.btime_ns or os.fstatvfs(self.root_fd).f_fsid}"

    # -- attributes and open ---------------------------------------------------------------

    def stat(self, dirfd: int, name: bytes) -> Stat:
        """Return the attributes of *name*. A symlink is not followed."""
        return statx(dirfd, name)

    def fstat(self, fd: int) -> Stat:
        """Return the attributes of the object behind *fd* (O_PATH or not)."""
        return fstatx(fd)

    def check_free(self, dirfd: int, name: bytes) -> None:
        """Raise FileExistsError if an object has this name, and OSError if stat(2) does not tell."""
        with contextlib.suppress(FileNotFoundError):
            self.stat(dirfd, name)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)

    def open_dir(self, dirfd: int, name: bytes) -> int:
        """Return an O_PATH descriptor of the directory *name*. ENOTDIR if it is a symlink or no directory."""
        return os.open(check_name(name), os.O_PATH | _DIRECTORY, dir_fd=dirfd)

    def is_dir(self, dirfd: int, name: bytes) -> bool:
        """Return True if *name* is a directory. Takes as long for another object as for a missing name."""
        try:
            os.close(self.open_dir(dirfd, name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def open_below(self, dirfd: int, names: Sequence[bytes]) -> int:
        """Return an O_PATH descriptor of the last directory of *names*, a path that begins in *dirfd*.

        Like open_dir() for each name, but with one system call for every 4,000 bytes of names. No step
        follows a symlink or leaves its directory. ENOTDIR or ELOOP for a symlink, EINVAL for an invalid name.
        """
        if len(names) == 1:
            return self.open_dir(dirfd, names[0])
        at = dirfd
        for path in join_names(names):
            try:
                inner = libc.open_beneath(at, path, os.O_PATH | _DIRECTORY)
            finally:
                if at != dirfd:
                    os.close(at)
            at = inner
        return at

    def open_path(self, dirfd: int, name: bytes) -> int:
        """Return an O_PATH descriptor of *name*. A symlink is not followed."""
        return os.open(check_name(name), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dirfd)

    def open_file(self, dirfd: int, name: bytes, flags: int) -> int:
        """Open an existing file. Never follows a symlink (ELOOP), and never waits for a fifo or a lease.

        *flags* must not create or truncate (EINVAL). create_file() creates; truncate_fd() truncates, after
        every check that may refuse the request. If another process has a lease, an open for writing fails
        with EAGAIN, and the break of the lease begins.
        """
        if flags & _MAKES_OR_CUTS:
            raise OSError(errno.EINVAL, "open_file neither creates nor truncates", name)
        return os.open(check_name(name), flags | _SAFE, dir_fd=dirfd)

    def reopen(self, fd: int, flags: int) -> int:
        """Open the object behind *fd* (O_PATH is enough) again, whatever name it has now.

        *flags* must not create or truncate (EINVAL). ELOOP for a symlink.
        """
        if flags & _MAKES_OR_CUTS:
            raise OSError(errno.EINVAL, "reopen neither creates nor truncates")
        # Without O_NOFOLLOW, because this flag would refuse the link in /proc itself.
        return os.open(proc_fd(fd), (flags | _SAFE) & ~os.O_NOFOLLOW)

    def find(self, fd: int) -> tuple[int, bytes]:
        """Find the present name of the file behind *fd*. Return (O_PATH descriptor of the directory, name).
        The caller closes the descriptor. Raises FileNotFoundError if the file has no name in the store."""
        root, path = (os.readlink(proc_fd(one)) for one in (self.root_fd, fd))
        above, _, below = path.partition(root.rstrip(b"/") + b"/")
        if above or not below:
            raise FileNotFoundError(errno.ENOENT, "not in the store")
        *directories, name = below.split(b"/")
        dirfd = os.dup(self.root_fd)
        try:
            for directory in directories:
                inner = self.open_dir(dirfd, directory)
                os.close(dirfd)
                dirfd = inner
            if not self.stat(dirfd, name).same_inode(self.fstat(fd)):
                raise FileNotFoundError(errno.ENOENT, "another file has that name")
        except BaseException:
            os.close(dirfd)
            raise
        return dirfd, name

    def list_dir(self, dirfd: int) -> list[tuple[bytes, int, int]]:
        """Return all names but ``.`` and ``..``, as (name, inode number, DT_* type, never DT_UNKNOWN)."""
        with self.records(dirfd) as records:
            found: list[tuple[bytes, int, int]] = []
            while records.read():
                found += records.typed(records.names())
        return found

    def records(self, dirfd: int) -> DirectoryRecords:
        """Open a directory to read its names in parts. Raises the OSError of open(2)."""
        return DirectoryRecords(dirfd)

    def readlink(self, dirfd: int, name: bytes) -> bytes:
        """Return the target of the symlink *name* as data; else EINVAL."""
        return os.readlink(check_name(name), dir_fd=dirfd)

    def readlink_fd(self, fd: int) -> bytes:
        """Return the target of the symlink behind an O_PATH descriptor."""
        return os.readlink(b"", dir_fd=fd)

    def statvfs(self) -> os.statvfs_result:
        """Return the size and free space of the store's file system, as seen at its root."""
        return os.fstatvfs(self.root_fd)

    # -- creation (INVARIANT: on the event-loop thread only, see libc.Identity) -----------------

    def create_file(
        self, dirfd: int, name: bytes, mode: int, umask: int, uid: int, gid: int,
        flags: int = os.O_RDWR, *, suid: bool = False,
    ) -> int:  # fmt: skip
        """Create a regular file as the caller would without policyfs, and open the file. EEXIST if the name
        is taken.

        For owner, group (setgid parent, grpid), umask and default ACL see libc.Identity. If *suid* is False,
        suid and sgid are removed from *mode*. flags: access mode and status flags of the descriptor.
        The file's mode does not limit the descriptor.
        """
        check_name(name)
        flags = (flags & ~os.O_TRUNC) | os.O_CREAT | os.O_EXCL | _SAFE
        mode &= 0o7777 if suid else 0o1777
        if not self._by_root:
            with Identity(uid, gid, umask):
                return os.open(name, flags, mode, dir_fd=dirfd)
        with Umask(umask):
            fd = os.open(name, flags, mode, dir_fd=dirfd)
        try:
            self._give_file(dirfd, fd, uid, gid)
        except BaseException:
            self.remove_same(dirfd, name, fstatx(fd))
            os.close(fd)
            raise
        return fd

    def make_special(
        self, dirfd: int, name: bytes, mode: int, rdev: int, umask: int, uid: int, gid: int
    ) -> None:
        """Create a fifo, a socket or a device, as the caller would without policyfs. *mode* has the type."""
        make = partial(os.mknod, check_name(name), mode, rdev, dir_fd=dirfd)
        self._make(make, dirfd, name, uid, gid, umask)

    def create_unnamed(
        self, dirfd: int, mode: int, umask: int, uid: int, gid: int, *, suid: bool = False
    ) -> int:
        """Create a regular file without a name, like create_file(), and open it O_RDWR. link() gives the file
        a name. EOPNOTSUPP if the store has no unnamed files, or loses them."""
        if not self.unnamed:
            raise OSError(errno.EOPNOTSUPP, "the store has no unnamed files")
        flags = (os.O_TMPFILE | os.O_RDWR | _SAFE) & ~os.O_NOFOLLOW
        mode &= 0o7777 if suid else 0o1777
        if not self._by_root:
            with Identity(uid, gid, umask):
                return os.open(b".", flags, mode, dir_fd=dirfd)
        # The store would refuse the caller (EACCES, on NFS) before it says that it has no unnamed files.
        with Umask(umask):
            fd = os.open(b".", flags, mode, dir_fd=dirfd)
        try:
            self._give_file(dirfd, fd, uid, gid)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def mkdir(self, dirfd: int, name: bytes, mode: int, umask: int, uid: int, gid: int) -> None:
        """Create a directory as the caller would without policyfs. Only a setgid parent makes it setgid."""
        make = partial(os.mkdir, check_name(name), mode & 0o1777, dir_fd=dirfd)
        self._make(make, dirfd, name, uid, gid, umask)

    def symlink(self, dirfd: int, name: bytes, target: bytes, uid: int, gid: int) -> None:
        """Create a symlink that the caller owns. *target*: bytes that are stored as they are. The symlink is
        never followed."""
        make = partial(os.symlink, target, check_name(name), dir_fd=dirfd)
        self._make(make, dirfd, name, uid, gid, 0)

    def _make(
        self, make: Callable[[], None], dirfd: int, name: bytes, uid: int, gid: int, umask: int
    ) -> None:
        """Let the caller make an object, no regular file; or root, who then gives it (checks_callers)."""
        if not self._by_root:
            with Identity(uid, gid, umask):
                return make()
        with Umask(umask):
            make()
        fd = self.open_path(dirfd, name)
        try:
            self._give(dirfd, fd, uid, gid)
        except BaseException:
            self.remove_same(dirfd, name, fstatx(fd))
            raise
        finally:
            os.close(fd)
        return None

    def _give_file(self, dirfd: int, fd: int, uid: int, gid: int) -> None:
        made = stat.S_IMODE(fstatx(fd).mode)
        self._give(dirfd, fd, uid, gid)
        if made & _SUID_SGID:  # chown(2) has removed them
            os.fchmod(fd, made)

    @staticmethod
    def _give(dirfd: int, fd: int, uid: int, gid: int) -> None:
        """Give a new object to the caller. In a setgid directory it keeps the directory's group."""
        libc.chown_fd(fd, uid, -1 if fstatx(dirfd).mode & stat.S_ISGID else gid)

    def link(self, fd: int, dirfd: int, name: bytes) -> None:
        """Give the object behind *fd* (O_PATH is enough) another name. A symlink is not followed."""
        libc.link_fd(fd, dirfd, check_name(name))

    # -- removal and rename ------------------------------------------------------------------

    def unlink(self, dirfd: int, name: bytes) -> None:
        """Remove a name of an object that is no directory. EISDIR for a directory."""
        os.unlink(check_name(name), dir_fd=dirfd)

    def remove_same(
        self, dirfd: int, name: bytes, target: Stat, still: Callable[[Stat], bool] = lambda _: True
    ) -> bool:
        """Remove *name* if it refers to the object *target*, and *still* returns True for its present
        attributes. Return False otherwise. Raises FileNotFoundError if there is no such name.

        INVARIANT: the caller has locked the name (fs/sharing/name_lock.py): unlink(2) removes any file.
        """
        now = self.stat(dirfd, name)
        if not (now.same_inode(target) and still(now)):
            return False
        (self.rmdir if now.ftype is FileType.DIRECTORY else self.unlink)(dirfd, name)
        return True

    def rmdir(self, dirfd: int, name: bytes) -> None:
        """Remove an empty directory. Raises ENOTEMPTY or ENOTDIR."""
        os.rmdir(check_name(name), dir_fd=dirfd)

    def rename2(self, old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int = 0) -> None:
        """Call renameat2(2). flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE; EINVAL for other flags, and for
        one that the store does not keep. (RENAME_WHITEOUT would create a device node.)"""
        known = {0: True, libc.RENAME_NOREPLACE: self.noreplace, libc.RENAME_EXCHANGE: self.exchange}
        if not known.get(flags):
            raise OSError(errno.EINVAL, f"renames with the flags {flags:#x} are not supported", old)
        libc.rename2(old_dir, check_name(old), new_dir, check_name(new), flags)

    def rename_to_free(self, old_dir: int, old: bytes, new_dir: int, new: bytes) -> None:
        """Rename to a name that no object has, else EEXIST.

        NFS does not know RENAME_NOREPLACE, and this kernel may not know for a minute that another machine has
        made the name. So an empty file takes the name first. (A directory replaces an empty one at most.)
        """
        if self.noreplace:
            return self.rename2(old_dir, old, new_dir, new, libc.RENAME_NOREPLACE)
        if libc.is_fuse(new_dir) or self.is_dir(old_dir, old):
            return self.rename2(old_dir, old, new_dir, new)
        taken = os.open(check_name(new), os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0, dir_fd=new_dir)
        try:
            held = fstatx(taken)
        finally:
            os.close(taken)  # an NFS client gives a replaced file that is open another name
        try:
            return self.rename2(old_dir, old, new_dir, new)
        except OSError as error:
            if error.errno not in _UNSURE:
                self.remove_same(new_dir, new, held)
            raise

    # -- changes of an open object -----------------------------------------------------------

    def chmod_fd(self, fd: int, mode: int, *, suid: bool = False) -> None:
        """Set permission bits (O_PATH is enough); suid and sgid (of a directory, suid) only if *suid*."""
        mode &= 0o7777
        if mode & _SUID_SGID and not suid:
            is_dir = stat.S_ISDIR(fstatx(fd).mode)
            mode &= ~stat.S_ISUID if is_dir else ~_SUID_SGID
        os.chmod(proc_fd(fd), mode)

    def chown_fd(self, fd: int, uid: int, gid: int) -> None:
        """Set owner and group. -1 leaves an id unchanged. *fd* may be O_PATH, also of a symlink."""
        libc.chown_fd(fd, uid, gid)

    def utimens_fd(self, fd: int, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Set times in ns, or TIME_NOW. None keeps a time as it is. *fd* may be O_PATH, also of a symlink."""
        libc.utimens_fd(fd, atime_ns, mtime_ns)

    def truncate_fd(self, fd: int, size: int) -> None:
        """Set the size in bytes. *fd* must be open for writing (else EINVAL or EBADF)."""
        os.ftruncate(fd, size)

    def truncate_path(self, fd: int, size: int) -> None:
        """Set the size in bytes as truncate(2) does: on xfs, btrfs and tmpfs the same size keeps the times.
        *fd* is open for writing, so that the call waits for no lease."""
        os.truncate(libc.proc_fd(fd), size)

    def clear_killpriv(self, fd: int) -> bool:
        """Remove suid, sgid and security.capability of a regular file (O_PATH is enough).

        Return True if the file had any of them.

        Without FUSE, the kernel removes them when a user other than root writes. Under
        FUSE_HANDLE_KILLPRIV_V2 the daemon must remove them. sgid is removed even if the group may not execute
        the file.
        """
        mode = fstatx(fd).mode
        ids = stat.S_ISREG(mode) and bool(mode & _SUID_SGID)
        if ids:
            os.chmod(proc_fd(fd), stat.S_IMODE(mode) & ~_SUID_SGID)
        capable = libc.get_xattr(fd, _CAPABILITY) is not None
        if capable:
            os.removexattr(proc_fd(fd), _CAPABILITY)
        return ids or capable

    def fsync(self, fd: int, datasync: bool = False) -> None:
        """Write the file to the disk. Blocks: call it on a worker thread."""
        (os.fdatasync if datasync else os.fsync)(fd)

    def fsyncdir(self, dirfd: int) -> None:
        """Write a directory's names to the disk (O_PATH is enough). Blocks: call it on a worker thread."""
        fd = os.open(b".", os.O_RDONLY | _DIRECTORY, dir_fd=dirfd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # -- POSIX ACLs (acl(5)), in the format of their xattrs ------------------------------------------

    def acl(self, fd: int, name: bytes) -> bytes:
        """Return an ACL of the object behind *fd* (O_PATH is enough). name: the ACL's xattr, one of ACLS.
        ENODATA if the object has no such ACL, or can have none."""
        try:
            found = libc.get_xattr(fd, _acl_name(name))
        except OSError as error:
            if error.errno != errno.ERANGE:
                raise
            found = os.getxattr(proc_fd(fd), name)
        if found is None:
            raise OSError(errno.ENODATA, "no ACL", name)
        return found

    def set_acl(self, fd: int, name: bytes, value: bytes) -> None:
        """Set an ACL. name: the ACL's xattr, one of ACLS. The file system changes the mode to match."""
        os.setxattr(proc_fd(fd), _acl_name(name), value)

    def remove_acl(self, fd: int, name: bytes) -> None:
        """Remove an ACL. name: the ACL's xattr, one of ACLS."""
        os.removexattr(proc_fd(fd), _acl_name(name))

    def acl_names(self, fd: int) -> list[bytes]:
        """Return the names of the ACL xattrs that the object has."""
        names = (os.fsencode(name) for name in os.listxattr(proc_fd(fd)))
        return [name for name in names if name in ACLS]

    # -- user xattrs (other namespaces get EOPNOTSUPP, so no call reaches owners and ACLs) ---

    def getxattr(self, fd: int, name: bytes) -> bytes:
        """Return the value of a ``user.`` xattr (O_PATH is enough). ENODATA if there is none."""
        return os.getxattr(proc_fd(fd), _user_xattr(name))

    def setxattr(self, fd: int, name: bytes, value: bytes, flags: int = 0) -> None:
        """Set a ``user.`` xattr. flags: 0, os.XATTR_CREATE or os.XATTR_REPLACE."""
        if not self.user_xattr:
            raise OSError(errno.EOPNOTSUPP, "the store keeps no user xattrs", name)
        with libc.NoReserve():
            os.setxattr(proc_fd(fd), _user_xattr(name), value, flags)

    def removexattr(self, fd: int, name: bytes) -> None:
        """Remove a ``user.`` xattr. ENODATA if there is none."""
        os.removexattr(proc_fd(fd), _user_xattr(name))

    def listxattr(self, fd: int) -> list[bytes]:
        """Return the names of the ``user.`` xattrs, except those of mergerfs."""
        names = (os.fsencode(name) for name in os.listxattr(proc_fd(fd)))
        return [name for name in names if name.startswith(_USER) and not name.startswith(_POOL)]


def _acl_name(name: bytes) -> bytes:
    if name not in ACLS:
        raise OSError(errno.EOPNOTSUPP, "no ACL", name)
    return name


def _user_xattr(name: bytes) -> bytes:
    if not name.startswith(_USER) or name.startswith(_POOL) or b"\0" in name:
        raise OSError(errno.EOPNOTSUPP, "only user xattrs", name)
    return name

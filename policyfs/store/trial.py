"""The trial of a store: each feature is used once as policyfs uses it, and looked at after the last close.

A store may take a call and not keep its promise: JuiceFS accepts O_TMPFILE and linkat(2), and removes the
file when it is closed. So a feature counts if its result is there afterwards, by the store's own names. What
fails, or could not be tried, is not used at all (ROWS tells what happens instead).

The trial has a directory of its own in the store's root, with a temporary name (aside_names.py), and removes
it. If it is killed, a later trial removes what is left. What needs no name is tried without one, so that it
is also known of a store that is full or read-only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple, cast

from policyfs.linux import libc
from policyfs.linux.mountinfo import mount_of_fd
from policyfs.linux.statx import fstatx, fstatx_of_server, is_append_only, statx
from policyfs.store import facts as known
from policyfs.store.facts import NAMES, REMOTE, StoreFacts, casefold_flag, directory_folds
from policyfs.store.locking.ofd import UNLCK, WRLCK, Asked, Owner, set_lock
from policyfs.store.names.aside_names import ASIDE
from policyfs.store.ranges import FICLONE
from policyfs.store.watch import Watch

TRIAL: Final = ASIDE + b"trial-"
"""The beginning of the names of trials' directories."""
_LEFT_NS: Final = 60 * 10**9
"""The age from which on a trial's directory is what a killed one left, by the store's own clock. (Another
machine may be in the middle of its trial: then the lock of a file would say nothing on many stores.)"""
_AGAIN_S: Final = 1.1
"""The time after which a store that seems to have lost a file, or to keep a lock, is not looked at again."""
_PAUSE_S: Final = 0.002
_OF_THE_KERNEL: Final = frozenset({"ext4", "xfs", "btrfs", "tmpfs", "f2fs"})
"""File systems that keep all of _PROMISED by themselves, since no other program serves them. So a mount
makes no name in them: their root stays as it is, and a full one has all features."""
_PROMISED: Final = ("unnamed", "noreplace", "exchange", "hard_links", "range_locks", "file_locks")
_CANNOT_NOW: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_ROOM: Final = 1 << 20
"""The least number of free bytes for a write through a mapping."""
_SOMEBODY: Final = 65533
"""A user that makes a trial file. Not nobody (65534), whose rights root has on a server with root_squash."""
_TRUSTED: Final = b"trusted.policyfs.probe"
_USER: Final = b"user.policyfs.probe"
_BYTES: Final = b"policyfs"
_NAME: Final = b"f-"
_LINKED: Final = _NAME + b"linked"


class Row(NamedTuple):
    """A feature of a store. field: of StoreFacts. used: what of policyfs uses it. tried: how. without: what
    happens without it. works: tries it in the directory of a trial; None if it is tried elsewhere."""

    field: str
    name: str
    used: str
    tried: str
    without: str
    works: Callable[[int], bool] | None = None


def probe(root_fd: int, seen_by: int = -1) -> StoreFacts:
    """Try the features of the file system of *root_fd* (a directory; O_PATH is enough). Raises OSError only
    if the root itself cannot be examined. seen_by: the same directory in another mount, by which to look: if
    that is read-only, this makes no name."""
    kind = NAMES.get(f_type := libc.file_system_type(root_fd), f"{f_type:#x}")
    mount = mount_of_fd(root_fd)
    with contextlib.ExitStack() as stack:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        directory = os.open(b".", flags, dir_fd=root_fd if seen_by < 0 else seen_by)
        stack.callback(os.close, directory)
        spare = _unnamed_file(root_fd)
        if spare is not None:
            stack.callback(os.close, spare)
        remote = kind in REMOTE or f_type not in NAMES
        on = directory if spare is None else spare
        facts = StoreFacts(
            f_type=f_type,
            name=mount.fstype if mount is not None else kind,
            reflink=spare is not None and _clones(spare, root_fd),
            leases=kind in known.LEASES_MEAN and (spare is None or _leases(spare)),
            trusted_xattr=_takes_xattr(on, _TRUSTED),
            user_xattr=_takes_xattr(on, _USER),
            casefold=kind in known.FOLDING or casefold_flag(directory),
            read_only=bool(os.fstatvfs(root_fd).f_flag & os.ST_RDONLY),
            # Of a store that other machines change, the kernel of this one tells only its own changes.
            fanotify=not remote and _can_watch(directory),
            stable_inodes=kind not in known.UNSTABLE_INODES,
            times_tell=kind not in known.TIMES_SILENT and (spare is None or _tells_mapped_store(spare)),
            remote=remote,
        )
        folds = facts.casefold or directory_folds(directory)
        if facts.name in _OF_THE_KERNEL and not facts.read_only:
            kept: dict[str, Any] = dict.fromkeys(_PROMISED, True)
            kept["birth_times"] = fstatx(directory).btime_ns != 0
            return replace(facts, tried=True, casefold=folds, **kept)
        at = stack.enter_context(_directory(directory))
        tried = None if at is None else _tried(facts, at)
        return replace(facts, casefold=folds) if tried is None else tried


def _tried(facts: StoreFacts, at: int) -> StoreFacts | None:
    """Return the facts with all that the trial in the directory *at* shows; None if the store is full."""
    try:
        found = {row.field: _works(row.works, at) for row in ROWS if row.works is not None}
        if not (keeps := _works(_keeps, at)):
            time.sleep(_AGAIN_S)
            keeps = _works(_keeps, at)
        folds = facts.casefold or _works(_folds, at)
        checks_callers, root_as, one_owner = _try_callers(at) if facts.remote else (False, 0, False)
    except _CannotNow:
        return None
    return replace(
        facts, tried=True, keeps=keeps, casefold=folds, checks_callers=checks_callers, root_as=root_as,
        one_owner=one_owner, **cast("dict[str, Any]", found),
    )  # fmt: skip


class _CannotNow(Exception):  # noqa: N818 - no error: nothing is known
    """The store is full, or was made read-only."""


def _works(works: Callable[[int], bool], at: int) -> bool:
    try:
        return works(at)
    except OSError as error:
        if error.errno in _CANNOT_NOW:
            raise _CannotNow from error
        return False


@contextlib.contextmanager
def _directory(root: int) -> Iterator[int | None]:
    """Make a directory for a trial, and remove it. The value is a descriptor of it; None if there is none.
    Remove also what killed trials have left."""
    name, at = TRIAL + os.urandom(8).hex().encode(), None
    if not is_append_only(root):
        with contextlib.suppress(OSError):  # full, read-only, a mount of policyfs
            os.mkdir(name, 0o700, dir_fd=root)
            at = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    if at is None:
        yield None
        return
    try:
        now = os.fstat(at).st_mtime_ns
        yield at
    finally:
        os.close(at)
        for left in _names(root):
            if left.startswith(TRIAL):
                with contextlib.suppress(OSError):  # another trial removes it
                    if left == name or now - statx(root, left).mtime_ns > _LEFT_NS:
                        _remove(root, left)


def _remove(root: int, name: bytes) -> None:
    """Remove the directory of a trial. INVARIANT: of what is in it, only files with the names of _name()."""
    at = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        for file in _names(at):
            if file.startswith(_NAME):
                os.unlink(file, dir_fd=at)
        try:
            os.rmdir(name, dir_fd=root)
        except OSError:
            # The name of a lost file may stay, unseen. JuiceFS lets only a rename take it.
            os.rename(_file(at), _LINKED, src_dir_fd=at, dst_dir_fd=at)
            os.unlink(_LINKED, dir_fd=at)
            os.rmdir(name, dir_fd=root)
    finally:
        os.close(at)


# -- what is tried by names, in the directory of the trial ----------------------------------------------


def _file(at: int, data: bytes = _BYTES) -> bytes:
    """Make a file, and close it. Return its name."""
    name = _name()
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=at)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    return name


def _name() -> bytes:
    return _NAME + os.urandom(4).hex().encode()


def _names(at: int) -> list[bytes]:
    """Return the names in a directory, by a new open file: on btrfs and sshfs, one has the names that there
    were when it was opened."""
    fd = _open(at, b".", os.O_DIRECTORY)
    try:
        return [os.fsencode(name) for name in os.listdir(fd)]
    finally:
        os.close(fd)


def _open(at: int, name: bytes, flags: int = os.O_RDONLY) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)


def _has(at: int, name: bytes, data: bytes = _BYTES) -> bool:
    """Return True if a name is listed, and its file has just these bytes by what the server says."""
    if name not in _names(at):
        return False
    fd = _open(at, name)
    try:
        return fstatx_of_server(fd).size == len(data) and os.pread(fd, len(data) + 1, 0) == data
    finally:
        os.close(fd)


def _keeps(at: int) -> bool:
    return _has(at, _file(at))


def _unnamed(at: int) -> bool:
    fd = os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=at)
    try:
        libc.link_fd(fd, at, _LINKED)
        os.write(fd, _BYTES)
    finally:
        os.close(fd)
    return _has(at, _LINKED)


def _noreplace(at: int) -> bool:
    one, other, free = _file(at), _file(at, b"other"), _name()
    with contextlib.suppress(FileExistsError):
        libc.rename2(at, one, at, other, libc.RENAME_NOREPLACE)
        return False
    libc.rename2(at, other, at, free, libc.RENAME_NOREPLACE)
    return _has(at, one) and _has(at, free, b"other") and other not in _names(at)


def _exchange(at: int) -> bool:
    one, other = _file(at), _file(at, b"other")
    libc.rename2(at, one, at, other, libc.RENAME_EXCHANGE)
    return _has(at, one, b"other") and _has(at, other)


def _hard_links(at: int) -> bool:
    one, other = _file(at), _name()
    os.link(one, other, src_dir_fd=at, dst_dir_fd=at)
    fd = _open(at, one, os.O_WRONLY)
    try:
        os.write(fd, b"changed!")
    finally:
        os.close(fd)
    os.unlink(one, dir_fd=at)
    return _has(at, other, b"changed!")


def _keeps_xattr(at: int, attribute: bytes) -> bool:
    name = _file(at)
    for wanted in (b"1", b"22", None):
        fd = _open(at, name)
        try:
            if wanted is None:
                os.removexattr(fd, attribute)
            else:
                os.setxattr(fd, attribute, wanted)
        finally:
            os.close(fd)
        fd = _open(at, name)
        try:
            if libc.get_xattr(fd, attribute) != wanted:
                return False
        finally:
            os.close(fd)
    return True


def _birth_times(at: int) -> bool:
    name = _file(at)
    before = statx(at, name).btime_ns
    os.utime(name, ns=(0, 0), dir_fd=at, follow_symlinks=False)
    fd = _open(at, name, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, b"more")
    finally:
        os.close(fd)
    fd = _open(at, name)
    try:
        return before != 0 and fstatx_of_server(fd).btime_ns == before
    finally:
        os.close(fd)


def _locks(at: int, *, flock: bool) -> bool:
    """Return True if a lock of one open file excludes another's until it is released, or the file closed."""
    name, owner = _file(at), Owner(0, flock=flock)

    def lock(fd: int, kind: int) -> bool:
        return set_lock(fd, owner, Asked(0, 0, kind, 0))

    one, other = (_open(at, name, os.O_RDWR) for _ in range(2))
    try:
        if not lock(one, WRLCK) or lock(other, WRLCK) or not lock(one, UNLCK) or not lock(other, WRLCK):
            return False
        os.close(other)  # as a killed daemon's. The kernel tells the store later
        other, until = -1, time.monotonic() + _AGAIN_S
        while not (is_free := lock(one, WRLCK)) and time.monotonic() < until:
            time.sleep(_PAUSE_S)
        return is_free
    finally:
        os.close(one)
        if other >= 0:
            os.close(other)


def _folds(at: int) -> bool:
    name = _file(at)
    with contextlib.suppress(FileNotFoundError):
        statx(at, name.upper())  # exFAT of FUSE gives each spelling an inode number of its own
        return True
    return False


def _try_callers(at: int) -> tuple[bool, int, bool]:
    """Make a file as another user than root, whose thread has all capabilities, in the trial's directory,
    which root has made. Return checks_callers, root_as and one_owner of StoreFacts."""
    root_as, name = os.fstat(at).st_uid, _name()
    try:
        with libc.Identity(_SOMEBODY, _SOMEBODY, 0):
            fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=at)
    except (PermissionError, FileNotFoundError):
        return root_as == 0, root_as, False  # what another user than root makes cannot be given away
    except OSError:
        return False, root_as, False
    made = os.fstat(fd).st_uid
    os.close(fd)
    return False, root_as, made == root_as


# -- what is tried without a name -----------------------------------------------------------------------


def _unnamed_file(directory: int) -> int | None:
    flags = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(b".", flags, 0o600, dir_fd=directory)
    except OSError:
        return None


def _clones(spare: int, directory: int) -> bool:
    other = _unnamed_file(directory)
    if other is None:
        return False
    try:
        os.pwrite(spare, _BYTES, 0)
        fcntl.ioctl(other, FICLONE, spare)
        return os.pread(other, 9, 0) == _BYTES
    except OSError:
        return False
    finally:
        os.close(other)


def _leases(spare: int) -> bool:
    """Return True if a lease is granted on the file, which only this descriptor has open."""
    try:
        fcntl.fcntl(spare, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(spare, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _tells_mapped_store(spare: int) -> bool:
    """Return True if a write through a mapping changes mtime, also on a page that was read before; and on a
    store that is full, where such a write ends in SIGBUS."""
    try:
        room = os.fstatvfs(spare)
        if room.f_bavail * room.f_frsize < _ROOM:
            return True
        os.pwrite(spare, bytes(mmap.PAGESIZE), 0)
        os.utime(spare, ns=(0, 0))
        with mmap.mmap(spare, mmap.PAGESIZE) as page:
            page[0] = page[0] ^ 1
        return os.fstat(spare).st_mtime_ns != 0
    except (OSError, ValueError):  # ValueError: the file has not the size that it got
        return False


def _takes_xattr(fd: int, name: bytes) -> bool:
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


ROWS: Final = (
    Row(
        "keeps", "bytes after close", "everything", "make, write, close; list, read, size",
        "the mount is refused",
    ),
    Row(
        "casefold", "case", "rules of paths", "look a new name up in capitals",
        "(if names fold) the mount is refused",
    ),
    Row(
        "unnamed", "unnamed files", "new files of apps: the owner comes before the name",
        "O_TMPFILE, linkat, write, close; list, read",
        "new files are made under a name that no app sees, then renamed; checked writes keep no drafts",
        _unnamed,
    ),
    Row(
        "noreplace", "RENAME_NOREPLACE", "renames to a free name; new objects that get their owner first",
        "onto a taken name and onto a free one; list, read",
        "an empty file takes the name first (not on FUSE); new objects get their owner after their name",
        _noreplace,
    ),
    Row(
        "exchange", "RENAME_EXCHANGE", "exchanges that apps ask for", "two files; read both",
        "apps get EINVAL", _exchange,
    ),
    Row(
        "hard_links", "hard links", "links that apps make",
        "link, write by the first name, remove it; read the second",
        "apps get EPERM", _hard_links,
    ),
    Row(
        "trusted_xattr", "trusted xattrs", "owners of files",
        "set, change, remove, each looked at after close",
        "owners are in a database of this machine; on network and FUSE stores files have no owner",
        lambda at: _keeps_xattr(at, _TRUSTED),
    ),
    Row(
        "user_xattr", "user xattrs", "attributes of apps", "as trusted xattrs",
        "apps get EOPNOTSUPP", lambda at: _keeps_xattr(at, _USER),
    ),
    Row(
        "birth_times", "birth times", "telling a file from a later one with its inode number",
        "set the times, append, close; is it the same",
        "inode numbers alone tell files apart", _birth_times,
    ),
    Row(
        "range_locks", "OFD locks", "locks of apps, and between daemons on the store",
        "two opens of a file: one excludes the other until it unlocks or closes",
        "apps get what the store answers", lambda at: _locks(at, flock=False),
    ),
    Row(
        "file_locks", "flock", "locks of apps", "as OFD locks",
        "apps get what the store answers", lambda at: _locks(at, flock=True),
    ),
    Row(
        "reflink", "reflink", "redacted copies, drafts that are put into place", "FICLONE, read",
        "copies are made in memory, up to a size",
    ),
    Row(
        "leases", "leases", "large redacted files, kinds of files", "take a lease; and the type of the store",
        "files above the size of copies are not opened under redaction",
    ),
    Row(
        "fanotify", "fanotify", "the kernel's caches", "mark the root; not of network and FUSE stores",
        "changes by others are seen after a second",
    ),
)  # fmt: skip
"""The features that are tried, in the order of the table in docs/operations.md (`make docs`)."""

"""Wrappers for the system calls that Python's ``os`` lacks or cannot express, bound once with ctypes.

Each wrapper raises a plain OSError with the errno of the call. Each releases the interpreter lock during the
system call, as the functions of ``os`` do. Needs glibc 2.30.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
"""The C library, for other modules. These modules convert the arguments of their calls themselves."""

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_SYMLINK_FOLLOW: Final = 0x400
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000

_RESOLVE_NO_XDEV: Final = 0x01
_RESOLVE: Final = 0x02 | 0x04 | 0x08  # RESOLVE_NO_MAGICLINKS, NO_SYMLINKS, BENEATH
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2
TIME_NOW: Final = -(1 << 63)
"""The value for utimens_fd() that means the kernel's present time. Other values are ns since 1970."""

_CAPABILITY_VERSION_3: Final = 0x20080522
_AT_HANDLE_FID: Final = 0x200
_FUSE: Final = 0x65735546  # linux/magic.h
_MAX_HANDLE: Final = 128  # MAX_HANDLE_SZ
_XATTR_BUFFER: Final = 1024


class _Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_long)]


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _FileHandle(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("data", ctypes.c_ubyte * _MAX_HANDLE),
    ]


def _bind(name: str, result: type[ctypes._SimpleCData[int]], *arguments: type) -> ctypes._NamedFuncPointer:
    function: ctypes._NamedFuncPointer = LIBC[name]  # a new object; LIBC.name, used elsewhere, stays as it is
    function.restype = result
    function.argtypes = arguments
    return function


_int: Final = ctypes.c_int
_ssize: Final = ctypes.c_ssize_t
_str: Final = ctypes.c_char_p
_ptr: Final = ctypes.c_void_p

STATX: Final = _bind("statx", _int, _int, _str, _int, ctypes.c_uint, _ptr)
"""statx(2) without a wrapper, for statx.py. (A wrapper would add a third to the time of the call.)"""

_OPENAT2: Final = 437  # linux/unistd.h, alike on all machines; glibc has no wrapper
_syscall: Final = _bind("syscall", ctypes.c_long, ctypes.c_long, ctypes.c_long, _str, _ptr, ctypes.c_size_t)
_renameat2: Final = _bind("renameat2", _int, _int, _str, _int, _str, ctypes.c_uint)
_linkat: Final = _bind("linkat", _int, _int, _str, _int, _str, _int)
_fchownat: Final = _bind("fchownat", _int, _int, _str, ctypes.c_uint32, ctypes.c_uint32, _int)
_utimensat: Final = _bind("utimensat", _int, _int, _str, _ptr, _int)
_getdents64: Final = _bind("getdents64", _ssize, _int, _ptr, ctypes.c_size_t)
_fstatfs: Final = _bind("fstatfs", _int, _int, _ptr)
_name_to_handle_at: Final = _bind("name_to_handle_at", _int, _int, _str, _ptr, _ptr, _int)
_open_by_handle_at: Final = _bind("open_by_handle_at", _int, _int, _ptr, _int)
_fanotify_init: Final = _bind("fanotify_init", _int, ctypes.c_uint, ctypes.c_uint)
_fanotify_mark: Final = _bind("fanotify_mark", _int, _int, ctypes.c_uint, ctypes.c_uint64, _int, _str)
_signalfd: Final = _bind("signalfd", _int, _int, _ptr, _int)
_getxattr: Final = _bind("getxattr", _ssize, _str, _str, _ptr, ctypes.c_size_t)
_fallocate: Final = _bind("fallocate", _int, _int, _int, ctypes.c_int64, ctypes.c_int64)
_sync_file_range: Final = _bind("sync_file_range", _int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_setfsuid: Final = _bind("setfsuid", _int, ctypes.c_uint32)
_setfsgid: Final = _bind("setfsgid", _int, ctypes.c_uint32)
_capget: Final = _bind("capget", _int, _ptr, _ptr)
_capset: Final = _bind("capset", _int, _ptr, _ptr)

PRCTL: Final = _bind("prctl", _int, _int, *[ctypes.c_ulong] * 4)
_PR_SET_SECUREBITS: Final = 28  # linux/prctl.h
_SECBIT_NO_SETUID_FIXUP: Final = 4  # linux/securebits.h

_PATH_BYTES: Final = 4095  # PATH_MAX without the NUL
_NO_NAMES: Final = (b"//", b"/./", b"/../", b"\0")
_NO_ID: Final = 0xFFFFFFFF


def fail(name: bytes | None = None) -> OSError:
    """Return the OSError for the errno that the last wrapped call left in this thread."""
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), name)


def check_name(name: bytes) -> bytes:
    """Return *name* if it is one path component, else raise OSError(EINVAL). The kernel sends only such
    names: so no bug of policyfs leads out of the store."""
    if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
        raise OSError(errno.EINVAL, "not a single file name", name)
    return name


def join_names(names: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the path of *names* in pieces for one system call each. Raises OSError as check_name()."""
    part: list[bytes] = []
    size = 0
    for name in names:
        if size + len(name) >= _PATH_BYTES and part:
            yield _checked(part)
            part, size = [], 0
        part.append(name)
        size += len(name) + 1
    yield _checked(part)


def _checked(names: list[bytes]) -> bytes:
    """Return the path of these names. Raises OSError(EINVAL) if check_name() would refuse one."""
    path = b"/".join(names)
    framed = b"/" + path + b"/"
    if path.count(b"/") != len(names) - 1 or any(wrong in framed for wrong in _NO_NAMES):
        raise OSError(errno.EINVAL, "not single file names", path)
    return path


def proc_fd(fd: int) -> bytes:
    """Return the path of a descriptor's link in /proc, which leads to the object also after a rename."""
    return b"/proc/self/fd/%d" % fd


def rename2(old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int) -> None:
    """Call renameat2(2). flags: RENAME_NOREPLACE, RENAME_EXCHANGE or 0. The names are not checked."""
    if _renameat2(old_dir, old, new_dir, new, flags):
        raise fail(old)


def open_beneath(dirfd: int, path: bytes, flags: int, *, one_mount: bool = False) -> int:
    """Open a relative path (less than 4,096 bytes) with openat2(2), which never leaves *dirfd*, and with
    *one_mount* not its mount. Needs Linux 5.6. Raises OSError (ELOOP for a symlink)."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, _RESOLVE | (_RESOLVE_NO_XDEV if one_mount else 0))
    fd = int(_syscall(_OPENAT2, dirfd, path, ctypes.byref(how), ctypes.sizeof(how)))
    if fd < 0:
        raise fail(path)
    return fd


def link_fd(fd: int, new_dir: int, new: bytes) -> None:
    """Create a hard link to the object behind *fd* (O_PATH is enough; a symlink is not followed).
    AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH, else ENOENT; then by the path in /proc."""
    if not _linkat(fd, b"", new_dir, new, AT_EMPTY_PATH):
        return
    if ctypes.get_errno() != errno.ENOENT:
        raise fail(new)
    if _linkat(AT_FDCWD, proc_fd(fd), new_dir, new, AT_SYMLINK_FOLLOW):
        raise fail(new)


def chown_fd(fd: int, uid: int, gid: int) -> None:
    """Call fchownat(2) on the object behind *fd* (also O_PATH, also a symlink). -1 leaves an id unchanged."""
    if _fchownat(fd, b"", uid & _NO_ID, gid & _NO_ID, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
        raise fail()


def utimens_fd(fd: int, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Call utimensat(2) on the object behind *fd* (also O_PATH, also a symlink). Times: ns since 1970, also
    negative, TIME_NOW, or None to leave one. Needs Linux 5.8."""
    times = (_Timespec * 2)()
    for slot, value in zip(times, (atime_ns, mtime_ns), strict=True):
        if value is None or value == TIME_NOW:
            slot.tv_sec, slot.tv_nsec = 0, UTIME_OMIT if value is None else UTIME_NOW
        else:
            slot.tv_sec, slot.tv_nsec = divmod(value, 1_000_000_000)
    if _utimensat(fd, b"", times, AT_EMPTY_PATH):
        raise fail()


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2). mode: FALLOC_FL_* bits. offset, length: in bytes. May take long."""
    if _fallocate(fd, mode, offset, length):
        raise fail()


def sync_file_system(fd: int) -> None:
    """Call syncfs(2) for the file system of *fd* (no O_PATH). May take long."""
    if LIBC.syncfs(fd):
        raise fail()


def sync_file_range(fd: int, flags: int) -> None:
    """Call sync_file_range(2) for a whole file. flags: SYNC_FILE_RANGE_* bits. May take long."""
    if _sync_file_range(fd, 0, 0, flags):
        raise fail()


def getdents64(fd: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Call getdents64(2). Return the size of the linux_dirent64 records put into *buffer*; 0 at the end."""
    count = int(_getdents64(fd, buffer, len(buffer)))
    if count < 0:
        raise fail()
    return count


def get_xattr(fd: int, name: bytes) -> bytes | None:
    """Return an extended attribute of the object behind *fd* (also O_PATH), or None if there is none or they
    are not supported. Raises OSError: ERANGE over 1 KiB."""
    buffer = ctypes.create_string_buffer(_XATTR_BUFFER)
    count = int(_getxattr(proc_fd(fd), name, buffer, _XATTR_BUFFER))
    if count >= 0:
        return buffer.raw[:count]
    if ctypes.get_errno() in (errno.ENODATA, errno.EOPNOTSUPP):
        return None
    raise fail(name)


def file_system_type(fd: int) -> int:
    """Return f_type of fstatfs(2), the magic number of linux/magic.h, as an unsigned 32-bit number."""
    buffer = (ctypes.c_long * 32)()
    if _fstatfs(fd, buffer):
        raise fail()
    return buffer[0] & 0xFFFFFFFF


def is_fuse(fd: int) -> bool:
    """Return True if a descriptor's file is on a FUSE file system. Raises OSError."""
    return file_system_type(fd) == _FUSE


def handle_and_mount(fd: int) -> tuple[bytes, int]:
    """Return the file handle of the object behind *fd* (also O_PATH), and the id of its mount
    (name_to_handle_at(2)).

    The handle is its type (int32), then its opaque bytes: unique within a file system, valid as long as the
    inode, and never of a later one. Some file systems cannot open by it (AT_HANDLE_FID, Linux 6.5)."""
    mount_id = ctypes.c_int()
    for flags in (AT_EMPTY_PATH, AT_EMPTY_PATH | _AT_HANDLE_FID):
        handle = _FileHandle(_MAX_HANDLE)
        if not _name_to_handle_at(fd, b"", ctypes.byref(handle), ctypes.byref(mount_id), flags):
            return struct.pack("=i", handle.kind) + bytes(handle.data[: handle.size]), mount_id.value
        if ctypes.get_errno() != errno.EOPNOTSUPP:
            break
    raise fail()


def open_handle(mount_fd: int, handle: bytes, flags: int) -> int:
    """Open the inode of a handle (handle_and_mount), close-on-exec. *mount_fd*: any descriptor on that file
    system, but not O_PATH. Needs CAP_DAC_READ_SEARCH. Raises OSError (ESTALE if it is gone)."""
    raw = _FileHandle(len(handle) - 4, struct.unpack_from("=i", handle)[0])
    ctypes.memmove(raw.data, handle[4:], len(handle) - 4)
    fd = int(_open_by_handle_at(mount_fd, ctypes.byref(raw), flags | os.O_CLOEXEC))
    if fd < 0:
        raise fail()
    return fd


def fanotify_init(flags: int, event_flags: int) -> int:
    """Call fanotify_init(2). Return a descriptor from which events are read. Needs CAP_SYS_ADMIN."""
    fd = int(_fanotify_init(flags, event_flags))
    if fd < 0:
        raise fail()
    return fd


def fanotify_mark(fd: int, flags: int, mask: int, dirfd: int, path: bytes = b".") -> None:
    """Call fanotify_mark(2) on the directory *dirfd* itself, or on the object at a path."""
    if _fanotify_mark(fd, flags, mask, dirfd, path):
        raise fail()


def signalfd(signals: set[int]) -> int:
    """Call signalfd(2). Return a non-blocking descriptor from which these (blocked) signals are read."""
    wanted = (ctypes.c_uint64 * 16)(sum(1 << (number - 1) for number in signals))
    fd = int(_signalfd(-1, wanted, os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        raise fail()
    return fd


class Identity:
    """The identity of a caller, for creating files on this thread: ``with Identity(uid, gid, umask):``.

    A file created inside belongs to that uid and gid from its first moment, by the kernel's own rules (setgid
    parents, grpid, default ACLs, id-mapped mounts), without a chown that could fail or come too late. A crash
    leaves no file of root. The kernel does not check the caller's permission: the capabilities that
    setfsuid(2) removes (capabilities(7)) are restored at once; after keep_capabilities() it removes none.

    INVARIANT: used only on the event-loop thread, and without an ``await`` inside. The umask belongs to the
    whole process: other threads that create files must not rely on it. Raises OSError(EPERM) if the identity
    cannot be taken (no CAP_SETUID, unmapped id).
    """

    __slots__ = ("_gid", "_is_own", "_old_gid", "_old_uid", "_old_umask", "_uid", "_umask")

    def __init__(self, uid: int, gid: int, umask: int) -> None:
        self._uid, self._gid, self._umask = uid, gid, umask
        self._old_uid = self._old_gid = self._old_umask = 0
        self._is_own = False

    def __enter__(self) -> None:
        self._old_umask = os.umask(self._umask & 0o777)
        self._is_own = self._uid == os.geteuid() and self._gid == os.getegid()
        if not self._is_own:
            self._take()

    def _take(self) -> None:
        capabilities = (ctypes.c_uint32 * 6)() if _fixup.on else None
        if capabilities is not None and _capget(_HEADER, capabilities):
            error = fail()
            os.umask(self._old_umask)
            raise error
        self._old_gid = int(_setfsgid(self._gid))
        self._old_uid = int(_setfsuid(self._uid))
        # setfsuid and setfsgid report no failure. For an invalid id they only return the present id.
        if int(_setfsuid(_NO_ID)) & _NO_ID != self._uid or int(_setfsgid(_NO_ID)) & _NO_ID != self._gid:
            self.__exit__()
            raise OSError(errno.EPERM, f"cannot create as uid {self._uid}, gid {self._gid}")
        if capabilities is not None and _capset(_HEADER, capabilities):
            error = fail()
            self.__exit__()
            raise error

    def __exit__(self, *_: object) -> None:
        if not self._is_own:
            _setfsuid(self._old_uid & _NO_ID)
            _setfsgid(self._old_gid & _NO_ID)
        os.umask(self._old_umask)


class Umask:
    """A context with another umask: ``with Umask(0o022):``. INVARIANT: as for Identity."""

    __slots__ = ("_umask",)

    def __init__(self, umask: int) -> None:
        self._umask = umask

    def __enter__(self) -> None:
        self._umask = os.umask(self._umask & 0o777)

    def __exit__(self, *_: object) -> None:
        os.umask(self._umask)


NOBODY: Final = 65534
"""The fsuid of threads that write data. No file system reserves blocks for this user."""


class NoReserve:
    """A context in which this thread uses no blocks reserved for root: ext4, f2fs and ubifs look at the fsuid
    of the thread that writes, or registered the backing file (fs/ext4/balloc.c, ext4_has_free_clusters). It
    restores the capabilities that setfsuid(2) removes. INVARIANT: no ``await`` inside, and nothing is
    created. After keep_user() it does nothing."""

    __slots__ = ("_old_uid",)

    def __init__(self) -> None:
        self._old_uid = 0

    def __enter__(self) -> None:
        self._old_uid = _NO_ID if _fixup.user_stays else int(_setfsuid(NOBODY))
        if _fixup.on and not _fixup.user_stays and _capset(_HEADER, _KEPT):
            _setfsuid(self._old_uid & _NO_ID)
            if _capget(_HEADER, _KEPT):  # the first use, or the process has given up rights since
                raise fail()
            _setfsuid(NOBODY)
            if _capset(_HEADER, _KEPT):
                error = fail()
                self.__exit__()
                raise error

    def __exit__(self, *_: object) -> None:
        _setfsuid(self._old_uid & _NO_ID)


_HEADER: Final = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
_KEPT: Final = (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6)
"""The capabilities that all threads of this process have, as capget(2) returned them. Before the first call
of capget(2), the sets have more capabilities than any thread, so that capset(2) refuses the sets."""


class _Fixup:
    """The state of two settings. on: True while setfsuid(2) removes capabilities (keep_capabilities).
    user_stays: True if NoReserve does nothing (keep_user)."""

    def __init__(self) -> None:
        self.on = True
        self.user_stays = False


_fixup: Final = _Fixup()


def keep_user() -> None:
    """Let NoReserve do nothing from now on: the program that serves the store would refuse its user. (Such a
    program, and not the kernel, also decides who may use reserved blocks.)"""
    _fixup.user_stays = True


def unreserved_user() -> int:
    """Return the fsuid that NoReserve sets. -1 if setfsuid(2) alone would remove capabilities."""
    if _fixup.user_stays:
        return os.geteuid()
    return -1 if _fixup.on else NOBODY


def keep_capabilities() -> bool:
    """Make setfsuid(2) keep capabilities, also in later threads (capabilities(7), SECBIT_NO_SETUID_FIXUP).

    This setting halves the time of NoReserve. Return False without CAP_SETPCAP. Call it before any thread
    starts. Child processes that give up rights by a change of their uid must be started before the call."""
    _fixup.on = bool(PRCTL(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    return not _fixup.on

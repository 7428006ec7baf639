"""System calls in the form in which the tables of cases name them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
from collections.abc import Callable
from typing import Any, Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
AT_FDCWD: Final = -100
NOW: Final = (1 << 30) - 1
OMIT: Final = (1 << 30) - 2


class Timespec(ctypes.Structure):
    """struct timespec."""

    _fields_ = [("sec", ctypes.c_int64), ("nsec", ctypes.c_long)]


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def create(path: str, mode: int = 0o644, text: bytes = b"") -> None:
    """Make a new file and close it."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        if text:
            os.write(fd, text)
    finally:
        os.close(fd)


def make(kind: str, path: str, uid: int = 0, gid: int = 0, mode: int | None = None) -> None:
    """Make one of: file, dir, full (a directory with a file in it), link, fifo, socket, char, block, none.
    chmod: what is there gets another mode instead."""
    if kind == "none":
        return
    if kind == "chmod":
        os.chmod(path, uid)
        return
    if kind == "file":
        create(path, 0o644, b"content of a file\n")
    elif kind in {"dir", "full"}:
        os.mkdir(path, 0o755)
        if kind == "full":
            create(f"{path}/inner", 0o644, b"inner")
    elif kind == "link":
        os.symlink("target", path)
    elif kind == "fifo":
        os.mkfifo(path, 0o644)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
    elif kind in {"char", "block"}:
        kind_bits, device = (stat.S_IFCHR, (1, 3)) if kind == "char" else (stat.S_IFBLK, (7, 99))
        os.mknod(path, kind_bits | 0o644, os.makedev(*device))
    os.chown(path, uid, gid, follow_symlinks=False)
    if mode is not None:
        os.chmod(path, mode)


def gone(path: str) -> None:
    """Remove whatever it is."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        os.rmdir(path)
    else:
        os.unlink(path)


def opened(path: str, flags: int, mode: int = 0o666) -> str:
    """Open and close; the kind of descriptor that came."""
    fd = os.open(path, flags, mode)
    try:
        status = os.fstat(fd)
        kept = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC)
        return (
            f"{stat.S_IFMT(status.st_mode):o} {kept:o} {os.lseek(fd, 0, os.SEEK_CUR)}"
            if not flags & (os.O_PATH | os.O_DIRECTORY)
            else f"{stat.S_IFMT(status.st_mode):o}"
        )
    finally:
        os.close(fd)


def with_fd(path: str, flags: int, use: Callable[..., Any], *arguments: Any) -> Any:
    """`use(fd, ...)` on a descriptor that is closed afterwards."""
    fd = os.open(path, flags)
    try:
        return use(fd, *arguments)
    finally:
        os.close(fd)


def fchmod(path: str, mode: int) -> None:
    """fchmod(2)."""
    with_fd(path, os.O_RDONLY, os.fchmod, mode)


def fchown(path: str, uid: int, gid: int) -> None:
    """fchown(2)."""
    with_fd(path, os.O_RDONLY, os.fchown, uid, gid)


def lchown(path: str, uid: int, gid: int) -> None:
    """lchown(2)."""
    os.chown(path, uid, gid, follow_symlinks=False)


def write(path: str, data: bytes = b"x", flags: int = os.O_WRONLY) -> int:
    """Open, write, close."""
    return with_fd(path, flags, os.write, data)


def pwrite(path: str, data: bytes, offset: int, flags: int = os.O_WRONLY) -> int:
    """Open, pwrite, close."""
    return with_fd(path, flags, os.pwrite, data, offset)


def read(path: str, size: int = 100) -> bytes:
    """Open, read, close."""
    return with_fd(path, os.O_RDONLY, os.read, size)


def ftruncate(path: str, size: int, flags: int = os.O_WRONLY) -> None:
    """ftruncate(2)."""
    with_fd(path, flags, os.ftruncate, size)


def utimens(path: str, atime: int | tuple[int, int], mtime: int | tuple[int, int], flags: int = 0) -> None:
    """utimensat(2); a time is NOW, OMIT, or (seconds, nanoseconds)."""
    times = (Timespec * 2)()
    for slot, value in zip(times, (atime, mtime), strict=True):
        slot.sec, slot.nsec = (0, value) if isinstance(value, int) else value
    _LIBC.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
    _check(_LIBC.utimensat(AT_FDCWD, os.fsencode(path), ctypes.byref(times), flags))


def times_of(path: str) -> tuple[int, int]:
    """Access and modification time, ns."""
    status = os.lstat(path)
    return status.st_atime_ns, status.st_mtime_ns


def renameat2(old: str, new: str, flags: int) -> None:
    """renameat2(2)."""
    _check(_LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags)))


def chattr(flag: str, path: str) -> None:
    """chattr(1) with +a or +i."""
    before = bytearray(8)
    with_fd(path, os.O_RDONLY, fcntl.ioctl, _GET_FLAGS, before)
    flags = int.from_bytes(before, "little") | {"+a": 0x20, "+i": 0x10}[flag]
    with_fd(path, os.O_RDONLY, fcntl.ioctl, _SET_FLAGS, flags.to_bytes(8, "little"))


def append_unflagged(path: str) -> None:
    """Open to append, take O_APPEND off by fcntl(2), and write at the file's start."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_APPEND)
        os.pwrite(fd, b"over", 0)
    finally:
        os.close(fd)


def map_appending(path: str) -> None:
    """Write through a shared mapping of a file that was opened to append."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        with mmap.mmap(fd, 0) as mapping:
            mapping[0] = 0
            mapping.flush()
    finally:
        os.close(fd)


def access(path: str, mode: int) -> bool:
    """faccessat(2) with the real ids."""
    return os.access(path, mode)


def list_sorted(path: str) -> list[str]:
    """Names in a directory."""
    return sorted(os.listdir(path))


def entered(path: str) -> str:
    """chdir there, and what getcwd then ends in; comes back as whoever it is."""
    back = os.open(".", os.O_PATH)
    try:
        os.chdir(path)
        try:
            return os.path.basename(os.getcwd())
        finally:
            os.fchdir(back)
    finally:
        os.close(back)


def raised(call: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    """A call's result or errno, inside a longer call."""
    try:
        return repr(call(*arguments, **named))
    except OSError as error:
        return errno.errorcode[error.errno or 0]

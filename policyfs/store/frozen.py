"""Frozen copies: private copies of a file's bytes that no writer can reach any more.

On the byte path ``copy``, an app reads only copies that this module made. The steps: copy the file, locate
hidden data *in the copy*, patch *the copy*, seal the copy, serve it. No change of the source, during or after
the copying, can add an unchecked byte to the finished copy. So no stat, lease or lock of the source is needed
for safety. If a writer changes the source during the copying, the copy is only stale or cannot be parsed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable
from stat import S_ISREG
from typing import Final, Literal, NamedTuple, Self

from policyfs.domain import Patch
from policyfs.linux.libc import proc_fd
from policyfs.linux.statx import fstatx
from policyfs.store import freeing, ranges
from policyfs.store.memory import MemoryPlaces

_MFD_NOEXEC_SEAL: Final = 0x0008  # linux/memfd.h, Linux 6.3
_CHUNK: Final = 1 << 20
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


How = Literal["reflink", "tmpfs", "memfd"]


class Version(NamedTuple):
    """The size and times of a copy's source before the copying. If one of them changes, the copy is out of
    date. Safety never depends on a Version: a write need not change the times."""

    size: int
    mtime_ns: int
    ctime_ns: int


class FrozenTooLarge(Exception):  # noqa: N818 - a size class of files, not a mistake
    """Error for a file larger than the limit for a copy in memory. size, cap: file and limit, in bytes."""

    def __init__(self, size: int, cap: int) -> None:
        super().__init__(f"{size} bytes, and a copy in memory may have {cap}")
        self.size = size
        self.cap = cap


class Frozen:
    """One frozen copy of a file. The object owns the descriptor *fd* until close(). size: in bytes, equal to
    version.size.

    memory: the bytes of memory that the copy takes. fd is open for reading and writing until seal(), then for
    reading only. version: the source's version before the copying began. So a copy counts as out of date if
    its source changed during the copying.
    """

    __slots__ = ("fd", "how", "memory", "sealed", "size", "version")

    def __init__(self, fd: int, how: How, size: int, version: Version, *, memory: int | None = None) -> None:
        self.fd = fd
        self.how: Final = how
        self.size: Final = size
        if memory is None:
            memory = 0 if how == "reflink" else size
        self.memory: Final = memory
        self.version: Final = version
        self.sealed = False

    def close(self) -> None:
        """Close the descriptor; a thread does so if this frees much space. A second call does nothing.

        The copy exists as long as the kernel has it registered for passthrough, or another descriptor of it
        is open.
        """
        fd, self.fd = self.fd, -1
        if fd >= 0:
            freeing.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def freeze(
    src_fd: int, size_cap: int, tmp_dirfd: int | None, reflink: bool, places: MemoryPlaces | None = None
) -> Frozen:
    """Copy the regular file behind *src_fd* (open for reading) as it is now.

    reflink: True to clone the file (FICLONE: microseconds at any size, no memory) into an unnamed file in the
    directory *tmp_dirfd*, which is on the same file system. If reflink is False, or a clone of this file is
    impossible, the bytes are copied into memory: into an unnamed file in one of *places*, or into a memfd if
    *places* is None. A copy in memory has at most *size_cap* bytes; raises FrozenTooLarge for a larger file.
    If the source shrinks during the copying, the rest of the copy is zeros. If the source grows, the copy
    keeps the size that the source had at first.

    Raises OSError of reading (EIO), of memory (ENOMEM, ENOSPC), or EMFILE. Waits for the store: call it on a
    worker thread.
    """
    before = fstatx(src_fd)
    version = Version(before.size, before.mtime_ns, before.ctime_ns)
    if reflink and tmp_dirfd is not None:
        fd = _clone(src_fd, tmp_dirfd)
        if fd is not None:
            try:
                if fstatx(fd).size != before.size:
                    os.ftruncate(fd, before.size)
            except OSError:
                os.close(fd)
                raise
            return Frozen(fd, "reflink", before.size, version)
    if before.size > size_cap:
        raise FrozenTooLarge(before.size, size_cap)
    fd, how, memory = _in_memory(before.size, places)
    try:
        os.fchmod(fd, 0o400)  # the receiver of a reading descriptor cannot reopen it for writing
        os.ftruncate(fd, before.size)
        _copy(src_fd, fd, before.size)
    except BaseException:
        os.close(fd)
        raise
    return Frozen(fd, how, before.size, version, memory=memory)


def apply(frozen: Frozen, patches: Iterable[Patch]) -> None:
    """Write *patches* into the copy. Raises ValueError for a patch outside the copy, or for a sealed copy.
    After an error the caller must discard the copy."""
    if frozen.sealed:
        raise ValueError("a sealed copy takes no patch")
    for patch in patches:
        if patch.offset < 0 or patch.end > frozen.size:
            raise ValueError(f"patch of {patch.size} bytes at {patch.offset} in a copy of {frozen.size}")
        if patch.zeros >= _CHUNK and _punched(frozen.fd, patch):
            continue
        at = patch.offset
        while at < patch.end:
            at += os.pwrite(frozen.fd, patch.part(at, min(patch.end, at + _CHUNK)), at)


def _punched(fd: int, patch: Patch) -> bool:
    """Write a patch of zeros as a hole. Return False if holes are impossible. A hole takes no time and, in a
    clone, no space."""
    try:
        ranges.allocate(fd, ranges.PUNCH_HOLE | ranges.KEEP_SIZE, patch.offset, patch.size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        return False
    return True


def seal(frozen: Frozen) -> None:
    """Make the copy unchangeable: close the writable descriptor, and add seals to a memfd (fcntl(2),
    F_ADD_SEALS). The copy must have no writable mapping. Otherwise seal() raises OSError (EBUSY)."""
    if frozen.sealed:
        return
    if frozen.how == "memfd":
        fcntl.fcntl(frozen.fd, fcntl.F_ADD_SEALS, _SEALS)
    read_only = open_readonly(frozen)
    os.close(frozen.fd)
    frozen.fd, frozen.sealed = read_only, True


def open_readonly(frozen: Frozen) -> int:
    """Open the copy. Return an O_RDONLY descriptor, which has its own offset. The caller closes it."""
    return os.open(proc_fd(frozen.fd), os.O_RDONLY | os.O_CLOEXEC)


def adopt(fd: int, how: How, version: Version, memory: int) -> Frozen:
    """Return the sealed copy that another process has left behind *fd*. Raises OSError (EBADF, EINVAL) if no
    sealed copy of this sort and size is there; then the caller still owns *fd*."""
    stat, flags = os.fstat(fd), fcntl.fcntl(fd, fcntl.F_GETFL)
    is_copy = stat.st_nlink == 0 and S_ISREG(stat.st_mode) and stat.st_size == version.size
    if how == "memfd":
        is_copy = is_copy and fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    if not is_copy or flags & (os.O_ACCMODE | os.O_PATH) != os.O_RDONLY:
        raise OSError(errno.EINVAL, "not a finished copy")
    frozen = Frozen(fd, how, version.size, version, memory=memory)
    frozen.sealed = True
    return frozen


def is_alone(frozen: Frozen) -> bool:
    """Return True if no other open file or mapping of the copy exists.

    In passthrough the kernel keeps the file open while an app has the copy mapped, even after the app has
    closed its descriptor. On a file system without leases the answer is always True.

    The kernel grants a write lease only if the inode has no other open file. INVARIANT: the copy is not
    opened during this call. (Such an open would wait, or with O_NONBLOCK fail.) So callers count a copy as in
    use (Copy.pin) before they open the copy.
    """
    try:
        fcntl.fcntl(frozen.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        return error.errno != errno.EAGAIN
    fcntl.fcntl(frozen.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def _clone(src_fd: int, dirfd: int) -> int | None:
    """Return a clone of the source in an unnamed file, or None if this file cannot be cloned now.

    After None the caller tries a copy in memory. That attempt reports the real error. Reasons for None: no
    reflink, a NOCOW file, another file system, a full disk, a read-only store. O_EXCL: the file can never get
    a name.
    """
    flags = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    try:
        fd = os.open(b".", flags, 0o600, dir_fd=dirfd)
    except OSError:
        return None
    try:
        fcntl.ioctl(fd, ranges.FICLONE, src_fd)
    except OSError:
        os.close(fd)
        return None
    return fd


def _in_memory(size: int, places: MemoryPlaces | None) -> tuple[int, How, int]:
    """Create an empty file in memory that can never get a name. Return its descriptor, the sort of file, and
    the memory that the file may take, in bytes."""
    place = None if places is None else places.place(size)
    if place is not None:
        dirfd, memory = place
        with contextlib.suppress(OSError):  # ENOSPC, ENOMEM: the memfd below then fails, too
            flags = os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            return os.open(b".", flags, 0o600, dir_fd=dirfd), "tmpfs", memory
    return new_memfd(), "memfd", size


def new_memfd() -> int:
    """Create an empty memfd that can be sealed, and (from Linux 6.3 on) not executed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    with contextlib.suppress(OSError):  # EINVAL before Linux 6.3; the call below raises any other error again
        return os.memfd_create("policyfs-copy", flags | _MFD_NOEXEC_SEAL)
    return os.memfd_create("policyfs-copy", flags)


def _copy(src_fd: int, fd: int, size: int) -> None:
    """Copy *size* bytes, or all if there are fewer, into a file of zeros. Holes stay holes."""
    offset = os.lseek(src_fd, 0, os.SEEK_CUR)
    try:
        for start, end in ranges.data_ranges(src_fd, 0, size):
            done = os.lseek(fd, start, os.SEEK_SET)
            while done < end:
                try:
                    count = os.sendfile(fd, src_fd, done, min(_CHUNK, end - done))
                except OSError as error:
                    if error.errno not in (errno.EINVAL, errno.ENOSYS):
                        raise
                    count = _copy_chunk(src_fd, fd, done, end - done)  # a store without splice
                if count == 0:
                    return
                done += count
    finally:
        os.lseek(src_fd, offset, os.SEEK_SET)


def _copy_chunk(src_fd: int, fd: int, offset: int, limit: int) -> int:
    data = os.pread(src_fd, min(_CHUNK, limit), offset)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)

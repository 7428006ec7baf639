"""The watch of the store (fanotify(7)): it reports changes made outside the mount, to correct kernel caches.

Each directory that the daemon knows has a mark. It reports created, removed and renamed names, changed
attributes, and files that are closed after writing. Each event has the handle of its directory. So a change
elsewhere on the file system wakes no daemon. One mark of another group covers the whole file system: it
reports changes of link counts, which name no directory.

Access never depends on the watch: an event only names cache entries to drop. Only with --inotify does the
watch request FAN_MODIFY, for files in marked directories (modified_files.py): for the whole file system it
would halve the speed of every small write. Else the watch does not see truncate(2) by path, but that call
breaks a lease. The watch needs CAP_SYS_ADMIN.

A handle (bytes) names an inode within the watched file system. libc.handle_and_mount returns handles.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import struct
from typing import Final, NamedTuple, Self

from policyfs.linux import libc
from policyfs.linux.statx import Stat, fstatx

# linux/fanotify.h
_INIT_FLAGS: Final = 0x1 | 0x2 | 0x20 | 0x200 | 0x400 | 0x800 | 0x1000
"""CLOEXEC, NONBLOCK, UNLIMITED_MARKS, REPORT_FID, REPORT_DIR_FID, REPORT_NAME, REPORT_TARGET_FID; class NOTIF
is 0."""
_EVENT_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC
_MARK_ADD, _MARK_REMOVE, _FILESYSTEM = 0x1, 0x2, 0x100
_IGNORED: Final = 0x20 | 0x40
"""FAN_MARK_IGNORED_MASK, IGNORED_SURV_MODIFY."""
_ONDIR: Final = 0x40000000
_ON_CHILD: Final = 0x08000000
_MASK_RENAME: Final = 0x10000000
_MASK_MOVE_SELF: Final = 0x800
_MASK_OVERFLOW: Final = 0x4000

_METADATA: Final = struct.Struct("=IBBHQii")  # event_len, vers, reserved, metadata_len, mask, fd, pid
_METADATA_VERSION: Final = 3
_INFO: Final = struct.Struct("=BBH8sII")  # type, pad, len; fsid; handle bytes, handle type
_INFO_HEAD: Final = 4
_FID, _DFID_NAME, _DFID, _OLD_DFID_NAME, _NEW_DFID_NAME = 1, 2, 3, 10, 12
_BUFFER: Final = 8 * 1024
"""Bytes of one read: about a hundred events, which take less than half a millisecond to handle."""
_LONGEST: Final = 2 * 1024
"""The longest event in bytes: three handles of 128 bytes, two names of 255, and their headers."""
_HANDLE_TYPE: Final = struct.Struct("=I")
_INO32: Final = struct.Struct("=I")
_INO64: Final = struct.Struct("=Q")
_INODE_IN: Final = {
    1: _INO32,
    2: _INO32,
    0x81: _INO64,
    0x82: _INO64,
    0x4D: _INO64,
    0x4E: _INO64,
    0x4F: _INO64,
}
"""Handle types FILEID_INO32_GEN, INO64_GEN (xfs) and BTRFS_*. Each handle begins with the inode number."""
_TMPFS: Final = struct.Struct("=I4xQ")
"""A handle of tmpfs: type 1, too, but with the generation before the inode number (mm/shmem.c)."""


class Change(enum.IntFlag):
    """The changes that an event can report. The kernel may merge changes of one name into one event."""

    MODIFY = 0x2
    """The file was written or truncated (--inotify)."""
    ATTRIB = 0x4
    """Attributes, xattrs or the number of links changed. An event about *dir_handle* itself has no name."""
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    MOVED = 0x800
    """The directory *target_handle* was moved. The event has no name, and follows that of the names if any of
    the two is in a directory with a mark."""
    OVERFLOW = 0x4000
    """Events were lost: everything may have changed."""


_PLAIN: Final = Change.ATTRIB | Change.CLOSE_WRITE | Change.CREATE | Change.DELETE
_OF_DIRECTORIES: Final = _PLAIN | _MASK_RENAME | _MASK_MOVE_SELF | _ONDIR | _ON_CHILD
_UNMARKED: Final = (b"", b"")
"""The handle and name of an end of a rename in a directory without a mark."""


class WatchEvent(NamedTuple):
    """One event. dir_handle, name: the directory and the changed name.

    name is None if the directory itself changed, or if the name is not known. target_handle: the changed
    object. pid: the process that made the change; 0 if the process is outside the daemon's pid namespace.
    The daemon's own changes have the daemon's pid. A rename gives two events, MOVED_FROM and MOVED_TO.
    """

    kind: Change
    dir_handle: bytes | None
    name: bytes | None
    target_handle: bytes | None
    pid: int
    is_dir: bool = False

    @property
    def overflow(self) -> bool:
        """True if events before this event were lost."""
        return bool(self.kind & Change.OVERFLOW)


class Watch:
    """A watch of directories in the file system of *root_fd* (O_PATH is enough), until close().

    Raises OSError if a watch is impossible: EPERM (no CAP_SYS_ADMIN), EINVAL (a kernel before 5.17), ENODEV,
    EXDEV or EOPNOTSUPP (a file system without ids or handles).
    """

    __slots__ = ("_fd", "_links", "_mask", "_root", "has_more")

    def __init__(self, root_fd: int, *, writes: bool = False) -> None:
        """writes: report writes to the files in marked directories, too."""
        self.has_more = False
        """True if events may be left after the last read."""
        # On some kernels, fanotify_mark and open_by_handle_at refuse an O_PATH descriptor.
        self._root = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
        self._fd = self._links = -1
        self._mask = _OF_DIRECTORIES | (Change.MODIFY if writes else 0)
        try:
            self._fd = libc.fanotify_init(_INIT_FLAGS, _EVENT_FLAGS)
            self._links = libc.fanotify_init(_INIT_FLAGS, _EVENT_FLAGS)
            libc.fanotify_mark(self._links, _MARK_ADD | _FILESYSTEM, Change.ATTRIB, self._root)
            self.add(self._root)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """End the watch. A second call does nothing."""
        for fd in (self._fd, self._links, self._root):
            if fd >= 0:
                os.close(fd)
        self._fd = self._links = self._root = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, directory: int) -> None:
        """Watch the directory behind a descriptor (O_PATH is enough), too. Raises OSError."""
        libc.fanotify_mark(self._fd, _MARK_ADD, self._mask, directory)

    def remove(self, handle: bytes) -> None:
        """Watch the directory with that handle no more. Do nothing if the directory is gone."""
        with contextlib.suppress(OSError):
            fd = libc.open_handle(self._root, handle, os.O_PATH)
            try:
                libc.fanotify_mark(self._fd, _MARK_REMOVE, self._mask, fd)
            finally:
                os.close(fd)

    def ignore_writes(self, handle: bytes) -> bool:
        """Report no writes to the file with that handle. Return False if this is impossible, as for a file
        that is gone."""
        return self._mark(handle, _MARK_ADD | _IGNORED)

    def report_writes(self, handle: bytes) -> None:
        """End ignore_writes()."""
        self._mark(handle, _MARK_REMOVE | _IGNORED)

    def _mark(self, handle: bytes, flags: int) -> bool:
        with contextlib.suppress(OSError):
            fd = libc.open_handle(self._root, handle, os.O_PATH)
            try:
                path = os.fsencode(libc.proc_fd(fd))  # an O_PATH descriptor itself is refused
                libc.fanotify_mark(self._fd, flags, Change.MODIFY, libc.AT_FDCWD, path)
            finally:
                os.close(fd)
            return True
        return False

    def fileno(self) -> int:
        """Return the descriptor that is readable when read_events() would find some."""
        return self._fd

    def read_events(self, *, but_pid: int = -1) -> list[WatchEvent]:
        """Return the events of one read (about a hundred), the oldest first. [] if none of them matters.

        Events of the process *but_pid* are left out before they are parsed: this saves time. Never blocks.
        The kernel queues at most 16,384 unread events. After that, one OVERFLOW event stands for all further
        events.
        """
        return parse_events(self._read(self._fd), but_pid=but_pid)

    def read_links(self, *, but_pid: int = -1) -> list[WatchEvent]:
        """Return the events that name no directory, like read_events(): a file has got or lost a hard link
        anywhere, or a program that holds it by its handle alone has changed its attributes."""
        return parse_events(self._read(self._links), but_pid=but_pid, nameless=True)

    def _read(self, fd: int) -> bytes:
        try:
            raw = os.read(fd, _BUFFER)
        except BlockingIOError:
            raw = b""
        self.has_more = len(raw) > _BUFFER - _LONGEST
        return raw

    def stat_of_handle(self, handle: bytes) -> Stat | None:
        """Return the attributes of the inode with that handle, or None if the inode is gone. Return None also
        if handles do not work on this file system."""
        try:
            fd = libc.open_handle(self._root, handle, os.O_PATH)
        except OSError as error:
            if error.errno in (errno.ESTALE, errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
                return None
            raise
        try:
            return fstatx(fd)
        finally:
            os.close(fd)


def inode_hint(handle: bytes) -> int | None:
    """Return the inode number in a handle of a known type (linux/exportfs.h), else None."""
    (kind,) = _HANDLE_TYPE.unpack_from(handle)
    if kind == 1 and len(handle) == _TMPFS.size:
        return int(_TMPFS.unpack(handle)[1])
    layout = _INODE_IN.get(kind)
    if layout is None or len(handle) < _HANDLE_TYPE.size + layout.size:
        return None
    (number,) = layout.unpack_from(handle, _HANDLE_TYPE.size)
    return int(number)


def parse_events(raw: bytes, *, but_pid: int = -1, nameless: bool = False) -> list[WatchEvent]:
    """Parse the bytes of one read(2) of a fanotify descriptor. Raises ValueError for malformed bytes.
    but_pid: the process whose events are left out. nameless: leave out events that name a directory."""
    events: list[WatchEvent] = []
    at = 0
    while at < len(raw):
        length, version, _, head, mask, fd, pid = _METADATA.unpack_from(raw, at)
        if version != _METADATA_VERSION or length < head or at + length > len(raw):
            raise ValueError("malformed fanotify event")
        if fd >= 0:
            os.close(fd)  # a descriptor that the watch did not request
        if mask & _MASK_OVERFLOW:
            events.append(WatchEvent(Change.OVERFLOW, None, None, None, pid))
        elif pid != but_pid and not (nameless and length > head and raw[at + head] != _FID):
            events += _interpret(mask, pid, _parse_infos(raw[at + head : at + length]))
        at += length
    return events


def _parse_infos(raw: bytes) -> dict[int, tuple[bytes, bytes | None]]:
    infos: dict[int, tuple[bytes, bytes | None]] = {}
    at = 0
    while at + _INFO.size <= len(raw):
        kind, _, length, _, size, handle_type = _INFO.unpack_from(raw, at)
        if length < _INFO_HEAD:
            raise ValueError("malformed fanotify information record")
        data = at + _INFO.size
        handle = struct.pack("=I", handle_type) + raw[data : data + size]
        name: bytes | None = None
        if kind in (_DFID_NAME, _OLD_DFID_NAME, _NEW_DFID_NAME):
            name = raw[data + size : at + length].split(b"\0", 1)[0]
        infos[kind] = (handle, None if name == b"." else name)
        at += length
    return infos


def _interpret(mask: int, pid: int, infos: dict[int, tuple[bytes, bytes | None]]) -> list[WatchEvent]:
    target = infos[_FID][0] if _FID in infos else None
    is_dir = bool(mask & _ONDIR)
    events: list[WatchEvent] = []
    directory, name = infos.get(_DFID_NAME) or infos.get(_DFID) or (None, None)
    target = target or (directory if name is None else None)
    if plain := Change(mask & (_PLAIN | Change.MODIFY)):
        if is_dir and plain == Change.ATTRIB:
            directory, name = target, None  # its own change, whether its parent has a mark or not
        events.append(WatchEvent(plain, directory, name, target, pid, is_dir))
    if mask & _MASK_RENAME:
        for kind, change in ((_OLD_DFID_NAME, Change.MOVED_FROM), (_NEW_DFID_NAME, Change.MOVED_TO)):
            end, name = infos.get(kind, _UNMARKED)
            events.append(WatchEvent(change, end, name, target, pid, is_dir))
    if mask & _MASK_MOVE_SELF:
        events.append(WatchEvent(Change.MOVED, None, None, target, pid, is_dir))
    return events

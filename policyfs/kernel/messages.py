"""Notifications in the form in which the kernel reads them from the FUSE device.

A notification is one plain write to the device. First comes struct fuse_out_header, with unique 0 and the
code in its error field, then the body (include/uapi/linux/fuse.h, fs/fuse/dev.c).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

_INVAL_INODE: Final = 2
_INVAL_ENTRY: Final = 3
_INC_EPOCH: Final = 8
_PRUNE: Final = 9
_NAMES: Final = {
    _INVAL_INODE: "INVAL_INODE",
    _INVAL_ENTRY: "INVAL_ENTRY",
    _INC_EPOCH: "INC_EPOCH",
    _PRUNE: "PRUNE",
}

_HEADER: Final = struct.Struct("=IiQ")  # length, error = code, unique 0
_INODE: Final = struct.Struct("=Qqq")
_ENTRY: Final = struct.Struct("=QII")
_PRUNED: Final = struct.Struct("=IIQ")
EXPIRE_ONLY: Final = 1
"""A flag of entry(): the kernel does not forget the name, but looks it up again at its next use."""

_DIRECTORY: Final = b"directory"
_PAGES: Final = b"pages"

Call: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Then:
    """A notification, and a function that the notifier's thread calls after it has written it."""

    message: bytes
    done: Call

    def __iter__(self) -> Iterator[bytes]:
        yield self.message


def _message(code: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), code, 0) + body


def inode(nodeid: int, offset: int, length: int) -> bytes:
    """Build INVAL_INODE: the kernel forgets a node's attributes, and *length* bytes of pages (0: to the end)
    from *offset* (negative: no pages)."""
    return _message(_INVAL_INODE, _INODE.pack(nodeid, offset, length))


def all_pages(nodeids: Iterable[int]) -> Iterator[bytes]:
    """Build one INVAL_INODE for each of these nodes. The kernel forgets the attributes and all pages."""
    return (inode(nodeid, 0, 0) for nodeid in nodeids)


def entry(parent: int, name: bytes, flags: int) -> bytes:
    """Build INVAL_ENTRY: the kernel forgets a name in a directory. flags: EXPIRE_ONLY or 0."""
    return _message(_INVAL_ENTRY, _ENTRY.pack(parent, len(name), flags) + name + b"\0")


def epoch() -> bytes:
    """Build INC_EPOCH: the kernel looks up every name again at its next use."""
    return _message(_INC_EPOCH, b"")


def prune(nodeids: Sequence[int]) -> bytes:
    """Build PRUNE. The kernel forgets each of these nodes that is not in use."""
    return _message(_PRUNE, _PRUNED.pack(len(nodeids), 0, 0) + struct.pack(f"={len(nodeids)}Q", *nodeids))


def name_of(message: bytes) -> str:
    """Return the name of a message's type, such as "INVAL_ENTRY"."""
    return _NAMES[_HEADER.unpack_from(message)[1]]


def needs_directory(message: bytes) -> bool:
    """Return True if the kernel takes the lock of a directory when it gets this notification."""
    return bool(_HEADER.unpack_from(message)[1] == _INVAL_ENTRY)


def awaited(message: bytes) -> bytes | None:
    """Return a key (bytes) for the lock or the pages for which the kernel may wait when it gets *message*.

    While a message hangs in the kernel, the daemon sends no other message with its key (notify.py).
    The key stands for a directory's lock, or for all pages of a file, which the kernel may be writing back
    (fs/fuse/inode.c, fs/fuse/dir.c). None: the kernel waits for nothing, as for some pages of a file: these
    are left by a refused write, and not being written back.
    """
    code, nodeid = _HEADER.unpack_from(message)[1], message[_HEADER.size : _HEADER.size + 8]
    if code == _INVAL_ENTRY:
        return _DIRECTORY + nodeid
    if code != _INVAL_INODE:
        return None
    _, offset, length = _INODE.unpack_from(message, _HEADER.size)
    return _PAGES + nodeid if offset >= 0 and not length else None


def is_directory(what: bytes) -> bool:
    """Return True if *what*, a key from awaited(), stands for a directory's lock."""
    return what.startswith(_DIRECTORY)

"""What a directory must hold: files, directories and symlinks in memory, compared with the real ones."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

UMASK: Final = 0o027
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True, eq=False)
class File:
    """A regular file, whatever its names. mtime_ns: None where the kernel chose it."""

    data: bytearray = field(default_factory=bytearray)
    mode: int = 0o644
    links: int = 1
    mtime_ns: int | None = None
    xattrs: dict[str, bytes] = field(default_factory=dict)

    def write(self, offset: int, data: bytes) -> None:
        """What pwrite(2) does."""
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.mtime_ns = None

    def truncate(self, size: int) -> None:
        """What ftruncate(2) does."""
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        self.mtime_ns = None


@dataclass(slots=True, eq=False)
class Directory:
    """A directory; its entries are found by their paths."""

    mode: int = 0o755


@dataclass(slots=True, eq=False)
class Symlink:
    """A symlink; most lead nowhere."""

    target: bytes


Node = File | Directory | Symlink
Model = dict[bytes, Node]
"""Path relative to the top, without a leading slash -> what is there."""


def rename2(old: bytes, new: bytes, flags: int) -> None:
    """renameat2(2), which Python does not have."""
    if _libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), old)


@contextlib.contextmanager
def fails_with(*codes: int) -> Iterator[None]:
    """The block must raise OSError with one of these errnos; any other passes through."""
    try:
        yield
    except OSError as error:
        if error.errno not in codes:
            raise
    else:
        raise AssertionError(f"succeeded instead of {[errno.errorcode[code] for code in codes]}")


@dataclass(slots=True)
class Held:
    """An open file description of a file that may have lost its names."""

    fd: int
    file: File
    flags: int


def check_bytes(data: bytes, file: File) -> None:
    """Fails unless a file's bytes are the model's."""
    if data != file.data:
        at = next((i for i, (x, y) in enumerate(zip(data, file.data, strict=False)) if x != y), -1)
        raise AssertionError(f"{len(data)} bytes instead of {len(file.data)}, first difference at {at}")


def check_stat(found: os.stat_result, node: Node) -> None:
    """Fails unless attributes are the model's."""
    if isinstance(node, Symlink):
        assert stat.S_ISLNK(found.st_mode)
        assert found.st_size == len(node.target)
        return
    assert stat.S_IMODE(found.st_mode) == node.mode, f"mode {found.st_mode:o}, not {node.mode:o}"
    if isinstance(node, File):
        assert stat.S_ISREG(found.st_mode)
        assert found.st_size == len(node.data), f"size {found.st_size}, not {len(node.data)}"
        assert found.st_nlink == node.links, f"{found.st_nlink} links, not {node.links}"
        assert node.mtime_ns in {None, found.st_mtime_ns}, f"{found.st_mtime_ns}, not {node.mtime_ns}"
    else:
        assert stat.S_ISDIR(found.st_mode)


def check_tree(top: bytes, model: Model) -> int:
    """Fails unless everything below a directory is what the model says; returns how many names."""
    found: dict[bytes, os.stat_result] = {}
    for directory, names, files in os.walk(top):
        for path in (os.path.join(directory, name) for name in names + files):
            found[os.path.relpath(path, top)] = os.lstat(path)
    assert found.keys() == model.keys(), f"{top!r}: {sorted(found.keys() ^ model.keys())} differ"
    inodes: dict[int, Node] = {}
    for name, node in model.items():
        path = top + b"/" + name
        check_stat(found[name], node)
        assert inodes.setdefault(found[name].st_ino, node) is node, f"{path!r} is linked to another file"
        if isinstance(node, Symlink):
            assert os.readlink(path) == node.target
        elif isinstance(node, File):
            with open(path, "rb") as opened:
                check_bytes(opened.read(), node)
            xattrs = {x: os.getxattr(path, x) for x in os.listxattr(path) if x.startswith("user.")}
            assert xattrs == node.xattrs, f"{path!r}: {xattrs.keys()} instead of {node.xattrs.keys()}"
    return len(found)

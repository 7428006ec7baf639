"""The upper directory of an overlay, as changes of the files below it
(Documentation/filesystems/overlayfs.rst).

A removed name is a character device 0/0 (*whiteout*); ``user.overlay.opaque`` marks a directory that hides
what is below it; ``user.overlay.origin`` a file that was copied up, and not made anew.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Final, NamedTuple

from policyfs.linux.libc import open_beneath

_OWN: Final = "user.overlay."
OPAQUE: Final = f"{_OWN}opaque"
_PIECE: Final = 1 << 20
_END: Final = "0\n"
TOO_LONG: Final = 4096
"""The length of a path that no system call takes: PATH_MAX (linux/limits.h)."""
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

Place = tuple[int, bytes]
"""A directory's descriptor and a path below it, without symlinks on the way."""
State = tuple[int, int, int, int] | None
"""The type, size, mtime and ctime (ns) of an object; 0 but for the type of a directory. None: there is
none."""


class Entry(NamedTuple):
    """An object of a layer. path: relative. is_gone: a whiteout. is_opaque, is_copied: see the module;
    is_copied only if entries() was asked for it."""

    path: bytes
    stat: os.stat_result
    is_gone: bool
    is_opaque: bool
    is_copied: bool

    @property
    def is_directory(self) -> bool:
        """True for a directory, which may be there only for what is in it."""
        return stat.S_ISDIR(self.stat.st_mode)


def entries(upper: int, below: bytes = b"", *, copied: bool = False) -> Iterator[Entry]:
    """Yield the objects of a layer, a directory at a time and before what is in its directories, unless its
    path is TOO_LONG. copied: True to find out which files were copied up. Raises OSError."""
    left = [(below, False)]
    while left:
        at, in_opaque = left.pop()
        directory = _opened(upper, at, DIRECTORY)
        inner = []
        try:
            above = f"/proc/self/fd/{directory}".encode()
            with os.scandir(above) as listed:
                ordered = sorted(listed, key=lambda one: one.name)
            for one in ordered:
                found = _entry(one, at, copied=copied)
                if found.is_directory:  # in an opaque one the overlay marks those that are made anew no more
                    found = found._replace(is_opaque=found.is_opaque or in_opaque)
                    if len(found.path) < TOO_LONG:
                        inner.append((found.path, found.is_opaque))
                yield found
        finally:
            os.close(directory)
        left += reversed(inner)


def _entry(found: os.DirEntry[bytes], at: bytes, *, copied: bool) -> Entry:
    status = found.stat(follow_symlinks=False)
    is_gone = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    marked = stat.S_ISDIR(status.st_mode) or (copied and stat.S_ISREG(status.st_mode))
    names = os.listxattr(found.path, follow_symlinks=False) if marked else ()
    path = at + b"/" + found.name if at else found.name
    return Entry(path, status, is_gone, OPAQUE in names, _ORIGIN in names)


_ORIGIN: Final = f"{_OWN}origin"


def _opened(root: int, path: bytes, flags: int) -> int:
    return open_beneath(root, path or b".", flags)


@contextlib.contextmanager
def parent_of(place: Place) -> Iterator[tuple[int, bytes]]:
    """Open the directory of a place. Give its descriptor, and the last name. Raises OSError."""
    above, name = os.path.split(place[1])
    directory = _opened(place[0], above, DIRECTORY)
    try:
        yield directory, name
    finally:
        os.close(directory)


def status_of(place: Place) -> os.stat_result | None:
    """Return the status of a place; None if nothing is there. Raises OSError."""
    try:
        with parent_of(place) as (directory, name):
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


class Below:
    """The objects below those of a layer, looked up in the order of entries(): each directory is opened
    once, and nothing is asked for in one that is not there. root: of the view."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._at: bytes | None = None
        self._directory = -1

    def status(self, path: bytes) -> os.stat_result | None:
        """Return the status at a path; None if nothing is there. Raises OSError."""
        at, _, name = path.rpartition(b"/")
        try:
            if at != self._at:
                self.close()
                self._at = at
                self._directory = _opened(self._root, at, DIRECTORY)
            if self._directory < 0:
                return None
            return os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def close(self) -> None:
        """Close the directory."""
        if self._directory >= 0:
            os.close(self._directory)
        self._at, self._directory = None, -1


def state_of(status: os.stat_result | None) -> State:
    """Return what must not have changed between a try and its commit."""
    if status is None:
        return None
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:  # others may change what is in it
        return kind, 0, 0, 0
    return kind, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Before(NamedTuple):
    """The state below an object of a layer. begun_ns: when the command began that put the object there.
    hidden: what the policy hid of it from the command."""

    state: State
    begun_ns: int
    hidden: tuple[str, ...] = ()


Hidden = Callable[[bytes], tuple[str, ...]]
"""Returns what the policy hides of the file at a path."""


def record_states(
    upper: int, view: int, known: Mapping[bytes, Before], begun_ns: int, hidden: Hidden, to: IO[str]
) -> None:
    """Write, for each object of a layer, what is below it now, as JSON lines. known: what earlier commands of
    the layer recorded, which stays. Raises OSError."""
    with contextlib.closing(Below(view)) as below:
        for entry in entries(upper):
            state = state_of(below.status(entry.path))
            before = known.get(entry.path) or Before(state, begun_ns, hidden(entry.path))
            to.write(json.dumps([os.fsdecode(entry.path), *before]) + "\n")
    to.write(_END)


def is_whole(lines: Iterable[str]) -> bool:
    """Return True if record_states() has written all states."""
    return any(line == _END for line in lines)


def read_states(lines: Iterable[str]) -> dict[bytes, Before]:
    """Return what record_states() has written, without a line that was cut off."""
    found: dict[bytes, Before] = {}
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            path, state, begun_ns, *hidden = json.loads(line)
            before = Before(None if state is None else tuple(state), begun_ns, *map(tuple, hidden))
            found[os.fsencode(path)] = before
    return found


def xattrs(place: Place, *, own: bool = False) -> dict[str, bytes]:
    """Return the user's extended attributes of an object, of a symlink none; or (own) those of the overlay.
    place: a directory and one name in it. Raises OSError."""
    fd = _opened(*place, os.O_PATH | os.O_NOFOLLOW)
    try:
        path = f"/proc/self/fd/{fd}"  # without an open for reading, which the policy may refuse
        names = [name for name in os.listxattr(path) if name.startswith("user.")]
        return {name: os.getxattr(path, name) for name in names if name.startswith(_OWN) == own}
    except OSError as error:
        if error.errno not in {errno.ENOTSUP, errno.ENODATA}:
            raise
        return {}
    finally:
        os.close(fd)


def same_content(one: Place, other: Place) -> bool:
    """Return True if two regular files have the same bytes; False if the app may not read one of them. Where
    both have holes, none is read."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(open(_opened(*place, flags), "rb", buffering=0)) for place in (one, other)
        )
        size = os.fstat(first.fileno()).st_size
        if size != os.fstat(second.fileno()).st_size:
            return False
        at = 0
        while (at := min(data_from(file.fileno(), at, size) for file in (first, second))) < size:
            piece = os.pread(first.fileno(), _PIECE, at)
            if not piece or piece != os.pread(second.fileno(), len(piece), at):
                return False
            at += len(piece)
        return True
    return False


Found = tuple[bytes, os.stat_result]
"""The path of an object, and its status."""


def moved(removed: Iterable[Found], added: Iterable[Found], upper: int, view: int) -> dict[bytes, bytes]:
    """Return the former paths of added files: of removed ones with the same content, size and mtime."""
    left: dict[tuple[int, int], list[bytes]] = {}
    for path, status in removed:
        if stat.S_ISREG(status.st_mode) and status.st_size:
            left.setdefault((status.st_size, status.st_mtime_ns), []).append(path)
    found = {}
    for path, status in added if left else ():
        olds = left.get((status.st_size, status.st_mtime_ns), []) if stat.S_ISREG(status.st_mode) else []
        for old in olds:
            if same_content((upper, path), (view, old)):
                found[path] = old
                olds.remove(old)
                break
    return found


def data_from(fd: int, at: int, size: int) -> int:
    """Return where a file has data from an offset on; its size if only a hole is left. Raises OSError."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size

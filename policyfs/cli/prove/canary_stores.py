"""The files for canaries (sample requests that test a mount).

In a store in memory, each canary gets a file. In the real store, canaries use files that exist.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final

from policyfs.domain import NO_FACTS, FileType, Op, Principal
from policyfs.linux.mountinfo import mounts
from policyfs.policy.analysis.canaries import Answers, Canary, Sort
from policyfs.policy.decide import Engine

_NAME_MAX: Final = 255
_PATH_MAX: Final = 4095
"""The longest name and the longest path of a request, in bytes (PATH_MAX, less the NUL at the end)."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_MOST_DIRECTORIES: Final = 32
_MOST_NAMES: Final = 64
"""The maximum numbers for the search in the real store: of directories, and of names in each directory."""
_EACH: Final = 2
_TYPES: Final = {stat.S_IFREG: FileType.REGULAR, stat.S_IFDIR: FileType.DIRECTORY}


def planted(store: int, canaries: Sequence[Canary], content: bytes) -> Callable[[Canary], bool]:
    """Make a file for each canary (sample request) in a store, which is empty. store: its descriptor.

    A canary gets no file if another canary needs a directory of the same name, or if the kernel accepts no
    path of this length. Return a function that tells if a canary can be used. It returns True if the canary
    has its file, or if the canary tests a hidden name and a directory has this name. content: the bytes of
    each file.
    """
    files: set[bytes] = set()
    directories: set[bytes] = {b"/"}
    for path in sorted({one.path for one in canaries}, key=lambda path: (-path.count(b"/"), path)):
        names = path.strip(b"/").split(b"/")
        if max(map(len, names)) > _NAME_MAX or len(path.strip(b"/")) > _PATH_MAX:
            continue
        above = [b"/" + b"/".join(names[:depth]) for depth in range(1, len(names))]
        if path in directories or not files.isdisjoint(above):
            continue
        for directory in above:
            if directory not in directories:
                os.mkdir(directory.lstrip(b"/"), 0o777, dir_fd=store)
                os.chmod(directory.lstrip(b"/"), 0o777, dir_fd=store)  # noqa: S103 - seen by canaries alone
                directories.add(directory)
        with open(b"/".join(names), "xb", opener=partial(os.open, dir_fd=store)) as file:
            os.fchmod(file.fileno(), 0o666)
            file.write(content)
        files.add(path)
    # A directory of the name is enough to test if the name is hidden.
    return lambda one: one.path in files or (one.sort is Sort.HIDING and one.path in directories)


def known_files(store: str, engine: Engine, who: Principal) -> list[Canary]:
    """Return canaries (sample requests) for names that exist in the real store.

    These canaries change nothing. The policy's answers to them depend on no kind and no owner. At most _EACH
    canaries of each sort are returned. who: the caller that will make the requests.
    """
    answers = Answers(engine, who)
    found: list[Canary] = []
    for names, ftype, inode in _entries(store):
        state = engine.state_of(b"/" + b"/".join(names))
        if engine.owner_matters_above(state) or engine.needs(who, Op.SEE | Op.READ, state, ftype):
            continue
        for one in answers.canary(names, NO_FACTS):
            if _harmless(one, ftype) and sum(other.sort is one.sort for other in found) < _EACH:
                found.append(one._replace(inode=inode))
    return found


def is_there(store: str, canary: Canary) -> bool:
    """Return True if the real store still has the file of a canary (a sample request) of known_files().

    For a canary of the sort PASSTHROUGH, the inode number must be the same, too: the answer to this canary
    has the number.
    """
    *above, name = canary.path.strip(b"/").split(b"/")
    try:
        with opened(store, above) as fd:
            inode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
    except OSError:
        return False
    return canary.sort is not Sort.PASSTHROUGH or inode == canary.inode


def _harmless(canary: Canary, ftype: FileType) -> bool:
    """Return True if a canary (a sample request) changes nothing: it only looks, or opens for reading."""
    if canary.sort is Sort.HIDING:
        return True
    return ftype is FileType.REGULAR and canary.op is Op.READ and canary.sort is not Sort.REDACTION


def _entries(store: str) -> Iterator[tuple[tuple[bytes, ...], FileType, int]]:
    """Yield names, type and inode number of some files, the root first. Access times do not change."""
    left_out = _mounts_that_may_hang()
    todo: deque[tuple[bytes, ...]] = deque([()])
    for _ in range(_MOST_DIRECTORIES):
        if not todo:
            return
        above = todo.popleft()
        with contextlib.suppress(OSError), opened(store, above) as fd, os.scandir(fd) as entries:
            for entry in islice(entries, _MOST_NAMES):
                names = (*above, os.fsencode(entry.name))
                if os.path.join(store, *map(os.fsdecode, names)) in left_out:
                    continue
                ftype = _TYPES.get(stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode))
                if ftype is not None and not entry.is_symlink():
                    yield names, ftype, entry.inode()
                    if ftype is FileType.DIRECTORY:
                        todo.append(names)


def _mounts_that_may_hang() -> frozenset[str]:
    """Return the mountpoints of all file systems that are on no disk of this machine."""
    return frozenset(
        mount.path
        for mount in mounts()
        if mount.fstype.startswith("fuse") or not mount.source.startswith("/dev/")
    )


@contextlib.contextmanager
def opened(store: str, names: Sequence[bytes]) -> Iterator[int]:
    """Open a directory of the store, name by name, never through a symlink. Yield its descriptor."""
    with contextlib.ExitStack() as stack:
        fd = os.open(store, _DIRECTORY | os.O_NOATIME)
        stack.callback(os.close, fd)
        for name in names:
            fd = os.open(name, _DIRECTORY | os.O_NOATIME, dir_fd=fd)
            stack.callback(os.close, fd)
        yield fd

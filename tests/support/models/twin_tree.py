"""The twin of a store: a plain directory that root keeps as the store ought to be.

What a policy asks of a file is found here: its path, its bytes, and who owns it, which is kept on
the twin's files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policyfs.domain import FileType, Op
from tests.support.models.naive_policy import Node
from tests.support.models.oracle import TOP, Oracle
from tests.support.models.sequences import Hands, Step

OWNER_XATTR: Final = "trusted.model"
SEE, READ, WRITE = Op.SEE, Op.SEE | Op.READ, Op.SEE | Op.WRITE
_TYPES: Final = {
    stat.S_IFREG: FileType.REGULAR,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFLNK: FileType.SYMLINK,
}
NATIVE_TROUBLE: Final = frozenset(
    {
        errno.EEXIST,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EINVAL,
        errno.EPERM,
        errno.ELOOP,
        errno.EBUSY,
    }
)
"""What the kernel may say of a call that cannot succeed natively either, before anybody asks the policy."""


IN_USE: Final = frozenset({errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR})
"""What making or removing a name may say in a shared mount where it, or a directory above it, is hidden
from the caller and in use by another (docs/threat-model.md); and how an existing name is refused."""


class Skip(Exception):
    """The step cannot be made, or its outcome is more than one."""


@dataclass(slots=True)
class Found:
    """What a path leads to. error: it leads nowhere. status None: its last name is not there."""

    path: bytes
    error: int = 0
    status: os.stat_result | None = None
    seen: bool = False


@dataclass(slots=True)
class Expected:
    """What a call has to come to.

    allowed: by the policy; else the errno must be one of *errnos*. native: makes the same call in
    the twin. check: what is wrong with the mount's answer beside the twin's, if anything. may_say:
    errnos that are right too; then nothing was done. after: what else is true afterwards.
    """

    allowed: bool
    errnos: frozenset[int] = frozenset()
    native: Callable[[], Any] | None = None
    check: Callable[[Any, Any], str] = lambda ours, theirs: "" if ours == theirs else f"not {theirs!r}"
    may_say: frozenset[int] = frozenset()
    after: Callable[[], None] = lambda: None
    changes: bool = False


@dataclass(slots=True)
class Handle:
    """An open file: of whom, through which mount, by which rights.

    since: how many versions its file had. mediated: its view is not raw. hides: some of its
    bytes are hidden from this reader. created: by this very open, under content requirements.
    oracle: of the policy that it was opened under.
    """

    fd: int
    who: int
    mount: int
    flags: int
    node: Node
    ino: int
    since: int
    mediated: bool
    hides: bool
    created: bool
    emptied: bool
    generation: int
    oracle: Oracle


def refused(*errnos: int) -> Expected:
    """The policy says no."""
    return Expected(allowed=False, errnos=frozenset(errnos))


@dataclass(slots=True)
class Version:
    """The bytes of a file at one time, and who owned it then."""

    data: bytes
    owner: str


class TwinTree:
    """One sequence's directory of the twin. top: that directory; generations: of each mount, how many
    policies it has had."""

    def __init__(
        self, top: bytes, oracles: list[Oracle], uids: Sequence[int], generations: list[int]
    ) -> None:
        self.top = top
        self.oracles = oracles
        self.uids = uids
        self.generations = generations
        self.handles: dict[tuple[int, int, int], Handle] = {}
        self.versions: dict[int, list[Version]] = {}
        self.refusals: set[tuple[int, int]] = set()
        self.wrote: set[tuple[int, int]] = set()
        self.emptied: dict[int, tuple[int, bool]] = {}
        self.root = Hands()

    def at(self, path: bytes) -> bytes:
        """Where a path is in the twin."""
        return self.top + b"/" + path if path else self.top

    def owner(self, path: bytes | int) -> str:
        """The owning app of what is there."""
        try:
            if isinstance(path, int):
                return os.getxattr(path, OWNER_XATTR).decode()
            return os.getxattr(self.at(path), OWNER_XATTR, follow_symlinks=False).decode()
        except OSError:
            return "none"

    def disown(self, path: bytes | int) -> None:
        """Nobody owns it any more."""
        with contextlib.suppress(OSError):
            os.removexattr(path if isinstance(path, int) else self.at(path), OWNER_XATTR)

    def above(self, path: bytes) -> list[str]:
        """Owners of the directories over a path: of the sequence's own first."""
        names = path.split(b"/")
        return ["none", *(self.owner(b"/".join(names[:i])) for i in range(1, len(names)))]

    def data(self, path: bytes) -> bytes:
        """A file's bytes."""
        with open(self.at(path), "rb") as file:
            return file.read()

    def node(self, mount: int, path: bytes, status: os.stat_result) -> Node:
        """What is at a path, as policies see it."""
        ftype = _TYPES[stat.S_IFMT(status.st_mode)]
        data = b""
        if ftype is FileType.REGULAR and self.oracles[mount].wants_kinds:
            data = self.data(path)
        full = TOP + b"/" + path if path else TOP
        above = self.above(path) if path else []
        return self.oracles[mount].node(full, ftype, data, self.owner(path), above)

    def sees(self, step: Step, path: bytes, status: os.stat_result) -> bool:
        """Does the caller see what is at a path (the directories over it taken in)."""
        oracle = self.oracles[step.mount]
        return oracle.decide(self.uids[step.who], SEE, self.node(step.mount, path, status)).allowed

    def hides_some(self, step: Step, path: bytes) -> bool:
        """Is something in a directory hidden from the caller."""
        paths = [path + b"/" + name if path else name for name in os.listdir(self.at(path))]
        return not all(self.sees(step, inside, os.lstat(self.at(inside))) for inside in paths)

    def find(self, step: Step, path: bytes, *, follow: bool) -> Found:
        """Walk a path as its caller may."""
        done: list[bytes] = []
        todo = path.split(b"/") if path else []
        if not todo:
            return Found(b"", 0, os.lstat(self.top), seen=True)
        links = 0
        while True:
            name = todo.pop(0)
            here = b"/".join([*done, name])
            try:
                status = os.lstat(self.at(here))
            except FileNotFoundError:
                return Found(here, errno.ENOENT if todo else 0)
            seen = self.sees(step, here, status)
            if not seen:
                return Found(here, errno.ENOENT) if todo else Found(here, 0, status, seen=False)
            if stat.S_ISLNK(status.st_mode) and (todo or follow):
                links += 1
                if links > 10:
                    return Found(here, errno.ELOOP)
                todo = [*os.readlink(self.at(here)).split(b"/"), *todo]
                continue
            if not todo:
                return Found(here, 0, status, seen=True)
            if not stat.S_ISDIR(status.st_mode):
                return Found(here, errno.ENOTDIR)
            done.append(name)

    def names_of(self, ino: int) -> list[bytes]:
        """All paths of a file."""
        found = []
        for directory, _, files in os.walk(self.top):
            for name in files:
                path = os.path.join(directory, name)
                if os.lstat(path).st_ino == ino:
                    found.append(os.path.relpath(path, self.top))
        return found

    def other_answers(self, step: Step, ops: Op, found: Found) -> frozenset[int]:
        """What the policy says by the file's other names: what the daemon knows by number is decided by the
        strictest of the names that it knows."""
        assert found.status is not None
        if found.status.st_nlink < 2 or stat.S_ISDIR(found.status.st_mode):
            return frozenset()
        codes = set()
        for path in self.names_of(found.status.st_ino):
            node = self.node(step.mount, path, os.lstat(self.at(path)))
            codes.add(self.oracles[step.mount].decide(self.uids[step.who], ops, node).errno)
        return frozenset(codes - {0})

    def there(self, step: Step, path: bytes, ops: Op, *, follow: bool = True) -> Found | Expected:
        """What a call is made on, or why it is refused."""
        found = self.find(step, path, follow=follow)
        if found.error:
            return refused(found.error)
        if found.status is None or not found.seen:
            return refused(errno.ENOENT)
        node = self.node(step.mount, found.path, found.status)
        code = self.oracles[step.mount].decide(self.uids[step.who], ops, node).errno
        return refused(code, *self.other_answers(step, ops, found)) if code else found

    def note(self, ino: int, data: bytes, owner: str) -> None:
        """A file has these bytes and this owner now."""
        known = self.versions.setdefault(ino, [])
        if not known or (known[-1].data, known[-1].owner) != (data, owner):
            known.append(Version(data, owner))

    def note_fd(self, fd: int) -> None:
        """A file has changed."""
        status = os.fstat(fd)
        self.note(status.st_ino, os.pread(fd, status.st_size, 0), self.owner(fd))

    def note_path(self, path: bytes) -> None:
        """A file has changed, or is seen for the first time."""
        status = os.lstat(self.at(path))
        if stat.S_ISREG(status.st_mode):
            self.note(status.st_ino, self.data(path), self.owner(path))

    def writers(self, ino: int) -> list[Handle]:
        """Who has the file open for writing."""
        return [h for h in self.handles.values() if h.ino == ino and h.flags & os.O_ACCMODE]

    def natively(self, step: Step, *arguments: Any) -> Any:
        return self.root.make(self.top, step.call, arguments or step.arguments)

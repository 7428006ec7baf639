"""The same calls on a mount and on a plain directory: what differs is a bug, or is written down.

A zoo is a small directory with one of each kind of thing. A call is made on a zoo in the mount
and on one outside it, by the same plain uid; the results (or errnos) and what became of the two
zoos must be the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

Call = Callable[[], Any]
"""Made with the zoo as working directory; what it returns is compared."""

TEXT: Final = b"hello world\n"


class Case(NamedTuple):
    """One comparison: a name for people, and the call."""

    name: str
    call: Call


class Outcome(NamedTuple):
    """What a call came to: its result, or the name of its errno."""

    value: Any
    error: str = ""

    def __str__(self) -> str:
        return self.error or repr(self.value)


def build_zoo(directory: Path, uid: int) -> None:
    """One of each, owned by uid: see the names."""
    directory.mkdir(mode=0o755)
    os.mkdir(directory / "dir", 0o755)
    os.mkdir(directory / "dir" / "sub", 0o750)
    os.mkdir(directory / "vacant", 0o755)
    for name, content, mode in (
        ("file", TEXT, 0o644),
        ("empty", b"", 0o600),
        ("script", b"#!/bin/sh\nexit 0\n", 0o755),
        ("dir/inner", b"inner", 0o640),
    ):
        (directory / name).write_bytes(content)
        (directory / name).chmod(mode)
    os.link(directory / "file", directory / "hard")
    for name, target in (("tofile", "file"), ("todir", "dir"), ("dangling", "nowhere"), ("loop", "loop")):
        os.symlink(target, directory / name)
    for name in (".", *_walk(directory)):
        os.chown(directory / name, uid, uid, follow_symlinks=False)


def _walk(directory: Path) -> list[str]:
    found = []
    for at, directories, files in os.walk(directory):
        found += [os.path.relpath(os.path.join(at, name), directory) for name in directories + files]
    return sorted(found)


def look(directory: Path) -> dict[str, tuple[Any, ...]]:
    """What is in a zoo now: type, mode, owner, links, content or target, user xattrs of each."""
    found = {}
    for name in (".", *_walk(directory)):
        path = directory / name
        status = path.lstat()
        content: Any = None
        if stat.S_ISREG(status.st_mode):
            content = (status.st_size, path.read_bytes()[:100_000])
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        xattrs = {x: os.getxattr(path, x, follow_symlinks=False)
                  for x in os.listxattr(path, follow_symlinks=False) if x.startswith("user.")}  # fmt: skip
        found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink, content, xattrs)
    return found


def attempt(call: Call) -> Outcome:
    """Make a call; an OSError is an outcome."""
    try:
        return Outcome(call())
    except OSError as error:
        return Outcome(None, errno.errorcode[error.errno or 0])


def _attempt_all(parent: str, cases: Sequence[Case]) -> list[Outcome]:
    outcomes = []
    for number, case in enumerate(cases):
        os.chdir(f"{parent}/{number}")
        os.umask(0o022)
        outcomes.append(attempt(case.call))
    os.chdir("/")
    return outcomes


# ---------------------------------------------------------------- what calls are made of


@contextlib.contextmanager
def fd_of(path: str | bytes, flags: int, mode: int = 0o640) -> Iterator[int]:
    """An open descriptor, closed at the end."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def error(call: Callable[..., object], *arguments: object) -> str:
    """The errno of a call, or what it gave."""
    return str(attempt(lambda: call(*arguments)))


def content(path: str | bytes) -> bytes:
    """All bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def marks(status: os.stat_result) -> tuple[int, ...]:
    """Mode, links, size and owner."""
    return (status.st_mode, status.st_nlink, status.st_size, status.st_uid, status.st_gid)


# ---------------------------------------------------------------- the two sides


class Road(NamedTuple):
    """A way for bytes and names through the mount. own: the app must have made the zoo itself."""

    name: str
    disk: str = "tmpfs"
    rules: str = ""
    options: tuple[str, ...] = ()
    own: bool = False


UID: Final = 10010
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: all}}
apps:
  all: {{uid: {UID}}}
  other: {{uid: {UID + 1}}}
rules:
  - {{id: all, allow: [all], who: {{app: all}}}}
"""
REDACTED: Final = """\
  - {id: hide, require: {redact: [location]}, unless: {owner: self}, audit: best_effort}
"""
CHECKED: Final = """\
  - {id: check, require: {content: ["text/*", "application/*", "inode/*", "image/*"]}}
"""
PASSED: Final = Road("passthrough")
ROADS: Final = (
    PASSED,
    Road("app mount", options=("--app", "all")),
    Road("passthrough on ext4", disk="ext4"),
    Road("mediated", options=("--no-passthrough",)),
    Road("own under redaction", rules=REDACTED, own=True),
    Road("checked", rules=CHECKED),
)


@contextlib.contextmanager
def twins_on(road: Road, arena: Path) -> Iterator[Twins]:
    """A mount of a new disk and a plain directory on the same disk."""
    directory = arena / road.name.replace(" ", "-")
    directory.mkdir()
    directory.chmod(0o711)
    with file_system(road.disk, directory) as disk:
        store, native = disk / "store", disk / "native"
        store.mkdir(mode=0o700)
        native.mkdir(mode=0o711)
        mounts = Mounts(directory)
        try:
            yield Twins(mounts.start(POLICY + road.rules, store, *road.options), native, own=road.own)
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong
    shutil.rmtree(directory)  # tests side by side may ask for this road again


def _attempt_in(directory: str, call: Call) -> Outcome:
    os.chdir(directory)
    os.umask(0o022)
    return attempt(call)


class Twins:
    """A mount on which the app UID may do everything, and a directory beside it on the same disk.

    own: zoos are built by the app through the mount, so that it owns what is in them.
    """

    def __init__(self, mount: Mount, native: Path, *, own: bool = False) -> None:
        self.mount = mount
        self.native = native
        self.left: list[dict[str, tuple[Any, ...]]] = []
        self._own = own
        self._made = 0

    def compare(self, cases: Sequence[Case], deadline_s: float = 60.0) -> None:
        """Make every call on both sides; fails with a line for each difference."""
        name = self._build(len(cases))
        mounted, plain = (
            call_as(UID, _attempt_all, f"{parent}/{name}", cases, deadline_s=deadline_s)
            for parent in (self.mount.mountpoint, self.native)
        )
        differences = []
        for number, (case, ours, theirs) in enumerate(zip(cases, mounted, plain, strict=True)):
            if ours != theirs:
                differences.append(f"{case.name}: {ours} through the mount, {theirs} natively")
            left, right = (look(p / name / str(number)) for p in (self.mount.store, self.native))
            differences += [
                f"{case.name}: left {path} as {left.get(path)} through the mount, {right.get(path)} natively"
                for path in sorted(left.keys() | right.keys())
                if left.get(path) != right.get(path)
            ]
        assert not differences, "\n".join([f"{len(differences)} differences", *differences])

    def same(
        self,
        prepare: Callable[[Path], object],
        call: Call,
        *,
        groups: Sequence[int] = (),
        deadline_s: float = 60.0,
    ) -> Outcome:
        """Root prepares a directory on each side, the app makes the call in it; fails where results or what
        is left differ. Returns the result."""
        self._made += 1
        name = f"own-{self._made}"
        outcomes, left = [], []
        for root, inside in ((self.mount.store, self.mount.mountpoint), (self.native, self.native)):
            (root / name).mkdir()
            (root / name).chmod(0o777)
            prepare(root / name)
            outcomes.append(
                call_as(UID, _attempt_in, f"{inside}/{name}", call, groups=groups, deadline_s=deadline_s)
            )
            left.append(look(root / name))
        mounted, plain = outcomes
        assert mounted == plain
        assert left[0] == left[1]
        return mounted

    def both(self, call: Call, deadline_s: float = 60.0) -> tuple[Outcome, Outcome]:
        """The call in an empty directory on each side; `left` then has what it left there."""
        self._made += 1
        name = f"own-{self._made}"
        outcomes, self.left = [], []
        for root, inside in ((self.mount.store, self.mount.mountpoint), (self.native, self.native)):
            (root / name).mkdir()
            (root / name).chmod(0o777)
            outcomes.append(call_as(UID, _attempt_in, f"{inside}/{name}", call, deadline_s=deadline_s))
            self.left.append(look(root / name))
        return outcomes[0], outcomes[1]

    @staticmethod
    def zoo(directory: Path) -> None:
        """Build a zoo with the same times everywhere (access times move; who compares them loses)."""
        build_zoo(directory, UID)
        for name in (".", *_walk(directory)):
            os.utime(directory / name, ns=(10**18, 10**18), follow_symlinks=False)

    def _build(self, count: int) -> str:
        self._made += 1
        name = f"zoos-{self._made}"
        for parent in (self.mount.store / name, self.native / name):
            parent.mkdir()
            parent.chmod(0o755)
            os.chown(parent, UID, UID)
        for number in range(count):
            build_zoo(self.native / name / str(number), UID)
            if not self._own:
                build_zoo(self.mount.store / name / str(number), UID)
        if self._own:
            call_as(UID, _build_all, self.mount.mountpoint / name, count)
        return name


def _build_all(parent: Path, count: int) -> None:
    for number in range(count):
        build_zoo(parent / str(number), UID)

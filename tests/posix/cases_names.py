"""Making, linking, renaming and removing: who owns what is new, what stays, what moves, who may."""

from __future__ import annotations

import itertools
import os
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any

from tests.posix.calls import (
    create,
    entered,
    gone,
    lchown,
    list_sorted,
    make,
    opened,
    raised,
    renameat2,
    with_fd,
)
from tests.posix.cases_attrs import MEMBER_IN, OTHER, OWNER, OWNER_AWAY, OWNER_IN, OWNER_MANY, thing
from tests.posix.sides import ROOT, Case, Step, User, case, do

KINDS = ("file", "dir", "full", "link", "fifo", "socket", "char", "block")
FEW = ("file", "dir", "full", "link", "fifo")


def things(*made: tuple[Any, ...]) -> Step:
    """root makes several things in one step: (kind, name, uid, gid, mode), owned by OWNER unless said."""

    def make_all() -> None:
        for kind, name, *more in made:
            make(kind, name, *(more or (65534, 65534)))

    return do(ROOT, make_all)


def mknod(path: str, mode: int) -> None:
    """mknod(2) of a regular file."""
    os.mknod(path, stat.S_IFREG | mode)


def create_reading(path: str, mode: int) -> None:
    """Make a new file, open for reading only."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, mode))


def creations() -> Iterator[Case]:
    """Mode, owner and group of what is new, by parent directory, maker and umask."""
    parents = ((0o777, 0, 0), (0o755, 65534, 65534), (0o2777, 0, 1234), (0o2775, 65533, 65534),
               (0o3777, 0, 65531), (0o1777, 65534, 0))  # fmt: skip
    users = (ROOT, OWNER, OWNER_AWAY, OWNER_IN, OWNER_MANY, MEMBER_IN, OTHER)
    modes = ((0o755, 0o022), (0o151, 0), (0o777, 0o077), (0o345, 0o070), (0o345, 0o501), (0o7777, 0),
             (0o2775, 0o022), (0o4711, 0o022), (0o1666, 0o002), (0, 0))  # fmt: skip
    for parent, user in itertools.product(parents, users):
        steps: list[Step] = [do(ROOT, make, "dir", "d", parent[1], parent[2], parent[0])]
        for mode, umask in modes:
            for call in (create_reading, os.mkdir, mknod):
                steps += [do(user, call, "d/x", mode, umask=umask), do(ROOT, gone, "d/x")]
        steps.append(do(user, os.symlink, "somewhere", "d/x", umask=0o077))
        yield case(f"new in {parent[0]:o} of {parent[1]}:{parent[2]}", *steps)
    for user in (ROOT, OWNER):
        yield case("made with suid by who writes it", do(user, create, "x", 0o4755))
    for mode, umask in ((mode, umask) for mode, umask in modes if not mode & 0o6000):
        yield case(
            f"opened while made with mode {mode:o}",
            do(OWNER, with_mode, "x", os.O_RDWR | os.O_CREAT, mode, umask=umask),
            do(OWNER, with_mode, "x", os.O_RDWR | os.O_CREAT, mode, umask=umask),
        )


def with_mode(path: str, flags: int, mode: int) -> bytes:
    """Open with a mode for a new file, write and read through the descriptor."""
    fd = os.open(path, flags, mode)
    try:
        os.pwrite(fd, b"written", 0)
        return os.pread(fd, 10, 0)
    finally:
        os.close(fd)


def renames() -> Iterator[Case]:
    """rename(2) and renameat2(2) of everything onto everything."""
    there = (*FEW, "none")
    for flags, (kind, onto), (source, target) in itertools.product(
        (0, 1, 2), itertools.product(there, there), (("x", "y"), ("a/x", "b/y"))
    ):
        yield case(
            f"rename {kind} onto {onto} with {flags}",
            things(("dir", "a"), ("dir", "b"), (kind, source), (onto, target)),
            do(OWNER, renameat2, source, target, flags),
            do(OWNER, renameat2, target, source, flags),
        )  # fmt: skip
    yield case(
        "rename onto another name of the same file", thing("file"), do(OWNER, os.link, "x", "y"),
        do(OWNER, os.rename, "x", "y"), do(OWNER, renameat2, "x", "y", 1), do(OWNER, renameat2, "x", "y", 2),
        do(OWNER, os.rename, "x", "x"), do(OWNER, os.unlink, "x"), do(OWNER, os.rename, "y", "x"),
    )  # fmt: skip
    for old, new in (("d", "d/sub/x"), ("d", "d/x"), ("d/sub", "d"), (".", "x"), ("..", "x"), ("d/.", "x"),
                     ("d/..", "x"), ("d", "d/."), ("d", "."), ("d", ".."), ("x", "d/.."), ("x/", "y"),
                     ("x", "y/"), ("d/", "e/"), ("d", "e/"), ("d/", "e"), ("x", "d/"), ("l", "y"),
                     ("l/", "y"), ("", "y"), ("x", ""), ("x/z", "y"), ("x", "x/z"), ("x", "missing/y"),
                     ("d", "x"), ("x", "d"), ("x", "d/sub"), ("d", "l"), ("x", "l")):  # fmt: skip
        yield case(
            "rename in odd places", things(("file", "x"), ("dir", "d"), ("dir", "d/sub")),
            do(ROOT, os.symlink, "d", "l"), do(OWNER, os.rename, old, new),
        )  # fmt: skip


def link_fd(fd: int, path: str) -> None:
    """One more name for what a descriptor holds."""
    os.link(f"/proc/self/fd/{fd}", path, follow_symlinks=True)


def links() -> Iterator[Case]:
    """link(2): counts, times, what cannot be linked, what is there already."""
    for kind, onto in itertools.product((*FEW, "none"), ("none", *FEW)):
        for user in (ROOT, OWNER, OTHER):
            yield case(
                f"link {kind} where {onto} is", things(("dir", "a"), (kind, "x"), (onto, "y")),
                do(user, os.link, "x", "y"), do(user, os.link, "x", "a/y"), do(user, os.unlink, "x"),
                do(ROOT, os.chmod, "y", 0o600), do(ROOT, os.chown, "y", 1, 2),
            )  # fmt: skip
    yield case(
        "many links", thing("file"), *(do(OWNER, os.link, "x", f"l{number}") for number in range(12)),
        do(OWNER, os.truncate, "l3", 5), do(OWNER, os.chmod, "l7", 0o640),
        *(do(OWNER, os.unlink, f"l{number}") for number in range(12)),
    )  # fmt: skip
    yield case(
        "links through /proc", thing("file"), thing("dir", "d"),
        do(ROOT, with_fd, "x", os.O_RDONLY, link_fd, "y"),
        do(OWNER, with_fd, "x", os.O_RDWR, link_fd, "z"),
        do(OWNER, with_fd, "d", os.O_RDONLY, link_fd, "e"),
    )  # fmt: skip


def removals() -> Iterator[Case]:
    """unlink(2), rmdir(2) and the counts of directories."""
    for kind in (*KINDS, "none"):
        for call in (os.unlink, os.rmdir):
            for path in ("x", "x/", "x/.", "x/..", "./x", "x/missing"):
                yield case(f"remove {kind}", thing(kind), do(OWNER, call, path))
    yield case(
        "directories count their subdirectories", do(OWNER, os.mkdir, "d"),
        *(do(OWNER, os.mkdir, f"d/s{number}") for number in range(5)), do(OWNER, os.mkdir, "e"),
        do(OWNER, os.rename, "d/s1", "e/s1"), do(OWNER, os.rename, "d/s2", "d/t2"),
        do(OWNER, os.rename, "d/s3", "d/s4"), do(OWNER, os.rmdir, "d/s0"), do(OWNER, os.rmdir, "d"),
        do(OWNER, renameat2, "d/t2", "e/s1", 2), do(OWNER, os.rmdir, "e/s1"),
    )  # fmt: skip
    yield case(
        "what is open", thing("file"), do(OWNER, _after_unlink, "x"), thing("file"),
        do(OWNER, _after_replacing, "x"), thing("dir", "d"), do(OWNER, _in_removed, "d"),
    )  # fmt: skip
    for path in (".", "..", "./", "../..", "/proc/self/cwd", ""):
        for call in (os.rmdir, os.unlink, os.mkdir):
            if path != "../..":
                yield case("dots", do(OWNER, call, path))


def _after_unlink(path: str) -> list[Any]:
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    try:
        os.pwrite(fd, b"more", 100)
        said = [os.fstat(fd).st_nlink, os.fstat(fd).st_size, os.pread(fd, 10, 0)]
        os.ftruncate(fd, 7)
        os.fchmod(fd, 0o611)
        said += [os.fstat(fd).st_size, oct(os.fstat(fd).st_mode), os.pread(fd, 50, 0)]
        said.append(raised(os.utime, fd))
        said.append(raised(os.fsync, fd))
        said.append(raised(lambda: os.link(f"/proc/self/fd/{fd}", "again", follow_symlinks=True)))
        said.append(raised(lambda: opened(f"/proc/self/fd/{fd}", os.O_RDONLY)))
        said.append(raised(os.setxattr, fd, "user.a", b"1"))
        said.append(raised(os.getxattr, fd, "user.a"))
        return said
    finally:
        os.close(fd)


def _after_replacing(path: str) -> list[Any]:
    create("other", 0o600, b"other")
    fd = os.open(path, os.O_RDWR)
    try:
        os.rename("other", path)
        os.write(fd, b"OLD")
        return [os.fstat(fd).st_nlink, os.fstat(fd).st_size, os.pread(fd, 50, 0), os.stat(path).st_size]
    finally:
        os.close(fd)


def _in_removed(path: str) -> list[Any]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    back = os.open(".", os.O_PATH)
    try:
        os.fchdir(fd)
        os.rmdir(f"../{path}")
        return [
            os.fstat(fd).st_nlink, sorted(os.listdir(".")), raised(os.mkdir, "sub"), raised(create, "new"),
            raised(os.getcwd), raised(os.symlink, "a", "b"), raised(os.stat, "none"), raised(os.rmdir, "."),
            raised(os.stat, "../missing"), raised(os.chmod, ".", 0o700), raised(os.utime, "."),
        ]  # fmt: skip
    finally:
        os.fchdir(back)
        os.close(back)
        os.close(fd)


def specials() -> Iterator[Case]:
    """Fifos, sockets and devices: made, changed, moved, opened."""
    for kind, user in itertools.product(("fifo", "socket", "char", "block"), (ROOT, OWNER)):
        yield case(
            f"made: {kind}", do(user, make_special, kind, "x", umask=0o027),
            do(user, make_special, kind, "x"),
            do(user, os.link, "x", "y"), do(user, os.chmod, "y", 0o6640), do(user, os.utime, "x"),
            do(user, os.rename, "x", "z"), do(user, os.truncate, "z", 0), do(user, list_sorted, "."),
            do(user, os.setxattr, "z", "user.a", b"1"), do(user, list_sorted, "z"),
            do(user, os.readlink, "z"), do(user, os.unlink, "z"), do(user, os.rmdir, "y"),
            do(user, os.unlink, "y"),
        )  # fmt: skip
        yield case(
            f"root's: {kind}", thing(kind), do(user, lambda: os.lstat("x").st_rdev),
            do(user, os.chmod, "x", 0o600), do(user, lchown, "x", -1, 65534),
            do(user, lchown, "x", 65534, -1), do(user, make_special, kind, "x"),
            do(user, os.mkdir, "x"), do(user, os.symlink, "t", "x"), do(user, gone, "x"),
        )  # fmt: skip
    yield case(
        "through a fifo", thing("fifo"), do(OWNER, opened, "x", os.O_WRONLY | os.O_NONBLOCK),
        do(OWNER, _through_fifo), do(OTHER, opened, "x", os.O_RDONLY | os.O_NONBLOCK),
        do(OTHER, opened, "x", os.O_RDWR), do(OWNER, opened, "x", os.O_RDWR | os.O_CREAT | os.O_EXCL),
        do(OWNER, opened, "x", os.O_RDONLY | os.O_DIRECTORY), do(OWNER, os.stat, "x/y"),
    )  # fmt: skip
    yield case("through a socket", do(OWNER, _through_socket), do(OTHER, _through_socket))


def make_special(kind: str, path: str) -> None:
    """One of the kinds that are opened without asking."""
    make(kind, path, -1, -1)


def _through_fifo() -> bytes:
    reader = os.open("x", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("x", os.O_WRONLY)
    try:
        os.write(writer, b"through")
        return os.read(reader, 100)
    finally:
        os.close(reader)
        os.close(writer)


def _through_socket() -> list[str]:
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        said = [raised(two.connect, "s"), raised(one.bind, "s"), raised(one.listen), raised(two.connect, "s")]
        return [*said, raised(one.bind, "s"), raised(os.unlink, "s")]


def sticky() -> Iterator[Case]:
    """Sticky directories: only the owner of the file or of the directory removes and renames."""
    uids = (0, 65533, 65534)
    acts: dict[str, Callable[[], Any]] = {
        "unlink": lambda: os.unlink("d/x"),
        "rmdir": lambda: os.rmdir("d/x"),
        "rename within": lambda: os.rename("d/x", "d/z"),
        "rename out": lambda: os.rename("d/x", "e/z"),
        "rename over": lambda: os.rename("e/n", "d/x"),
        "rename over within": lambda: os.rename("d/n", "d/x"),
        "exchange": lambda: renameat2("e/n", "d/x", 2),
        "link": lambda: os.link("d/x", "d/z"),
        "link out": lambda: os.link("d/x", "e/z"),
        "new": lambda: create("d/new"),
    }
    for name, act in acts.items():
        act.__name__ = name
    kinds = ("file", "dir", "link", "fifo")
    for bits, holder, owner, kind in itertools.product((0o1777, 0o1770, 0o777), uids, uids, kinds):
        for user in (ROOT, OWNER):
            yield from (
                case(
                    f"{name} of {kind} of {owner} in {bits:o} of {holder}",
                    things(("dir", "d", holder, 65534, bits), ("dir", "e"), (kind, "d/x", owner, owner),
                           (kind, "e/n"), (kind, "d/n")),
                    do(user, act),
                )
                for name, act in acts.items()
            )  # fmt: skip


def rights_in_directories() -> Iterator[Case]:
    """Search and write permission of directories, for every call that names something in them."""
    acts: dict[str, Callable[[], Any]] = {
        "stat": lambda: os.stat("d/x").st_mode,
        "create": lambda: create("d/new"),
        "mkdir": lambda: os.mkdir("d/new"),
        "symlink": lambda: os.symlink("t", "d/new"),
        "mknod": lambda: mknod("d/new", 0o600),
        "open": lambda: opened("d/x", os.O_RDWR),
        "open to make, there": lambda: opened("d/x", os.O_RDWR | os.O_CREAT),
        "link in": lambda: os.link("y", "d/new"),
        "link out": lambda: os.link("d/x", "new"),
        "rename in": lambda: os.rename("y", "d/new"),
        "rename out": lambda: os.rename("d/x", "new"),
        "rename within": lambda: os.rename("d/x", "d/new"),
        "rename directory in": lambda: os.rename("e", "d/new"),
        "rename directory out": lambda: os.rename("d/s", "new"),
        "unlink": lambda: os.unlink("d/x"),
        "rmdir": lambda: os.rmdir("d/s"),
        "list": lambda: sorted(os.listdir("d")),
        "enter": lambda: entered("d"),
        "chmod": lambda: os.chmod("d/x", 0o600),
        "chown": lambda: lchown("d/x", -1, -1),
        "utime": lambda: os.utime("d/x"),
        "truncate": lambda: os.truncate("d/x", 0),
        "readlink": lambda: os.readlink("d/l"),
        "access": lambda: os.access("d/x", os.R_OK),
        "deep": lambda: os.stat("d/s/missing"),
    }
    for name, act in acts.items():
        act.__name__ = name
    users: tuple[User, ...] = (ROOT, OWNER, User(65533, 65534), MEMBER_IN, OTHER)
    modes = (0o700, 0o500, 0o300, 0o600, 0o070, 0o050, 0o030, 0o007, 0o005, 0o003, 0)
    for mode, user in itertools.product(modes, users):
        mine = (user.uid, user.gid)
        yield from (
            case(
                f"{name} in {mode:o}",
                things(("dir", "d"), ("file", "y", *mine), ("dir", "e", *mine), ("file", "d/x", *mine),
                       ("dir", "d/s", *mine), ("link", "d/l"), ("chmod", "d", mode)),
                do(user, act),
            )
            for name, act in acts.items()
        )  # fmt: skip


def all_cases() -> list[Case]:
    """Every case of this table but the two large families, sticky() and rights_in_directories()."""
    return [*creations(), *renames(), *links(), *removals(), *specials()]

"""open(2): flags, what is there, whose it is, rights; and descriptors afterwards."""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.posix.calls import access, create, list_sorted, opened, raised, with_fd, write
from tests.posix.cases_attrs import MEMBER, MEMBER_IN, OTHER, OWNER, thing
from tests.posix.cases_names import things
from tests.posix.sides import ROOT, Case, case, do

_RUNS_S: Final = 20.0
FLAGS = {
    "r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR, "3": 3, "rt": os.O_RDONLY | os.O_TRUNC,
    "wt": os.O_WRONLY | os.O_TRUNC, "ra": os.O_RDONLY | os.O_APPEND, "wa": os.O_WRONLY | os.O_APPEND,
    "rwat": os.O_RDWR | os.O_APPEND | os.O_TRUNC, "rc": os.O_RDONLY | os.O_CREAT,
    "wc": os.O_WRONLY | os.O_CREAT, "rwc": os.O_RDWR | os.O_CREAT,
    "rcx": os.O_RDONLY | os.O_CREAT | os.O_EXCL, "rwcx": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "wct": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "rct": os.O_RDONLY | os.O_CREAT | os.O_TRUNC,
    "x": os.O_RDWR | os.O_EXCL, "d": os.O_RDONLY | os.O_DIRECTORY, "dw": os.O_RDWR | os.O_DIRECTORY,
    "dc": os.O_RDONLY | os.O_DIRECTORY | os.O_CREAT, "n": os.O_RDONLY | os.O_NOFOLLOW,
    "nw": os.O_WRONLY | os.O_NOFOLLOW, "nc": os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT,
    "nd": os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY, "p": os.O_PATH, "pn": os.O_PATH | os.O_NOFOLLOW,
    "pd": os.O_PATH | os.O_DIRECTORY, "pw": os.O_PATH | os.O_WRONLY, "pc": os.O_PATH | os.O_CREAT,
    "s": os.O_RDWR | os.O_SYNC, "ds": os.O_RDWR | os.O_DSYNC, "nb": os.O_RDONLY | os.O_NONBLOCK,
    "wnb": os.O_WRONLY | os.O_NONBLOCK, "na": os.O_RDONLY | os.O_NOATIME, "wna": os.O_WRONLY | os.O_NOATIME,
    "nctty": os.O_RDWR | os.O_NOCTTY, "direct": os.O_RDONLY | os.O_DIRECT,
}  # fmt: skip
TARGETS = (
    "file", "locked", "readonly", "dir", "shut", "tofile", "todir", "dangling", "loop", "missing",
    "missing/x", "file/x", "dir/new", "shut/new", "file/", "dir/", "missing/", "dangling/",
)  # fmt: skip


def populate() -> None:
    """What TARGETS names, the files of OWNER."""
    create("file", 0o644, b"content of a file\n")
    create("locked", 0, b"nobody")
    create("readonly", 0o444, b"read me")
    os.mkdir("dir", 0o755)
    os.mkdir("shut", 0o500)
    for name, target in (("tofile", "file"), ("todir", "dir"), ("dangling", "made"), ("loop", "loop")):
        os.symlink(target, name)
    for name in os.listdir("."):
        os.chown(name, OWNER.uid, OWNER.gid, follow_symlinks=False)


def opens() -> Iterator[Case]:
    """Every set of flags on every target."""
    for user, (name, flags) in itertools.product((ROOT, OWNER, OTHER), FLAGS.items()):
        yield case(
            f"open {name}",
            do(ROOT, populate),
            *(do(user, opened, target, flags, 0o640) for target in TARGETS),
        )


def rights() -> Iterator[Case]:
    """What the bits of each class allow to each class."""
    acts: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (opened, ("x", os.O_RDONLY)), (opened, ("x", os.O_WRONLY)), (opened, ("x", os.O_RDWR)),
        (opened, ("x", os.O_RDONLY | os.O_TRUNC)), (os.truncate, ("x", 5)), (os.utime, ("x",)),
        (os.utime, ("x", (5, 5))), (access, ("x", os.R_OK)), (access, ("x", os.W_OK)),
        (access, ("x", os.X_OK)),
        (access, ("x", os.R_OK | os.W_OK | os.X_OK)), (os.setxattr, ("x", "user.a", b"1")),
        (os.getxattr, ("x", "user.a")), (os.listxattr, ("x",)), (os.removexattr, ("x", "user.a")),
        (os.stat, ("x/none",)), (opened, ("x", os.O_RDONLY | os.O_NOATIME)), (run, ("./x",)),
    ]  # fmt: skip
    for kind, (shift, bits), user in itertools.product(
        ("file", "dir"), itertools.product((6, 3, 0), range(8)), (ROOT, OWNER, MEMBER, MEMBER_IN, OTHER)
    ):
        yield case(f"{bits}<<{shift} of a {kind}", thing(kind, mode=bits << shift), *(
            do(user, call, *arguments) for call, arguments in acts))  # fmt: skip


def run(path: str) -> int:
    """Execute a file: its exit status. Raises the errno of execve(2)."""
    pid = os.posix_spawn(path, [path], {})
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _append_twice() -> bytes:
    one, two = (os.open("x", os.O_RDWR | os.O_APPEND) for _ in range(2))
    try:
        for fd in (one, two, one, two):
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, b"%d," % (fd - one))
        os.pwrite(one, b"P", 0)
        return os.pread(two, 100, 0) + b" %d" % os.lseek(one, 0, os.SEEK_CUR)
    finally:
        os.close(one)
        os.close(two)


def _status_flags() -> list[Any]:
    fd = os.open("x", os.O_RDWR)
    try:
        said: list[Any] = []
        for flags in (os.O_APPEND, 0, os.O_APPEND | os.O_NONBLOCK, os.O_NOATIME, os.O_ASYNC):
            said.append(raised(fcntl.fcntl, fd, fcntl.F_SETFL, flags))
            said.append(fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME))
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, b"<%d>" % len(said))
        return [*said, os.pread(fd, 100, 0)]
    finally:
        os.close(fd)


def _maps() -> list[Any]:
    said: list[Any] = []
    for flags, prot, how in itertools.product(
        (os.O_RDONLY, os.O_RDWR, os.O_WRONLY), (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE),
        (mmap.MAP_SHARED, mmap.MAP_PRIVATE),
    ):  # fmt: skip
        fd = os.open("x", flags)
        try:
            with mmap.mmap(fd, 18, how, prot) as seen:
                if prot & mmap.PROT_WRITE:
                    seen[3:6] = b"MAP"
                    seen.flush()
                said.append(bytes(seen[:10]))
        except (OSError, ValueError) as error:
            said.append(repr(error))
        finally:
            os.close(fd)
    return [*said, with_fd("x", os.O_RDONLY, os.read, 100)]


def _map_and_write() -> list[Any]:
    fd = os.open("x", os.O_RDWR)
    try:
        with mmap.mmap(fd, 18) as seen:
            os.pwrite(fd, b"WRITTEN", 2)
            first = bytes(seen)
            seen[0:2] = b"mm"
            said = [first, os.pread(fd, 18, 0)]
            os.ftruncate(fd, 4096)
            said.append(os.pread(fd, 30, 0))
            os.pwrite(fd, b"far", 100)
            seen.resize(4096)
            said.append(bytes(seen[90:110]))
        return said
    finally:
        os.close(fd)


def _o_path() -> list[Any]:
    fd = os.open("x", os.O_PATH)
    try:
        return [
            raised(os.read, fd, 1), raised(os.fchmod, fd, 0o600), raised(os.ftruncate, fd, 1),
            raised(os.fsync, fd), raised(lambda: stat.S_IMODE(os.fstat(fd).st_mode)), raised(os.fchdir, fd),
            raised(lambda: opened(f"/proc/self/fd/{fd}", os.O_RDWR)),
            raised(lambda: os.chmod(f"/proc/self/fd/{fd}", 0o640)),
            raised(lambda: os.truncate(f"/proc/self/fd/{fd}", 3)), raised(os.lseek, fd, 0, os.SEEK_END),
        ]  # fmt: skip
    finally:
        os.close(fd)


def _directory_fd() -> list[Any]:
    fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    try:
        inner = os.open("in", os.O_RDWR | os.O_CREAT, 0o640, dir_fd=fd)
        os.write(inner, b"in")
        os.close(inner)
        os.mkdir("sub", dir_fd=fd)
        os.rename("in", "sub/out", src_dir_fd=fd, dst_dir_fd=fd)
        os.symlink("sub/out", "link", dir_fd=fd)
        os.rename("d", "e")
        os.link("link", "hard", src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=True)
        return [
            sorted(os.listdir(fd)), os.stat("link", dir_fd=fd).st_nlink, os.readlink("link", dir_fd=fd),
            raised(os.read, fd, 10), raised(os.write, fd, b"x"), raised(os.ftruncate, fd, 0),
            raised(os.fsync, fd), raised(os.pread, fd, 1, 0), raised(lambda: mmap.mmap(fd, 10)),
            raised(os.unlink, "hard", dir_fd=fd), raised(os.rmdir, "sub", dir_fd=fd),
        ]  # fmt: skip
    finally:
        os.close(fd)


def _seeks() -> list[Any]:
    with open("x", "r+b", buffering=0) as file:
        fd = file.fileno()
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"a" * 4096, 0)
        os.pwrite(fd, b"b" * 4096, 65536)
        return [
            raised(os.lseek, fd, *where)
            for where in ((5, 0), (-1, 0), (-5, 1), (0, 2), (-3, 2), (10, 2), (0, 9), (2**63 - 1, 1))
        ]  # fmt: skip


def _runs(pid: int, path: str) -> bool:
    """Is a child past its execve(2). Before that it has our saved uid, root's, and a plain uid may not ask
    what it runs: EACCES."""
    try:
        return os.readlink(f"/proc/{pid}/exe") == os.path.realpath(path)
    except OSError:
        return False


def _text_busy(path: str = "prog") -> list[Any]:
    with open("/bin/sleep", "rb") as source:
        program = source.read()
    create(path, 0o755, program)
    pid = os.fork()
    if pid == 0:
        try:
            os.execve(path, [path, "30"], {})
        finally:
            os._exit(99)
    try:
        deadline = time.monotonic() + _RUNS_S
        while not _runs(pid, path):
            assert time.monotonic() < deadline, "it is not executed"
            os.sched_yield()
        ways = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_TRUNC)
        said = [(raised(opened, path, flags), os.stat(path).st_size > 5) for flags in ways]
        said += [
            raised(os.truncate, path, 5),
            raised(os.chmod, path, 0o700),
            raised(os.rename, path, "moved"),
        ]
        said += [raised(os.unlink, "moved")]
        return said
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _run_while_written() -> list[Any]:
    create("script", 0o755, b"#!/bin/sh\nexit 3\n")
    fd = os.open("script", os.O_RDWR)
    try:
        busy = raised(run, "./script")
    finally:
        os.close(fd)
    return [busy, raised(run, "./script")]


def descriptors() -> Iterator[Case]:
    """What can be done with a descriptor."""
    for user in (ROOT, OWNER):
        for call in (_append_twice, _status_flags, _maps, _map_and_write, _o_path, _seeks):
            yield case("descriptors", thing("file", mode=0o644), do(user, call))
        yield case("directory descriptors", thing("dir", "d"), do(user, _directory_fd))
    for user in (ROOT, OWNER):
        yield case("running programs", do(user, _text_busy), do(user, _run_while_written))
    yield case(
        "in a dangling symlink's place", do(ROOT, os.symlink, "made", "l"),
        do(OWNER, opened, "l", os.O_RDWR | os.O_CREAT | os.O_EXCL),
        do(OWNER, opened, "l", os.O_RDWR | os.O_CREAT), do(OWNER, write, "l", b"through the link"),
        do(OWNER, os.unlink, "made"), do(OWNER, opened, "l", os.O_RDONLY), do(OWNER, os.mkdir, "l"),
        do(OWNER, os.symlink, "x", "l"), do(OWNER, os.link, "l", "m"), do(OWNER, os.rename, "m", "made"),
        do(OWNER, opened, "l", os.O_RDWR | os.O_CREAT),
    )  # fmt: skip
    yield case(
        "sticky directories protect from O_CREAT",
        things(("dir", "d", 0, 0, 0o1777), ("file", "d/x", 65534, 65534, 0o666)),
        do(OTHER, opened, "d/x", os.O_RDWR | os.O_CREAT), do(ROOT, opened, "d/x", os.O_RDWR | os.O_CREAT),
        do(OWNER, opened, "d/x", os.O_RDWR | os.O_CREAT), do(OTHER, opened, "d/x", os.O_RDWR),
    )  # fmt: skip
    yield case(
        "names of every byte",
        *(do(OWNER, create, os.fsdecode(bytes([byte]))) for byte in range(1, 256) if byte not in b"./"),
        do(OWNER, list_sorted, "."),
    )  # fmt: skip


def all_cases() -> list[Case]:
    """Every case of this table."""
    return [*opens(), *rights(), *descriptors()]

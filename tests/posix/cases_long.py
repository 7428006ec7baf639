"""Long names and paths, chains of symlinks, and the errors of every call that takes a path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from tests.posix.calls import access, create, lchown, list_sorted, opened, raised, renameat2
from tests.posix.cases_attrs import OTHER, OWNER, thing
from tests.posix.cases_names import mknod, things
from tests.posix.sides import ROOT, Case, case, do

LONGEST = "n" * 255
PATH_MAX = 4096

ON_PATH: dict[str, Callable[[str], Any]] = {
    "stat": lambda p: os.stat(p).st_mode,
    "lstat": lambda p: os.lstat(p).st_mode,
    "open": lambda p: opened(p, os.O_RDONLY),
    "open to write": lambda p: opened(p, os.O_WRONLY),
    "create": create,
    "create or open": lambda p: opened(p, os.O_RDWR | os.O_CREAT),
    "mkdir": os.mkdir,
    "mknod": lambda p: mknod(p, 0o600),
    "symlink": lambda p: os.symlink("t", p),
    "link to": lambda p: os.link("file", p),
    "link from": lambda p: os.link(p, "new"),
    "rename to": lambda p: os.rename("file", p),
    "rename from": lambda p: os.rename(p, "new"),
    "exchange": lambda p: renameat2("file", p, 2),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "chmod": lambda p: os.chmod(p, 0o600),
    "chown": lambda p: os.chown(p, -1, -1),
    "lchown": lambda p: lchown(p, -1, -1),
    "utime": os.utime,
    "truncate": lambda p: os.truncate(p, 3),
    "readlink": os.readlink,
    "access": lambda p: access(p, os.R_OK),
    "list": list_sorted,
    "chdir": lambda p: os.close(os.open(p, os.O_PATH | os.O_DIRECTORY)),
    "getxattr": lambda p: os.getxattr(p, "user.a"),
    "setxattr": lambda p: os.setxattr(p, "user.a", b"1"),
    "statvfs": lambda p: os.statvfs(p).f_namemax,
}


def padded(name: str, length: int, slash: str = "./") -> str:
    """A path to *name* of exactly that many bytes, by going nowhere."""
    room = length - len(name)
    return slash * (room // 2) + name if room % 2 == 0 else slash * (room // 2 - 1) + ".//" + name


def bad_paths() -> Iterator[Case]:
    """Each call on each kind of bad path."""
    chain = [(f"c{number}", f"c{number + 1}") for number in range(45)]

    def prepare() -> None:
        create("file", 0o644, b"content of a file\n")
        os.mkdir("dir")
        os.symlink("loop", "loop")
        os.symlink("two", "one")
        os.symlink("one", "two")
        os.symlink("file", "link")
        os.symlink("x" * 300, "to long")
        os.symlink("y/" * 2047, "to far")
        for name, target in chain:
            os.symlink(target, name)
        os.symlink("file", "c45")
        create(LONGEST, 0o644, b"a long name")
        os.mkdir("d" * 255)
        for name in ("file", "dir", LONGEST, "d" * 255, "link", "c45", "loop"):
            os.chown(name, OWNER.uid, OWNER.gid, follow_symlinks=False)

    paths = (
        LONGEST, "m" * 255, "m" * 256, "m" * 1000, "m" * 4000, "d" * 255 + "/" + "m" * 255,
        "dir/" + "m" * 256, "missing/" + "m" * 256, padded("file", PATH_MAX - 1), padded("file", PATH_MAX),
        padded("new", PATH_MAX - 1), padded("new", PATH_MAX), padded("dir", PATH_MAX - 1), "m" * 5000, "loop",
        "loop/x", "one", "one/x", "c5", "c6", "c4", "c0", "to long", "to far", "to long/x", "file/x", "file/",
        "file/.", "link/x", "link/", "missing/x", "", "dir/../file", "dir/missing/../../file", "./././file",
        "dir//..//file", "..", "dir/.", "dir/..", "\udcff\udcfe", " ", "\n", "...", "..x", "a\\b", "*?", "-",
        "dir/\x01",
    )  # fmt: skip
    for name, call in ON_PATH.items():
        for user in (ROOT, OWNER):
            steps = (do(user, named(name, call), path) for path in paths)
            yield case("bad path", do(ROOT, prepare), *steps)


def named(name: str, call: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same call under a name for people."""

    def wrapped(path: str) -> Any:
        return call(path)

    wrapped.__name__ = name
    return wrapped


def name_lengths() -> Iterator[Case]:
    """Names of every length at the limit, in pairs."""
    for length in (1, 2, 127, 128, 250, 251, 252, 253, 254, 255, 256, 257, 300):
        name, other = "a" * length, "b" * length
        yield case(
            f"names of {length}", do(OWNER, create, name, 0o644, b"text"), do(OWNER, os.link, name, other),
            do(OWNER, os.unlink, name), do(OWNER, os.rename, other, name), do(OWNER, os.mkdir, other),
            do(OWNER, os.rename, name, f"{other}/{name}"), do(OWNER, renameat2, f"{other}/{name}", name, 1),
            do(OWNER, os.symlink, name, f"{other}/{other}"), do(OWNER, list_sorted, other),
            do(OWNER, os.readlink, f"{other}/{other}"), do(OWNER, os.symlink, "t" * length, "short"),
            do(ROOT, os.chown, name, 1, 2), do(OWNER, os.rmdir, other),
        )  # fmt: skip
    for length in (1, 59, 60, 61, 255, 256, 1023, 1024, 4000, 4094, 4095, 4096):
        yield case(
            f"targets of {length}", do(OWNER, os.symlink, "t" * length, "l"),
            do(OWNER, lambda: len(os.readlink("l"))), do(OWNER, lambda: os.lstat("l").st_size),
        )  # fmt: skip
    yield case(
        "names in UTF-8 of 255 bytes", do(OWNER, create, "ä" * 127 + "x"), do(OWNER, create, "ä" * 128),
        do(OWNER, os.mkdir, "\N{GRINNING FACE}" * 63), do(OWNER, list_sorted, "."),
    )  # fmt: skip


def deep_walk(levels: int, name: str) -> list[Any]:
    """Go down beyond PATH_MAX by relative steps, work there, and come back up cleaning."""
    fds = [os.open(".", os.O_RDONLY | os.O_DIRECTORY)]
    said: list[Any] = []
    try:
        for _ in range(levels):
            os.mkdir(name, 0o755, dir_fd=fds[-1])
            fds.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fds[-1]))
        back = os.open(".", os.O_PATH)
        os.fchdir(fds[-1])
        create("file", 0o640, b"deep down")
        os.link("file", "hard")
        os.rename("file", "moved")
        os.symlink("moved", "link")
        os.setxattr("moved", "user.a", b"1")
        with open("link", "rb") as file:
            said.append(file.read())
        said += [sorted(os.listdir(".")), os.stat("hard").st_nlink, raised(lambda: os.getcwd()[-5:])]
        said.append(os.getxattr("hard", "user.a"))
        os.truncate("moved", 2)
        os.chmod("moved", 0o600)
        os.mkdir("d")
        os.rename("moved", "d/m")
        os.rename("d", "../d")
        said += [os.stat("../d/m").st_size, raised(os.stat, "./" * 2046 + "hard")]
        said.append(raised(os.rmdir, f"../{name}"))
        for path in ("hard", "link", "../d/m"):
            os.unlink(path)
        os.rmdir("../d")
        os.fchdir(back)
        os.close(back)
        for above in reversed(fds[:-1]):
            os.rmdir(name, dir_fd=above)
    finally:
        for fd in fds:
            os.close(fd)
    return said


def deep() -> Iterator[Case]:
    """Beyond PATH_MAX, and deep."""
    for levels, name in ((20, LONGEST), (150, "short"), (16, "m" * 254), (40, "k" * 128)):
        yield case(f"{levels} levels of {len(name)}", do(OWNER, deep_walk, levels, name))
    yield case(
        "a directory that is moved below PATH_MAX", do(OWNER, os.makedirs, "/".join(["p" * 250] * 10)),
        do(OWNER, os.makedirs, "/".join(["q" * 250] * 10) + "/end"),
        do(OWNER, os.rename, "p" * 250, "/".join(["q" * 250] * 10) + "/moved"),
        do(OWNER, access, "/".join(["q" * 250] * 10) + "/moved/" + "/".join(["p" * 250] * 6), 0),
    )  # fmt: skip


def both_ends() -> Iterator[Case]:
    """Calls with two paths, of which one or both are bad."""
    bad = ("m" * 256, "missing/x", "file/x", "loop/x", "shut/x", "m" * 5000, "", "dir", "dir/", "file")
    for call in (os.rename, os.link):
        for old in (*bad, "y"):
            for new in (*bad, "new"):
                yield case(
                    "both ends",
                    things(
                        ("file", "file"), ("dir", "dir"), ("dir", "shut", 65533, 65533, 0o700), ("file", "y")
                    ),
                    do(ROOT, os.symlink, "loop", "loop"),
                    do(OWNER, call, old, new),
                )
    yield case("links of others' files", thing("file", mode=0o600), do(OTHER, os.link, "x", "y"),
               do(OTHER, os.rename, "x", "z"), do(OTHER, os.unlink, "z"))  # fmt: skip


def all_cases() -> list[Case]:
    """Every case of this table."""
    return [*name_lengths(), *deep(), *both_ends(), *bad_paths()]

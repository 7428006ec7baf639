"""Long random walks over a small tree, step by step the same through the mount as natively.

Each walk keeps some files open over renames, unlinks and truncations, which is where names, nodes
and handles part. A walk that differs is found again by its seed.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machine.counts import count
from tests.support.models.twins import ROADS, Twins, attempt, twins_on

NAMES = ("a", "b", "c", "d", "d/a", "d/b", "e", "e/a", "e/f", "e/f/b")
FLAGS = (
    os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND | os.O_CREAT,
    os.O_RDWR | os.O_APPEND, os.O_RDONLY | os.O_DIRECTORY, os.O_RDWR | os.O_NOFOLLOW,
)  # fmt: skip
MOST_OPEN = 6
SPACE = 40_000
STEPS = 500


def marks(status: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return (status.st_mode, status.st_nlink, size, status.st_uid)


class Walk:
    """One walk; every choice comes from the seed and from what the calls before returned."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.open: list[int] = []

    def name(self) -> str:
        return self.chance.choice(NAMES)

    def fd(self) -> int:
        if not self.open:
            raise OSError(errno.EBADF, "nothing is open")
        return self.chance.choice(self.open)

    def data(self) -> bytes:
        return bytes(self.chance.choices(b"abcdefgh\n", k=self.chance.choice((1, 10, 700, 5000))))

    def step(self) -> tuple[str, Any]:
        """Make one call; what it was, and what it came to."""
        call = self.chance.choice(self.calls())
        return call.__name__, attempt(call)

    def calls(self) -> list[Any]:
        return [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]

    # ------------------------------------------------------------ descriptors

    def do_open(self) -> None:
        while len(self.open) >= MOST_OPEN:
            os.close(self.open.pop(0))
        self.open.append(os.open(self.name(), self.chance.choice(FLAGS), 0o644))

    do_open_again = do_open_more = do_open

    def do_close(self) -> None:
        if self.open:
            os.close(self.open.pop(self.chance.randrange(len(self.open))))

    def do_pwrite(self) -> int:
        return os.pwrite(self.fd(), self.data(), self.chance.randrange(SPACE))

    def do_write(self) -> int:
        return os.write(self.fd(), self.data())

    def do_pread(self) -> bytes:
        return os.pread(self.fd(), self.chance.choice((10, 4096, SPACE)), self.chance.randrange(SPACE))

    def do_read(self) -> bytes:
        return os.read(self.fd(), self.chance.choice((10, SPACE)))

    def do_seek(self) -> int:
        return os.lseek(self.fd(), self.chance.randrange(SPACE), os.SEEK_SET)

    def do_seek_end(self) -> int:
        fd = self.fd()
        return 0 if stat.S_ISDIR(os.fstat(fd).st_mode) else os.lseek(fd, 0, os.SEEK_END)

    def do_ftruncate(self) -> None:
        os.ftruncate(self.fd(), self.chance.choice((0, 5, 4096, 30_000)))

    def do_fstat(self) -> tuple[int, ...]:
        return marks(os.fstat(self.fd()))

    def do_fchmod(self) -> None:
        os.fchmod(self.fd(), self.chance.choice((0o700, 0o755, 0o711)))

    def do_futimens(self) -> int:
        fd = self.fd()
        os.utime(fd, ns=(1, self.chance.randrange(10**18)))
        return os.fstat(fd).st_mtime_ns

    def do_fsync(self) -> None:
        os.fsync(self.fd())

    def do_reopen(self) -> None:
        fd = self.fd()
        if len(self.open) < MOST_OPEN:
            self.open.append(os.open(f"/proc/self/fd/{fd}", self.chance.choice((os.O_RDONLY, os.O_RDWR))))

    def do_map(self) -> bytes:
        fd = self.fd()
        size = os.fstat(fd).st_size
        if not 0 < size <= SPACE:
            return b""
        with mmap.mmap(fd, size) as area:
            at = self.chance.randrange(size)
            area[at : at + 1] = b"M"
            return area[max(0, at - 20) : at + 20]

    def do_fsetxattr(self) -> bytes:
        fd = self.fd()
        os.setxattr(fd, "user.x", self.data()[:100])
        return os.getxattr(fd, "user.x")

    def do_copy_range(self) -> int:
        return os.copy_file_range(self.fd(), self.fd(), 1000, self.chance.randrange(SPACE), 20_000)

    # ------------------------------------------------------------ names

    def do_unlink(self) -> None:
        os.unlink(self.name())

    def do_rename(self) -> None:
        os.rename(self.name(), self.name())

    do_rename_again = do_rename

    def do_rename2(self) -> None:
        from policyfs.linux import libc

        at = os.open(".", os.O_PATH)
        try:
            old, new = os.fsencode(self.name()), os.fsencode(self.name())
            if b"/" not in old + new:
                libc.rename2(at, old, at, new, self.chance.choice((1, 2)))
        finally:
            os.close(at)

    def do_link(self) -> None:
        os.link(self.name(), self.name(), follow_symlinks=False)

    def do_symlink(self) -> None:
        os.symlink(self.chance.choice(("a", "../a", "d", "missing")), self.name())

    def do_mkdir(self) -> None:
        os.mkdir(self.name())

    do_mkdir_again = do_mkdir

    def do_rmdir(self) -> None:
        os.rmdir(self.name())

    def do_mknod(self) -> None:
        os.mknod(self.name())

    def do_truncate(self) -> None:
        os.truncate(self.name(), self.chance.choice((0, 7, 9000)))

    def do_chmod(self) -> None:
        os.chmod(self.name(), self.chance.choice((0o700, 0o755)))

    def do_setxattr(self) -> list[str]:
        name = self.name()
        os.setxattr(name, "user.y", b"1")
        return sorted(os.listxattr(name))

    # ------------------------------------------------------------ looking

    def do_stat(self) -> tuple[int, ...]:
        return marks(os.stat(self.name()))

    def do_lstat(self) -> tuple[int, ...]:
        return marks(os.lstat(self.name()))

    def do_list(self) -> list[str]:
        return sorted(os.listdir(self.chance.choice((".", "d", "e", "e/f"))))

    def do_readlink(self) -> str:
        return os.readlink(self.name())

    def do_content(self) -> bytes:
        with open(self.name(), "rb") as file:
            return file.read()

    def do_same(self) -> list[bool]:
        numbers = []
        for name in NAMES:
            with contextlib.suppress(OSError):
                numbers.append(os.lstat(name).st_ino)
        fds = [os.fstat(fd).st_ino for fd in self.open]
        return [one == two for one in numbers + fds for two in numbers + fds]


def walk(seed: int) -> list[tuple[str, Any]]:
    """Every step of one walk."""
    os.umask(0o022)
    os.mkdir("inside")  # so that what a symlink to ../a makes lies in the open
    os.chdir("inside")
    way = Walk(seed)
    try:
        return [way.step() for _ in range(STEPS)]
    finally:
        for fd in way.open:
            os.close(fd)


@pytest.fixture(scope="module", params=ROADS, ids=lambda road: road.name)
def twins(request, module_arena) -> Iterator[Twins]:
    with twins_on(request.param, module_arena) as made:
        yield made


def test_random_walks_are_as_natively(twins: Twins) -> None:
    for seed in range(count(1, 300)):
        ours, theirs = twins.both(lambda seed=seed: walk(seed))
        for number, (one, two) in enumerate(zip(ours.value, theirs.value, strict=True)):
            before = [
                f"{name}: {str(said)[:40]}" for name, said in theirs.value[max(0, number - 12) : number]
            ]
            assert one == two, f"seed {seed}, step {number}, after {before}: {one} is not {two}"
        assert twins.left[0] == twins.left[1], f"seed {seed}: what is left"

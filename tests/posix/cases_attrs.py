"""chmod, chown, utimens and truncation: who may, what becomes of modes, owners, sizes and times."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from tests.posix.calls import (
    NOW,
    OMIT,
    access,
    create,
    fchmod,
    fchown,
    ftruncate,
    lchown,
    list_sorted,
    make,
    opened,
    pwrite,
    read,
    times_of,
    utimens,
    with_fd,
    write,
)
from tests.posix.sides import ROOT, Case, Step, User, case, do

OWNER = User(65534, 65534)
OWNER_AWAY = User(65534, 65533)  # the owner, in a group that is not the file's
OWNER_IN = User(65534, 65533, (65534,))  # the file's group is a supplementary one
OWNER_MANY = User(65534, 65532, (65531, 65530))
MEMBER = User(65533, 65534)
MEMBER_IN = User(65533, 65532, (65534, 65531))
OTHER = User(65533, 65533)
USERS = (ROOT, OWNER, OWNER_AWAY, OWNER_IN, OWNER_MANY, MEMBER, MEMBER_IN, OTHER)


def thing(kind: str, name: str = "x", uid: int = 65534, gid: int = 65534, mode: int | None = None) -> Step:
    """root makes one thing that belongs to somebody."""
    return do(ROOT, make, kind, name, uid, gid, mode)


def chmods() -> Iterator[Case]:
    """chmod(2), fchmod(2), through a symlink."""
    modes = (0o111, 0o222, 0o444, 0, 0o777, 0o1777, 0o2755, 0o2745, 0o4755, 0o6755, 0o7777)
    for kind in ("file", "dir", "fifo", "socket", "char", "block"):
        for user in USERS:
            steps: list[Step] = [thing(kind)]
            for mode in modes:
                steps += [do(user, os.chmod, "x", mode), do(ROOT, os.chmod, "x", 0o644)]
            yield case(f"chmod of a {kind}", *steps)
    for user in (ROOT, OWNER, OTHER):
        yield case(
            "chmod through links", thing("file"), thing("dir", "d"),
            do(ROOT, os.symlink, "x", "l"), do(ROOT, os.symlink, "d", "m"), do(ROOT, os.symlink, "none", "n"),
            do(user, os.chmod, "l", 0o640), do(user, os.chmod, "m", 0o711), do(user, os.chmod, "n", 0o600),
            do(user, fchmod, "x", 0o600), do(user, fchmod, "x", 0o4711), do(user, fchmod, "d", 0o2711),
            do(user, os.chmod, "missing", 0o600), do(user, os.chmod, "x/y", 0o600),
        )  # fmt: skip


def chowns() -> Iterator[Case]:
    """chown(2), lchown(2), fchown(2); what becomes of suid and sgid."""
    targets = (
        (0, 0), (123, 456), (-1, -1), (65534, -1), (-1, 65534), (65534, 65534), (-1, 65533), (-1, 65532),
        (65534, 65531), (65533, -1), (4294967294, -1), (-1, 4294967294), (70000, 3000000000),
    )  # fmt: skip
    for kind, mode in (("file", 0o644), ("file", 0o6555), ("file", 0o2745), ("file", 0o4644), ("dir", 0o755),
                       ("dir", 0o6555), ("link", None),
        ("fifo", 0o6555),
        ("socket", 0o644),
        ("char", 0o6555),
        ("block", 0o644)):  # fmt: skip
        for user in USERS:
            steps: list[Step] = [thing(kind, mode=mode)]
            for uid, gid in targets:
                steps.append(do(user, lchown, "x", uid, gid))
                steps.append(do(ROOT, lchown, "x", 65534, 65534))
                if mode is not None:
                    steps.append(do(ROOT, os.chmod, "x", mode))
            yield case(f"chown of a {kind} of mode {mode or 0:o}", *steps)
    for user in (ROOT, OWNER_IN, OWNER_MANY, OTHER):
        yield case(
            "chown through links", thing("file", mode=0o6755), thing("dir", "d"),
            do(ROOT, os.symlink, "x", "l"), do(ROOT, os.symlink, "d", "m"), do(ROOT, os.symlink, "none", "n"),
            do(user, os.chown, "l", -1, 65534), do(user, os.chown, "m", -1, 65531),
            do(user, os.chown, "n", -1, 65531), do(user, fchown, "x", -1, 65531),
            do(user, os.chown, "l", 65534, 65530), do(user, os.chown, "x/", -1, 65531),
            do(user, os.chown, "x/y", -1, -1), do(user, os.chown, "missing", -1, -1),
        )  # fmt: skip


def utimes() -> Iterator[Case]:
    """utimensat(2): now, omit, values; the owner, a writer, others."""
    values: tuple[int | tuple[int, int], ...] = (NOW, OMIT, (1_000_000_000, 123_456_789))
    for kind, mode in (("file", 0o644), ("file", 0o666), ("file", 0o444), ("file", 0), ("dir", 0o755),
                       ("dir", 0o777)):  # fmt: skip
        for user in (ROOT, OWNER, MEMBER, OTHER):
            steps = [thing(kind, mode=mode)]
            for atime, mtime in itertools.product(values, values):
                steps += [
                    do(ROOT, utimens, "x", (5, 5), (7, 7)),
                    do(user, utimens, "x", atime, mtime),
                ]
                if NOW not in {atime, mtime}:
                    steps.append(do(ROOT, times_of, "x"))
            steps += [do(user, os.utime, "x"), do(user, with_fd, "x", os.O_RDONLY, os.utime)]
            yield case(f"utimens of a {kind} of mode {mode:o}", *steps, atime=True)
    odd = ((0, 0), (-1, 0), (-1, 999_999_999), (-(2**31), 0), (2**31 - 1, 1), (2**31, 1), (2**32 + 5, 7),
           (2**33, 9), (15_032_385_535, 0), (2**34, 0), (2**62, 0), (1, 1_000_000_000), (1, -5))  # fmt: skip
    for kind in ("file", "dir", "link", "fifo"):
        steps = [thing(kind)]
        for value in odd:
            steps += [do(OWNER, utimens, "x", value, value, 0x100), do(OWNER, times_of, "x")]
        yield case(f"odd times of a {kind}", *steps, atime=True)
    yield case(
        "now is the same for all", thing("file"), do(OWNER, utimens, "x", NOW, NOW),
        do(ROOT, lambda: (s := os.stat("x")).st_atime_ns == s.st_mtime_ns <= s.st_ctime_ns),
        do(OWNER, os.utime, "x"),
        do(ROOT, lambda: (s := os.stat("x")).st_atime_ns == s.st_mtime_ns <= s.st_ctime_ns),
    )  # fmt: skip
    yield case(
        "utimens on links", thing("file"), do(ROOT, os.symlink, "x", "l"),
        do(ROOT, lchown, "l", 65534, 65534),
        do(OWNER, utimens, "l", (9, 9), (9, 9)), do(OWNER, utimens, "l", (8, 8), (8, 8), 0x100),
        do(OTHER, utimens, "l", (6, 6), (6, 6), 0x100), do(OTHER, utimens, "l", NOW, NOW, 0x100),
        do(OWNER, utimens, "missing", NOW, NOW), do(OWNER, utimens, "x/y", NOW, NOW),
        do(ROOT, times_of, "x"), atime=True,
    )  # fmt: skip


def suid_goes() -> Iterator[Case]:
    """suid and sgid go when somebody writes, truncates, or gives the file away."""
    acts = {
        "write": lambda: write("x", b"abc"),
        "write nothing": lambda: write("x", b""),
        "append": lambda: write("x", b"abc", os.O_WRONLY | os.O_APPEND),
        "pwrite far": lambda: pwrite("x", b"abc", 70_000),
        "truncate": lambda: os.truncate("x", 3),
        "truncate longer": lambda: os.truncate("x", 300),
        "truncate to the same": lambda: os.truncate("x", 18),
        "ftruncate": lambda: ftruncate("x", 2),
        "open to truncate": lambda: opened("x", os.O_WRONLY | os.O_TRUNC),
        "open to read and truncate": lambda: opened("x", os.O_RDONLY | os.O_TRUNC),
        "open to write": lambda: opened("x", os.O_WRONLY),
        "touch": lambda: os.utime("x"),
        "read": lambda: read("x"),
        "fallocate": lambda: with_fd("x", os.O_RDWR, os.posix_fallocate, 0, 1000),
    }
    for mode in (0o4777, 0o2777, 0o6777, 0o2767, 0o6666, 0o1777):
        for user in (ROOT, OWNER, MEMBER, OTHER):
            for name, act in acts.items():
                act.__name__ = name
                yield case(f"{name} of mode {mode:o}", thing("file", mode=mode), do(user, act))


def sizes() -> Iterator[Case]:
    """truncate(2) and ftruncate(2)."""
    lengths = (0, 1, 17, 18, 19, 4095, 4096, 4097, 1_000_000, 2**31, 2**32 + 1, 2**40, 2**44, 2**62,
               2**63 - 1, -1)  # fmt: skip
    for user in (ROOT, OWNER, OTHER):
        steps: list[Step] = [thing("file", mode=0o644)]
        for length in lengths:
            steps += [do(user, os.truncate, "x", length), do(user, ftruncate, "x", length)]
            steps += [do(ROOT, read, "x"), do(ROOT, os.truncate, "x", 18)]
        yield case("truncate", *steps)
    for user in (OWNER, OTHER):
        yield case(
            "truncate what cannot be", thing("file", mode=0o444), thing("dir", "d"), thing("link", "l"),
            do(ROOT, os.symlink, "x", "m"), do(user, os.truncate, "x", 0), do(user, os.truncate, "d", 0),
            do(user, os.truncate, "l", 0), do(user, os.truncate, "m", 0), do(user, os.truncate, "x/", 0),
            do(user, os.truncate, "missing", 0), do(user, ftruncate, "x", 0, os.O_RDONLY),
            do(user, ftruncate, "d", 0, os.O_RDONLY), do(user, os.truncate, "x" * 256, 0),
        )  # fmt: skip
    holes = ((0, 5), (10_000, 3), (4096, 1), (2**31 - 1, 2), (2**33, 1))
    steps = [thing("file", mode=0o644)]
    for offset, length in holes:
        steps += [
            do(OWNER, pwrite, "x", b"z" * length, offset),
            do(OWNER, with_fd, "x", os.O_RDONLY, lambda fd, o=offset: os.pread(fd, 20, max(0, o - 10))),
            do(OWNER, lambda: os.stat("x").st_blocks),
        ]
    yield case("holes", *steps)
    far = (2**44 - 4098, 2**44 - 4096, 2**44, 2**62, 2**63 - 4097, 2**63 - 2, 2**63 - 1)
    for offset in far:
        yield case(
            "far away", thing("file", mode=0o644), do(OWNER, pwrite, "x", b"zz", offset),
            do(OWNER, with_fd, "x", os.O_RDONLY, pread_at, offset),
            do(OWNER, with_fd, "x", os.O_RDWR, os.posix_fallocate, offset, 1),
            do(ROOT, os.truncate, "x", 18), do(OWNER, with_fd, "x", os.O_RDWR, seek, offset, os.SEEK_SET),
        )  # fmt: skip
        yield case(
            "far away", thing("file", mode=0o644),
            do(OWNER, with_fd, "x", os.O_RDWR, seek, offset, os.SEEK_END),
        )  # fmt: skip


def pread_at(fd: int, offset: int) -> bytes:
    """A few bytes there."""
    return os.pread(fd, 20, offset)


def seek(fd: int, offset: int, whence: int) -> int:
    """lseek(2)."""
    return os.lseek(fd, offset, whence)


def atimes() -> Iterator[Case]:
    """relatime: the first look after a change moves the access time, the next does not."""
    for user in (ROOT, OWNER):
        yield case(
            "atime", thing("file", mode=0o644), do(user, read, "x"), do(user, read, "x"),
            do(user, write, "x", b"new"), do(user, read, "x"), do(user, read, "x"),
            do(user, os.chmod, "x", 0o600), do(user, read, "x"),
            do(ROOT, utimens, "x", (5, 5), OMIT), do(user, read, "x"),
            do(user, with_fd, "x", os.O_RDONLY | os.O_NOATIME, os.read, 10),
            do(user, access, "x", os.R_OK), do(user, opened, "x", os.O_RDONLY), atime=True, slowly=True,
        )  # fmt: skip
        yield case(
            "atime of a directory", thing("dir", mode=0o755), do(user, list_sorted, "x"),
            do(user, list_sorted, "x"), do(user, create, "x/a"), do(user, list_sorted, "x"),
            do(user, list_sorted, "x"), do(user, os.unlink, "x/a"), do(user, list_sorted, "x"),
            atime=True, slowly=True,
        )  # fmt: skip
        yield case(
            "atime of a symlink", thing("link"), do(user, os.readlink, "x"), do(user, os.readlink, "x"),
            do(ROOT, utimens, "x", (5, 5), OMIT, 0x100), do(user, os.readlink, "x"), atime=True, slowly=True,
        )  # fmt: skip


def all_cases() -> list[Case]:
    """Every case of this table."""
    return [*chmods(), *chowns(), *utimes(), *suid_goes(), *sizes(), *atimes()]

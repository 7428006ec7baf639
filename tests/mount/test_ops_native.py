"""Every call that names a path, on everything a path can lead to: as natively, on a real mount."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.models.twins import ROADS, UID, Case, Twins, twins_on

TARGETS = (
    "file", "empty", "script", "dir", "vacant", "tofile", "todir", "dangling", "loop", "hard", "missing",
    "missing/x", "file/x", "dir/inner", "dir/sub", "dir/.", "dir/..", "dir/sub/../inner", "file/", "dir/",
    "missing/", "tofile/", "todir/", "todir/inner", "tofile/x", "dangling/x", "loop/x", ".", "..", "",
    "n" * 255, "n" * 256, "dir/" + "n" * 256, "dir/" * 1100,
)  # fmt: skip


PARTS = count(4, 1)
"""Each call is made on one target in so many, its neighbour on the next."""


def plain(status: os.stat_result) -> tuple[int | str, ...]:
    """What two stat()s of twins have in common."""
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    blocks = 0 if stat.S_ISDIR(status.st_mode) else status.st_blocks
    return (
        oct(status.st_mode),
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        size,
        blocks,
        status.st_blksize,
    )


def opened(flags: int, path: str) -> tuple[int, int, bytes]:
    """Open with these flags; the access mode, where the file begins, its first bytes if readable."""
    import fcntl

    fd = os.open(path, flags, 0o640)
    try:
        got = b""
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        if regular and flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_PATH:
            got = os.read(fd, 100)
        if regular and flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_PATH:
            os.write(fd, b"NEW")
        # O_LARGEFILE and O_NOATIME are nobody's business.
        flags_seen = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC)
        return flags_seen, os.lseek(fd, 0, os.SEEK_CUR) if regular and not flags & os.O_PATH else 0, got
    finally:
        os.close(fd)


def listed(path: str) -> list[tuple[str, bool, bool, bool]]:
    with os.scandir(path) as entries:
        return sorted(
            (entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False),
             entry.is_symlink()) for entry in entries
        )  # fmt: skip


def times(path: str, *, follow: bool) -> tuple[int, int]:
    os.utime(path, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321), follow_symlinks=follow)
    status = os.stat(path, follow_symlinks=follow)
    return status.st_atime_ns, status.st_mtime_ns


def renameat2(old: str, new: str, flags: int) -> None:
    from policyfs.linux import libc

    at = os.open(".", os.O_PATH)
    try:
        libc.rename2(at, os.fsencode(old), at, os.fsencode(new), flags)
    finally:
        os.close(at)


def xattrs(path: str) -> tuple[bytes, list[str]]:
    os.setxattr(path, "user.a", b"1")
    os.setxattr(path, "user.a", b"22", os.XATTR_REPLACE)
    os.setxattr(path, "user.b", b"")
    os.removexattr(path, "user.b")
    return os.getxattr(path, "user.a"), sorted(os.listxattr(path))


ON_ONE: dict[str, Callable[[str], object]] = {
    "stat": lambda p: plain(os.stat(p)),
    "lstat": lambda p: plain(os.lstat(p)),
    "access": lambda p: [os.access(p, mode) for mode in (os.F_OK, os.R_OK, os.W_OK)],
    "access exec": lambda p: os.access(p, os.X_OK) or os.path.isdir(p),
    "readlink": os.readlink,
    "list": listed,
    "chdir": lambda p: (os.chdir(p), os.path.basename(os.getcwd()))[1],
    "open read": functools.partial(opened, os.O_RDONLY),
    "open write": functools.partial(opened, os.O_WRONLY),
    "open both": functools.partial(opened, os.O_RDWR),
    "open append": functools.partial(opened, os.O_WRONLY | os.O_APPEND),
    "open append both": functools.partial(opened, os.O_RDWR | os.O_APPEND),
    "open truncate": functools.partial(opened, os.O_WRONLY | os.O_TRUNC),
    "open read truncate": functools.partial(opened, os.O_RDONLY | os.O_TRUNC),
    "open create": functools.partial(opened, os.O_RDWR | os.O_CREAT),
    "open create read": functools.partial(opened, os.O_RDONLY | os.O_CREAT),
    "open create truncate": functools.partial(opened, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    "open create new": functools.partial(opened, os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "open create append": functools.partial(opened, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    "open directory": functools.partial(opened, os.O_RDONLY | os.O_DIRECTORY),
    "open nofollow": functools.partial(opened, os.O_RDONLY | os.O_NOFOLLOW),
    "open path": functools.partial(opened, os.O_PATH),
    "open path nofollow": functools.partial(opened, os.O_PATH | os.O_NOFOLLOW),
    "open nonblocking": functools.partial(opened, os.O_RDONLY | os.O_NONBLOCK),
    "open synced": functools.partial(opened, os.O_RDWR | os.O_SYNC),
    "truncate to 0": lambda p: os.truncate(p, 0),
    "truncate to 5": lambda p: os.truncate(p, 5),
    "truncate longer": lambda p: os.truncate(p, 5000),
    "truncate below 0": lambda p: os.truncate(p, -1),
    "mkdir": lambda p: os.mkdir(p, 0o751),
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "mknod file": lambda p: os.mknod(p, stat.S_IFREG | 0o640),
    "symlink here": lambda p: os.symlink("some/where", p),
    "chmod": lambda p: os.chmod(p, 0o711),
    "chmod sticky": lambda p: os.chmod(p, 0o1700),
    "chown to self": lambda p: os.chown(p, UID, UID),
    "chown to other": lambda p: os.chown(p, UID + 1, -1),
    "chgrp to other": lambda p: os.chown(p, -1, UID + 1),
    "lchown to self": lambda p: os.chown(p, UID, UID, follow_symlinks=False),
    "utimens": functools.partial(times, follow=True),
    "utimens of link": functools.partial(times, follow=False),
    "touch": os.utime,
    "xattrs": xattrs,
    "xattr replace missing": lambda p: os.setxattr(p, "user.none", b"", os.XATTR_REPLACE),
    "xattr get missing": lambda p: os.getxattr(p, "user.none"),
    "xattr remove missing": lambda p: os.removexattr(p, "user.none"),
    "xattr on link": lambda p: os.setxattr(p, "user.a", b"1", follow_symlinks=False),
    "xattr trusted": lambda p: os.setxattr(p, "trusted.a", b"1"),
    "statvfs": lambda p: os.statvfs(p).f_namemax,
    "link to new": lambda p: (os.link(p, "new"), plain(os.lstat("new")))[1],
    "link of link": lambda p: (os.link(p, "new", follow_symlinks=False), plain(os.lstat("new")))[1],
    "link onto": lambda p: os.link("empty", p),
    "rename away": lambda p: (os.rename(p, "new"), plain(os.lstat("new")))[1],
    "rename deeper": lambda p: os.rename(p, "dir/sub/new"),
    "rename onto itself": lambda p: os.rename(p, p),
    "rename file onto": lambda p: os.rename("empty", p),
    "rename dir onto": lambda p: os.rename("dir", p),
    "rename vacant onto": lambda p: os.rename("vacant", p),
    "rename into own child": lambda p: os.rename(p, p + "/new"),
    "rename noreplace": lambda p: renameat2("empty", p, 1),
    "rename dir noreplace": lambda p: renameat2("dir", p, 1),
    "exchange with file": lambda p: renameat2("empty", p, 2),
    "exchange with dir": lambda p: renameat2("dir", p, 2),
    "rename noreplace exchange": lambda p: renameat2("empty", p, 3),
    "rename unknown flag": lambda p: renameat2("empty", p, 8),
}  # fmt: skip


@pytest.fixture(scope="module", params=ROADS[: count(1, 6)], ids=lambda road: road.name)
def twins(request, module_arena: Path) -> Iterator[Twins]:
    with twins_on(request.param, module_arena) as made:
        yield made


GROUPS = {
    "looking": ("stat", "lstat", "access", "access exec", "readlink", "list", "chdir", "statvfs"),
    "opening": tuple(name for name in ON_ONE if name.startswith(("open", "trunc"))),
    "renaming": tuple(name for name in ON_ONE if name.startswith(("rename", "exchange", "link"))),
}
GROUPS["changing"] = tuple(name for name in ON_ONE if not any(name in group for group in GROUPS.values()))


@pytest.mark.parametrize("group", GROUPS)
def test_calls_on_paths_are_as_natively(twins: Twins, group: str) -> None:
    cases = [
        Case(f"{name} {target[:20]!r}", functools.partial(ON_ONE[name], target))
        for at, name in enumerate(GROUPS[group])
        for target in TARGETS[at % PARTS :: PARTS]
    ]
    assert len(cases) >= 200 // PARTS
    twins.compare(cases)

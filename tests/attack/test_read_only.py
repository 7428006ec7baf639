"""A `--read-only` mount changes nothing in its store: no access time by reads, and no file if root has made
the mount writable past the helper."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.linux import libc
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP = 10135
LONG_AGO_S = 1_000_000_000
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{viewer: {{uid: {APP}}}}}
rules:
  - {{id: all, allow: [all], who: {{app: viewer}}, paths: "/***"}}
  - {{id: places, require: {{redact: [location]}}, who: {{app: viewer}}, paths: "/DCIM/**"}}
"""
_MS_REMOUNT = 32
_libc = ctypes.CDLL(None, use_errno=True)
ROADS = [(), ("--app", "viewer"), ("--app", "viewer", "--no-passthrough"), ("--posix",)]


@pytest.fixture
def old(store: Path, media: dict[str, Path]) -> Path:
    """A store whose last access to each object is so long ago that any read would change it."""
    (store / "link").symlink_to("Documents/notes.txt")
    (store / "empty").mkdir()
    (store / "Documents/second").write_text("words\n")
    shutil.copy(media["photo_with_place.jpg"], store / "Documents/apart.jpg")
    os.setxattr(store / "Documents/notes.txt", "user.word", b"old")
    for path in [store, *store.rglob("*")]:
        os.chown(path, APP, APP, follow_symlinks=False)
        if path != store and not path.is_symlink():
            path.chmod(0o777)
        os.utime(path, (LONG_AGO_S, LONG_AGO_S + 1), follow_symlinks=False)
    return store


def _all_of(store: Path) -> dict[str, tuple[int, ...]]:
    """The names in a store, with all times. (O_NOATIME: this changes none.)"""
    found, inner = {}, [store]
    while inner:
        path = inner.pop()
        at = path.lstat()
        kept = (at.st_ino, at.st_mode, at.st_nlink, at.st_uid, at.st_size)
        found[str(path)] = (*kept, at.st_atime_ns, at.st_mtime_ns, at.st_ctime_ns)
        if stat.S_ISDIR(at.st_mode):
            fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
            inner += [path / name for name in os.listdir(fd)]
            os.close(fd)
    return found


def _reads(mountpoint: Path) -> int:
    """Read all there is, in each way. Return the number of bytes."""
    count = 0
    for above, _, names in os.walk(mountpoint):
        for name in names:
            path = Path(above, name)
            if path.is_symlink():
                assert os.readlink(path)
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                count += len(file.read()) + sum(mapped[::4096])
    os.listdir(mountpoint / "empty")
    return count


@pytest.mark.parametrize("options", ROADS, ids=" ".join)
def test_reads_change_no_access_time(mounts: Mounts, old: Path, options: tuple[str, ...]) -> None:
    mount = mounts.start(POLICY, old, "--read-only", *options)
    before = _all_of(old)
    assert call_as(APP, _reads, mount.mountpoint)
    assert _all_of(old) == before


def test_reads_of_a_writable_mount_change_them(mounts: Mounts, old: Path) -> None:
    mount = mounts.start(POLICY, old)
    call_as(APP, _reads, mount.mountpoint)
    assert (old / "Documents/notes.txt").stat().st_atime > LONG_AGO_S


def test_a_large_picture_is_cloned_and_mounts_below_are_kept_too(mounts: Mounts, arena: Path, media) -> None:
    """The clone is an unnamed file of the store, which the read-only view of it could not make."""
    (arena / "image").mkdir()
    with file_system("xfs", arena / "image") as root:
        (store := root / "store").mkdir(mode=0o700)
        (store / "DCIM").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "below", store / "DCIM"], check=True)
        try:
            shutil.copy(media["photo_8mb.jpg"], store / "big.jpg")
            shutil.copy(media["photo_with_place.jpg"], store / "DCIM/a.jpg")
            for name in ("big.jpg", "DCIM/a.jpg"):
                os.utime(store / name, (LONG_AGO_S, LONG_AGO_S + 1))
            policy = POLICY.replace("/DCIM/**", "/**")
            mount = mounts.start(policy, store, "--app", "viewer", "--read-only", "--copy-max", "1M")
            for name in ("big.jpg", "DCIM/a.jpg"):
                read = call_as(APP, (mount / name).read_bytes)
                assert len(read) == (store / name).stat().st_size
                assert (store / name).stat().st_atime == LONG_AGO_S
            assert mount.stop() == []
        finally:
            subprocess.run(["umount", store / "DCIM"], check=True, timeout=30)


def _remounted(mount: Mount) -> None:
    """Make a mount writable by mount(2), as root: mount(8) and the helper would not."""
    path = os.fsencode(mount.mountpoint)
    assert not _libc.mount(None, path, None, ctypes.c_ulong(_MS_REMOUNT), None)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    [line] = [line for line in lines if f" {mount.mountpoint} " in line]
    assert line.split()[5].startswith("rw,")
    assert line.rpartition(" - ")[2].split()[2].startswith("rw,")


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)
        made.bind(path.name)


def _changes(at: Path) -> dict[str, str]:
    """Make each call that changes a store. Return the errors."""
    notes, picture, second = at / "Documents/notes.txt", at / "DCIM/Camera/a.jpg", at / "Documents/second"
    fd, inner = os.open(notes, os.O_RDONLY), os.open(at / "Documents", os.O_RDONLY)
    calls: dict[str, Callable[[], object]] = {
        "open to write": lambda: os.open(notes, os.O_WRONLY),
        "open to read and write": lambda: os.open(notes, os.O_RDWR),
        "open to write what is redacted": lambda: os.open(picture, os.O_RDWR),
        "open to append": lambda: os.open(second, os.O_WRONLY | os.O_APPEND),
        "open to empty": lambda: os.open(notes, os.O_RDONLY | os.O_TRUNC),
        "open a copy to empty it": lambda: os.open(picture, os.O_WRONLY | os.O_TRUNC),
        "create": lambda: os.open(at / "new", os.O_CREAT | os.O_WRONLY),
        "create in a directory": lambda: os.open(at / "Documents/new", os.O_CREAT | os.O_EXCL | os.O_RDWR),
        "create without a name": lambda: os.open(at, os.O_TMPFILE | os.O_RDWR),
        "mknod": lambda: os.mknod(at / "new"),
        "mkfifo": lambda: os.mkfifo(at / "new"),
        "bind": lambda: _bind(at / "new"),
        "mkdir": (at / "new").mkdir,
        "symlink": lambda: (at / "new").symlink_to("old"),
        "link": lambda: os.link(notes, at / "new"),
        "unlink": notes.unlink,
        "unlink a picture": picture.unlink,
        "rmdir": (at / "empty").rmdir,
        "rename": lambda: notes.rename(at / "new"),
        "rename over": lambda: notes.rename(second),
        "rename a directory": lambda: (at / "Documents").rename(at / "new"),
        "exchange": lambda: libc.rename2(inner, b"second", inner, b"notes.txt", libc.RENAME_EXCHANGE),
        "truncate": lambda: os.truncate(notes, 3),
        "chmod": lambda: notes.chmod(0o600),
        "chmod a directory": lambda: (at / "empty").chmod(0o700),
        "chown": lambda: os.chown(notes, APP, APP),
        "utime": lambda: os.utime(notes),
        "utime by descriptor": lambda: os.utime(fd),
        "atime": lambda: libc.utimens_fd(fd, libc.TIME_NOW, None),
        "setxattr": lambda: os.setxattr(notes, "user.word", b"new"),
        "removexattr": lambda: os.removexattr(notes, "user.word"),
    }  # fmt: skip
    return {name: code_of(call) for name, call in calls.items()}


@pytest.mark.parametrize("options", ROADS, ids=" ".join)
def test_a_mount_that_root_makes_writable_changes_nothing(mounts: Mounts, old: Path, options) -> None:
    mount = mounts.start(POLICY, old, "--read-only", *options)
    before = _all_of(old)
    _remounted(mount)
    errors = call_as(APP, _changes, mount.mountpoint)
    assert errors.pop("create without a name") in {"ENOTSUP", "EROFS"}
    assert {name: code for name, code in errors.items() if code != "EROFS"} == {}
    assert call_as(APP, _reads, mount.mountpoint)
    assert _all_of(old) == before


def test_without_the_guard_it_would(without, old: Path) -> None:
    mount = without("writable-after-all", POLICY, old, "--read-only")
    _remounted(mount)
    errors = call_as(APP, _changes, mount.mountpoint)
    done = {name for name, code in errors.items() if not code}
    assert done >= {"open to write", "create", "unlink", "atime"}

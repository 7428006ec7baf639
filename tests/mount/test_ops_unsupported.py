"""Calls that the mount does not carry out: a clean errno, each time, and nothing happens.

Programs ask for these and go another way when they hear no; a wrong errno, or an answer that
switches something off for the whole mount, would break them.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as
from tests.support.models.twins import ROADS, UID, Twins, content, error, fd_of, marks, twins_on

_libc = ctypes.CDLL(None, use_errno=True)
_offset = ctypes.c_int64

FICLONE, FS_IOC_SETFLAGS, FS_IOC_FIEMAP = 0x40049409, 0x40086602, 0xC020660B
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_SETVERSION = 0x801C581F, 0x401C5820, 0x40087602
EXT4_IOC_GETVERSION, BLKGETSIZE64 = 0x80087601, 0x80081272


@pytest.fixture(scope="module", params=ROADS[1:4], ids=lambda road: road.name)
def twins(request, module_arena) -> Iterator[Twins]:
    with twins_on(request.param, module_arena) as made:
        yield made


@pytest.fixture
def zoo(twins: Twins, request) -> Iterator[Path]:
    """A zoo in the mount; afterwards the mount still works."""
    name = f"zoo-{request.node.originalname}"
    twins.zoo(twins.mount.store / name)
    yield twins.mount / name
    assert call_as(UID, content, str(twins.mount / name / "script")) == b"#!/bin/sh\nexit 0\n"


def _code(result: int) -> str:
    return "None" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def test_blocks_are_not_shared_on_request(zoo: Path) -> None:
    """FICLONE never reaches the daemon; a program that hears no copies ranges."""

    def share() -> object:
        with fd_of(zoo / "file", os.O_RDONLY) as source, fd_of(zoo / "new", os.O_RDWR | os.O_CREAT) as target:
            return error(fcntl.ioctl, target, FICLONE, source), marks(os.fstat(target))[2]

    clone, size = call_as(UID, share)
    assert clone in {"ENOTSUP", "ENOTTY", "EXDEV"}
    assert size == 0


def test_ioctls(zoo: Path) -> None:
    numbers = (
        FS_IOC_SETFLAGS, FS_IOC_FIEMAP, FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_SETVERSION,
        EXT4_IOC_GETVERSION, BLKGETSIZE64, 0x5401, 0, 0xFFFF,
    )  # fmt: skip

    def ask() -> object:
        seen = []
        for name in ("file", "dir"):
            with fd_of(zoo / name, os.O_RDONLY) as fd:
                for _ in range(2):
                    seen += [error(fcntl.ioctl, fd, number, bytearray(64)) for number in numbers]
        with fd_of(zoo / "file", os.O_RDONLY) as fd:
            left = array.array("i", [0])
            fcntl.ioctl(fd, 0x541B, left)  # FIONREAD is the kernel's own business
        return seen, left[0]

    seen, left = call_as(UID, ask)
    assert set(seen) <= {"ENOTTY", "ENOTSUP", "EPERM", "ENOSYS", "EINVAL"}
    assert "ENOTTY" in seen
    assert left == 12


def test_file_handles(zoo: Path) -> None:
    """A handle of a file may be had; opening by it needs root, and leads nowhere but here."""

    class Handle(ctypes.Structure):
        _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]

    def ask(name: str) -> tuple[str, bytes]:
        handle = Handle(size=128)
        mount = ctypes.c_int()
        path = os.fsencode(zoo / name)
        done = _libc.name_to_handle_at(-100, path, ctypes.byref(handle), ctypes.byref(mount), 0)
        return _code(done), bytes(handle)

    def by_app() -> object:
        with fd_of(zoo, os.O_RDONLY) as at:
            answers = [ask(name) for name in ("file", "dir", "script")]
            handle = ctypes.create_string_buffer(answers[0][1])
            opened = _code(_libc.open_by_handle_at(at, handle, os.O_RDONLY))
        return [code for code, _ in answers], opened, ask("missing")[0]

    codes, opened, missing = call_as(UID, by_app)
    assert set(codes) <= {"None", "ENOTSUP"}
    assert opened == "EPERM"
    assert missing == "ENOENT"


def test_leases_and_notices(zoo: Path) -> None:
    def ask() -> object:
        with fd_of(zoo / "file", os.O_RDONLY) as fd, fd_of(zoo / "dir", os.O_RDONLY) as directory:
            seen = [
                error(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK),
                error(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_UNLCK),
                error(fcntl.fcntl, directory, fcntl.F_NOTIFY, fcntl.DN_CREATE),
            ]
            watch = _libc.inotify_init()
            seen.append(_code(_libc.inotify_add_watch(watch, os.fsencode(zoo), 0xFFF)))
            os.close(watch)
            return seen, os.pread(fd, 5, 0)

    seen, got = call_as(UID, ask)
    assert "EIO" not in seen
    assert got == b"hello"


def test_nobody_mounts_or_swaps_from_here(zoo: Path) -> None:
    def ask() -> object:
        return [
            error(os.chroot, zoo), error(os.mknod, zoo / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
            _code(_libc.swapon(os.fsencode(zoo / "file"), 0)), _code(_libc.acct(os.fsencode(zoo / "file"))),
            _code(_libc.mount(b"none", os.fsencode(zoo / "dir"), b"tmpfs", 0, None)),
        ]  # fmt: skip

    assert call_as(UID, ask) == ["EPERM"] * 5


def test_nobody_hears_of_syncfs(twins: Twins, zoo: Path) -> None:
    """docs/operations.md says so. If this fails the kernel has begun to pass it on: then answer it."""

    def ask() -> str:
        with fd_of(zoo / "file", os.O_RDWR) as fd:
            os.write(fd, b"HELLO")
            return _code(_libc.syncfs(fd))

    assert call_as(UID, ask) == "None"
    assert twins.mount.fuse("SYNCFS") == 0


def test_the_rest_of_sync_and_advice(zoo: Path) -> None:
    def ask() -> object:
        with fd_of(zoo / "file", os.O_RDWR) as fd:
            os.write(fd, b"HELLO")
            seen = [
                _code(_libc.syncfs(fd)), _code(_libc.sync_file_range(fd, _offset(0), _offset(0), 7)),
                _code(_libc.readahead(fd, _offset(0), 100)),
                *(error(os.posix_fadvise, fd, 0, 0, advice) for advice in range(6)),
            ]  # fmt: skip
            return seen, content(zoo / "file")

    seen, text = call_as(UID, ask)
    assert set(seen) == {"None"}
    assert text == b"HELLO world\n"

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

from tests.support.processes import call_as
from tests.support.twins import ROADS, UID, Twins, content, error, fd_of, marks, twins_on

_libc = ctypes.CDLL(None, use_errno=True)
_offset = ctypes.c_int64

FALLOC = {"reserve": 0, "keep size": 1, "punch": 3, "collapse": 8, "zero": 16, "insert": 32, "unshare": 64}
FICLONE, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FIEMAP = 0x40049409, 0x80086601, 0x40086602, 0xC020660B
EXT4_IOC_GETVERSION, BLKGETSIZE64 = 0x80087601, 0x80081272
AT_HANDLE_EMPTY_PATH = 0x1000


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


def fallocate(fd: int, mode: int, offset: int, length: int) -> str:
    return _code(_libc.fallocate(fd, mode, _offset(offset), _offset(length)))


def test_fallocate(zoo: Path) -> None:
    def try_it() -> object:
        with fd_of(zoo / "file", os.O_RDWR) as fd, fd_of(zoo / "file", os.O_RDONLY) as reader:
            asked = {name: fallocate(fd, mode, 0, 4096) for name, mode in FALLOC.items()}
            again = fallocate(fd, 0, 0, 10_000)
            refused = fallocate(reader, 0, 0, 10), fallocate(fd, 0, -1, 10)
            return asked, again, refused, marks(os.fstat(fd))[2], content(zoo / "file")

    asked, again, refused, size, bytes_now = call_as(UID, try_it)
    assert asked == dict.fromkeys(FALLOC, "ENOTSUP")
    assert again == "ENOTSUP"
    assert refused == ("EBADF", "EINVAL")
    assert (size, bytes_now) == (12, b"hello world\n")


def test_seeking_data_and_holes(zoo: Path) -> None:
    """One extent of data up to the end, which is always a right answer."""

    def seek() -> object:
        with fd_of(zoo / "new", os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, b"begin")
            os.pwrite(fd, b"x", 1 << 20)
            return [
                error(os.lseek, fd, at, how)
                for how in (os.SEEK_DATA, os.SEEK_HOLE)
                for at in (0, 500_000, 1 << 20, (1 << 20) + 1, -1)
            ]

    end = (1 << 20) + 1
    assert call_as(UID, seek) == [
        "0", "500000", str(1 << 20), "ENXIO", "ENXIO", str(end), str(end), str(end), "ENXIO", "ENXIO",
    ]  # fmt: skip


def test_copying_ranges_goes_another_way(twins: Twins, zoo: Path) -> None:
    """Not by the daemon: the kernel splices, and between file systems says EXDEV."""

    def copy() -> object:
        with fd_of(zoo / "file", os.O_RDONLY) as source, fd_of(zoo / "new", os.O_RDWR | os.O_CREAT) as target:
            inside = [os.copy_file_range(source, target, 7, 0, at) for at in (0, 9)]
            with fd_of("/proc/self/fd", os.O_RDONLY):
                pass
            closed = error(os.copy_file_range, target, source, 5)
            clone = error(fcntl.ioctl, target, FICLONE, source)
            return inside, closed, clone, content(zoo / "new")

    inside, closed, clone, copied = call_as(UID, copy)
    assert inside == [7, 7]
    assert closed == "EBADF"
    assert clone in {"ENOTSUP", "ENOTTY", "EXDEV"}
    assert copied == b"hello w\0\0hello w"


def test_unnamed_files(twins: Twins, zoo: Path) -> None:
    def try_it() -> object:
        return [error(os.open, zoo, os.O_TMPFILE | how, 0o600) for how in (os.O_RDWR, os.O_WRONLY, os.O_RDWR)]

    assert call_as(UID, try_it) == ["ENOTSUP"] * 3
    made = call_as(UID, _named_temporary, zoo)
    assert made == b"by another way"


def _named_temporary(directory: Path) -> bytes:
    import tempfile

    with tempfile.TemporaryFile(dir=directory) as file:  # tries O_TMPFILE first
        file.write(b"by another way")
        file.seek(0)
        return file.read()


def test_ioctls(zoo: Path) -> None:
    numbers = (
        FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IOC_FIEMAP, EXT4_IOC_GETVERSION, BLKGETSIZE64, 0x5401, 0, 0xFFFF,
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

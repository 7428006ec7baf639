"""The mount API: the order of its calls, and no descriptor left over after an error."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

import pytest

from policyfs.kernel import mount_api
from policyfs.linux import statx

FSOPEN, FSCONFIG, FSMOUNT, MOVE_MOUNT = 430, 431, 432, 429


class Kernel:
    """Stands in for the C library: notes calls, and fails at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.fails_at, self.masks = -1, list[int]()
        self.closed: list[int] = []
        monkeypatch.setattr(mount_api, "LIBC", self)
        monkeypatch.setattr(statx, "STATX", self.statx)
        monkeypatch.setattr(os, "close", self.closed.append)

    def syscall(self, number: ctypes.c_long, *arguments: object) -> int:
        self.calls.append((number.value, *arguments))
        if len(self.calls) - 1 == self.fails_at:
            ctypes.set_errno(errno.EPERM)
            return -1
        return {FSOPEN: 1000, FSMOUNT: 1001}.get(number.value, 0)

    def statx(self, fd: int, path: bytes, flags: int, mask: int, answer: ctypes.Array[ctypes.c_char]) -> int:
        assert (fd, path, flags & 0x1000) == (5, b"", 0x1000)
        self.masks.append(mask)
        if self.fails_at == 0:
            ctypes.set_errno(errno.EACCES)
            return -1
        struct.pack_into("=I", answer, 140, 42)
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_a_file_system_is_made_with_its_options_in_order(kernel: Kernel) -> None:
    fd = mount_api.detached("fuse", ["ro", ("fd", "7"), ("source", "/srv/\udcff")], mount_api.MOUNT_NOSUID)
    assert fd == 1001
    assert kernel.calls == [
        (FSOPEN, b"fuse", 1),
        (FSCONFIG, 1000, 0, b"ro", None, 0),
        (FSCONFIG, 1000, 1, b"fd", b"7", 0),
        (FSCONFIG, 1000, 1, b"source", b"/srv/\xff", 0),
        (FSCONFIG, 1000, 6, None, None, 0),
        (FSMOUNT, 1000, 1, mount_api.MOUNT_NOSUID),
    ]
    assert kernel.closed == [1000]


@pytest.mark.parametrize("at", range(4))
def test_after_an_error_nothing_is_left_open(kernel: Kernel, at: int) -> None:
    kernel.fails_at = at
    with pytest.raises(PermissionError):
        mount_api.detached("fuse", ["ro"], 0)
    assert kernel.closed == ([1000] if at else [])


def test_a_mount_is_attached_by_descriptors_alone(kernel: Kernel, tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_PATH)
    for known in (str(tmp_path), place):
        kernel.calls.clear()
        mount_api.attach(5, known)
        ((number, mount_fd, empty, target, nothing, flags),) = kernel.calls
        assert (number, mount_fd, empty, nothing, flags) == (MOVE_MOUNT, 5, b"", b"", 4 | 0x40)
        assert os.path.samestat(os.fstat(target), tmp_path.stat())


@pytest.mark.parametrize("link", ["at", "at/inner"])
def test_no_symlink_on_the_way_is_followed(kernel: Kernel, tmp_path: Path, link: str) -> None:
    """An app has put it there after the path was resolved."""
    (tmp_path / "elsewhere/inner").mkdir(parents=True)
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    if link == "at":
        with pytest.raises(NotADirectoryError):
            mount_api.attach(5, str(tmp_path / "at/inner"))
        assert kernel.calls == []
        return
    mount_api.attach(5, str(tmp_path / link))
    assert os.path.samestat(os.fstat(kernel.calls[0][3]), (tmp_path / link).lstat()), "no directory: ENOTDIR"


def test_the_device_number_is_read_without_a_request_to_the_file_system(kernel: Kernel) -> None:
    """With a mask the kernel would ask a daemon that does not serve yet."""
    assert mount_api.device_minor(5) == 42
    assert kernel.masks == [0]
    kernel.fails_at = 0
    with pytest.raises(PermissionError):
        mount_api.device_minor(5)


def test_what_cannot_be_changed_by_a_copy_of_a_mount(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    os.utime(tmp_path / "file", (1, 2))
    directory = os.open(tmp_path, os.O_PATH)
    copy = mount_api.unchangeable(directory)
    try:
        fd = os.open("file", os.O_RDONLY, dir_fd=copy)
        assert os.read(fd, 9) == b"words"
        os.close(fd)
        assert (tmp_path / "file").stat().st_atime == 1
        with pytest.raises(OSError, match="Read-only"):
            os.open("file", os.O_RDWR, dir_fd=copy)
        os.close(os.open("file", os.O_RDWR, dir_fd=directory))
    finally:
        os.close(copy)
        os.close(directory)

"""Attributes of inodes, as stat(2) has them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest

from policyfs.domain import FileType
from policyfs.linux.statx import cached_device, fstatx, statx


@pytest.fixture
def directory(tmp_path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(b"hello")
    os.chmod(tmp_path / "file", 0o640)
    os.utime(tmp_path / "file", ns=(1_700_000_000_123_456_789, -1_500_000_001))
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.link(tmp_path / "file", tmp_path / "hard")
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("name", "ftype"),
    [
        (b"file", FileType.REGULAR), (b"dir", FileType.DIRECTORY), (b"link", FileType.SYMLINK),
        (b"fifo", FileType.SPECIAL),
    ],
)  # fmt: skip
def test_every_field_is_that_of_stat(directory, name, ftype):
    found = statx(directory, name)
    there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    assert found.ftype is ftype
    assert (found.ino, found.dev, found.mode, found.nlink) == (
        there.st_ino,
        there.st_dev,
        there.st_mode,
        there.st_nlink,
    )
    assert (found.uid, found.gid, found.size, found.blocks) == (
        there.st_uid, there.st_gid, there.st_size, there.st_blocks,
    )  # fmt: skip
    assert (found.atime_ns, found.mtime_ns, found.ctime_ns) == (
        there.st_atime_ns, there.st_mtime_ns, there.st_ctime_ns,
    )  # fmt: skip
    assert (found.blksize, found.rdev) == (there.st_blksize, there.st_rdev)


def test_a_descriptor_without_access_is_enough(directory):
    fd = os.open("link", os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    try:
        assert fstatx(fd) == statx(directory, b"link")
    finally:
        os.close(fd)


def test_a_device_has_its_number():
    fd = os.open("/dev", os.O_RDONLY)
    try:
        assert statx(fd, b"null").rdev == os.makedev(1, 3)
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b"])
def test_only_single_names(directory, name):
    with pytest.raises(OSError, match="single file name"):
        statx(directory, name)


def test_the_same_object_has_the_same_numbers_and_birth(directory):
    file, hard = statx(directory, b"file"), statx(directory, b"hard")
    assert file.same_inode(hard)
    assert file.same_inode(file._replace(size=7, mode=stat.S_IFDIR))
    for other in (file._replace(ino=1), file._replace(dev=1), file._replace(btime_ns=1)):
        assert not file.same_inode(other)
    assert not file.same_inode(statx(directory, b"dir"))


def test_the_device_of_a_path(tmp_path):
    there = os.stat(tmp_path).st_dev
    assert cached_device(str(tmp_path)) == f"{os.major(there)}:{os.minor(there)}"
    with pytest.raises(FileNotFoundError):
        cached_device(str(tmp_path / "none"))

"""Byte ranges of a file: blocks that two files share (see tests/faults/test_full_drafts.py, too)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.store import ranges

OLD, NEW = b"old" * 3000, b"new" * 2000


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int, int]]:
    """Descriptors of a source, a longer target and their directory."""
    (tmp_path / "source").write_bytes(NEW)
    (tmp_path / "target").write_bytes(OLD)
    fds = os.open(tmp_path / "source", os.O_RDONLY), os.open(tmp_path / "target", os.O_RDWR)
    above = os.open(tmp_path, os.O_RDONLY)
    yield *fds, above
    for fd in (*fds, above):
        os.close(fd)


def test_all_or_nothing_is_shared(files) -> None:
    source, target, above = files
    done = ranges.share(source, target, len(NEW), above)
    assert os.pread(target, len(NEW), 0) == (NEW if done else OLD[: len(NEW)])
    assert os.fstat(target).st_size == len(OLD)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL])
@pytest.mark.parametrize("size", [len(NEW), len(OLD)])
def test_files_that_cannot_share_stay_as_they_are(files, monkeypatch, code: int, size: int) -> None:
    def refused(*arguments: int) -> None:
        raise OSError(code, "cannot")

    monkeypatch.setattr(ranges.fcntl, "ioctl", refused)
    assert not ranges.share(*files[:2], size, files[2])
    assert os.pread(files[1], 1 << 20, 0) == OLD


def test_a_full_store_is_told_and_nothing_is_lost(files, monkeypatch) -> None:
    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(ranges.fcntl, "ioctl", full)
    with pytest.raises(OSError, match="full"):
        ranges.share(*files[:2], len(NEW), files[2])
    assert os.pread(files[1], 1 << 20, 0) == OLD


@pytest.mark.parametrize("old", [len(OLD), len(NEW) + 1])
def test_a_longer_file_keeps_its_length(files, monkeypatch, old: int) -> None:
    """As where blocks can be shared: whole ones, except at the file's end. The caller cuts the file then."""

    def copied(target: int, command: int, source: int) -> None:
        assert command == ranges.FICLONE
        data = os.pread(source, 1 << 20, 0)
        os.pwrite(target, data, 0)

    os.ftruncate(files[1], old)
    begun = list[bytes]()
    monkeypatch.setattr(ranges.fcntl, "ioctl", copied)
    monkeypatch.setattr(ranges, "_UNNAMED", os.O_TMPFILE | os.O_RDWR)
    share = ranges.share(*files[:2], len(NEW), files[2], lambda: begun.append(os.pread(files[1], 1 << 20, 0)))
    assert share
    assert begun == [OLD[:old]], "no byte was changed before"
    assert os.fstat(files[1]).st_size == old
    assert os.pread(files[1], len(NEW), 0) == NEW


def test_where_no_whole_blocks_can_be_made_nothing_has_begun(files, monkeypatch) -> None:
    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    begun = list[int]()
    monkeypatch.setattr(ranges.fcntl, "ioctl", full)
    with pytest.raises(OSError, match="full"):
        ranges.share(*files[:2], len(NEW), files[2], lambda: begun.append(1))
    assert begun == []


def test_bytes_are_written_out_and_stay_as_they_are(files) -> None:
    _, target, _ = files
    os.pwrite(target, b"more", 0)
    ranges.write_out(target)
    assert os.pread(target, 1 << 20, 0) == b"more" + OLD[4:]
    with pytest.raises(OSError, match="descriptor"):
        ranges.write_out(-1)


def test_data_and_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("w+b", buffering=0) as file:
        fd = file.fileno()
        os.pwrite(fd, b"x" * 4096, 1 << 20)
        os.ftruncate(fd, 4 << 20)
        data = [(1 << 20, (1 << 20) + 4096)]
        assert list(ranges.data_ranges(fd, 0, 4 << 20)) == data
        assert list(ranges.data_ranges(fd, 0, 8 << 20)) == data
        assert list(ranges.data_ranges(fd, (1 << 20) + 1, (1 << 20) + 9)) == [((1 << 20) + 1, (1 << 20) + 9)]
        assert not list(ranges.data_ranges(fd, 9 << 20, 10 << 20))
        assert not list(ranges.data_ranges(fd, 5, 5))


@pytest.mark.parametrize("code", [0, errno.EOPNOTSUPP])
def test_zeros_keep_the_length(files, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    target = files[1]
    if code:
        monkeypatch.setattr(ranges.libc, "fallocate", lambda *_: (_ for _ in ()).throw(OSError(code, "no")))
    ranges.zero(target, 10, 5000)
    assert os.pread(target, 1 << 20, 0) == OLD[:10] + bytes(4990) + OLD[5000:]


@pytest.mark.parametrize("more", [0, 1])
def test_a_file_is_copied_as_far_as_it_goes(tmp_path: Path, more: int) -> None:
    data = os.urandom(1 << 20) + bytes(1 << 20) + b"end" + bytes(8192)
    with (tmp_path / "source").open("w+b", buffering=0) as source, (tmp_path / "copy").open("xb") as copy:
        os.pwrite(source.fileno(), data[: 1 << 20], 0)
        os.pwrite(source.fileno(), b"end", 2 << 20)
        os.ftruncate(source.fileno(), len(data))
        ranges.copy_all(source.fileno(), copy.fileno(), len(data) + more)
        assert (tmp_path / "copy").read_bytes() == data
        assert os.fstat(copy.fileno()).st_blocks == os.fstat(source.fileno()).st_blocks

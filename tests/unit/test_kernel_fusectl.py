"""The control files of a connection: all become root's, and `abort` ends the mount of this number only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.kernel import mount_api
from policyfs.kernel.fusectl import ControlFiles

APP = 10011


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directories of two connections, with an app's control files."""
    for number in (41, 42):
        directory = tmp_path / str(number)
        directory.mkdir()
        for name in ("abort", "waiting", "max_background"):
            (directory / name).write_bytes(b"")
        for path in (directory, *directory.iterdir()):
            os.chown(path, APP, APP)

    def detached(fstype: str, options: object, attributes: int) -> int:
        assert (fstype, options, attributes) == ("fusectl", (), 0)
        return os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    monkeypatch.setattr(mount_api, "detached", detached)
    return tmp_path


def owners(directory: Path) -> set[tuple[int, int]]:
    return {(path.stat().st_uid, path.stat().st_gid) for path in (directory, *directory.iterdir())}


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_all_files_of_one_connection_are_taken_over(connections: Path) -> None:
    files = ControlFiles()
    files.take(42)
    files.close()
    assert owners(connections / "42") == {(0, 0)}
    assert owners(connections / "41") == {(APP, APP)}


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_a_link_among_them_is_not_followed(connections: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    os.chown(outside, APP, APP)
    (connections / "42" / "link").symlink_to(outside)
    files = ControlFiles()
    files.take(42)
    files.close()
    assert outside.stat().st_uid == APP
    assert (connections / "42" / "link").lstat().st_uid == 0


def test_one_connection_is_ended(connections: Path) -> None:
    files = ControlFiles()
    assert files.abort(42)
    files.close()
    assert (connections / "42/abort").read_bytes() == b"1"
    assert (connections / "41/abort").read_bytes() == b""


def test_the_file_that_ends_a_connection_is_opened(connections: Path) -> None:
    files = ControlFiles()
    fd = files.open_abort(42)
    with pytest.raises(FileNotFoundError):
        files.open_abort(43)
    files.close()
    os.write(fd, b"1")
    os.close(fd)
    assert (connections / "42/abort").read_bytes() == b"1"


def test_a_connection_that_is_gone_needs_no_end(connections: Path) -> None:
    files = ControlFiles()
    assert not files.abort(43)
    with pytest.raises(FileNotFoundError):
        files.take(43)
    files.close()


def test_the_mount_is_closed_once(connections: Path) -> None:
    files = ControlFiles()
    fd = files._mount_fd
    files.close()
    with open(os.devnull, "rb") as other:
        assert other.fileno() == fd, "the number is given anew"
        files.close()
        assert os.fstat(fd)

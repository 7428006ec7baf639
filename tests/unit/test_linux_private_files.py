"""Directories that no other user can change, with any umask; and each part of policyfs makes its own so."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policyfs.daemon.control import server as control_server
from policyfs.journal.sealing.keys import KeyStore
from policyfs.linux.private_files import append_lines, make_private
from tests.support.machine.documents import CHECKOUT


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(*directories: Path) -> list[int]:
    return [stat.S_IMODE(one.stat().st_mode) for one in directories]


@pytest.mark.usefixtures("open_umask")
def test_parents_belong_to_their_owner_alone_with_umask_0(tmp_path: Path) -> None:
    for _ in range(2):
        make_private(tmp_path / "a/b/c")
        assert modes(tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c") == [0o755, 0o755, 0o700]
    make_private(tmp_path / "d/e", 0o755)
    assert modes(tmp_path / "d", tmp_path / "d/e") == [0o755, 0o755]


def test_a_relative_path_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_private("a/b")
    assert (tmp_path / "a/b").is_dir()


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_private(tmp_path / "file/a")


@pytest.mark.usefixtures("open_umask")
def test_keys_and_sockets_are_in_such_directories(tmp_path: Path) -> None:
    KeyStore(tmp_path / "a/keys").signer()
    control_server.claim(tmp_path / "b/run/x.sock").close()
    assert modes(tmp_path / "a", tmp_path / "b/run") == [0o755, 0o700]
    assert not modes(tmp_path / "b")[0] & 0o022


def test_no_part_makes_parents_by_itself() -> None:
    """Neither os.makedirs nor Path.mkdir gives parents a mode."""
    for source in (CHECKOUT / "policyfs").rglob("*.py"):
        assert not re.search(r"os\.makedirs\(|parents=True", source.read_text()), source


def _of_an_app(file: Path) -> None:
    file.touch(0o600)
    os.chown(file, 10010, 10010)


def _for_all(file: Path) -> None:
    file.touch()
    file.chmod(0o644)


def _with_two_names(file: Path) -> None:
    file.touch(0o600)
    file.with_name("other").hardlink_to(file)


def _a_link(file: Path) -> None:
    file.symlink_to(file.with_name("target"))


@pytest.mark.parametrize("make", [_of_an_app, _for_all, _with_two_names, _a_link, os.mkfifo, Path.mkdir])
def test_a_file_that_an_app_made_before_gets_no_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """The app would read it."""
    file = tmp_path / "file"
    make(file)
    with pytest.raises(OSError, match=r"remove it|not a regular file|Is a directory|Too many levels"):
        append_lines(str(file), b"line\n")
    assert not file.is_file() or file.read_bytes() == b""


def test_a_line_that_a_crash_cut_stays_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"li")
    file.chmod(0o600)
    for _ in range(2):
        append_lines(str(file), b"line\n")
    assert file.read_bytes() == b"li\nline\nline\n"


@pytest.mark.parametrize("other", [b"", b"a line of another program\n"], ids=["alone", "beside another"])
def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch, other: bytes) -> None:
    file, write, room = tmp_path / "file", os.write, [10]
    append_lines(str(file), b"line\n")

    def full(fd: int, data: bytes) -> int:
        if not room:
            with file.open("ab") as beside:
                beside.write(other)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: room.pop()])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        append_lines(str(file), b"another line\n")
    monkeypatch.undo()
    assert file.read_bytes() == b"line\n" + (b"another li" + other if other else b"")

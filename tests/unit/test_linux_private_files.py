"""Directories that no other user can change, with any umask; and each part of policyfs makes its own so."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.daemon.control import server as control_server
from policyfs.journal.sealing.keys import KeyStore
from policyfs.linux.private_files import make_private
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

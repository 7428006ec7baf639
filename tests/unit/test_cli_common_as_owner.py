"""Work in a directory of a user: with this user's rights, in this directory, and with its result."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.cli.common.as_owner import in_directory, read_file
from policyfs.errors import PolicyfsError

USER, GROUP = 4711, 4712


@pytest.mark.parametrize(("uid", "gid"), [(USER, GROUP), (0, 0)])
def test_the_owner_of_the_directory_does_the_work(tmp_path: Path, uid: int, gid: int) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    os.chown(place, uid, gid)
    assert in_directory(str(place), lambda: [os.getuid(), os.getgid(), os.listdir(".")]) == [uid, gid, []]


def test_errors_are_told_with_the_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    for directory, work, told in (
        (tmp_path, lambda: os.rmdir("none"), f"in {tmp_path}: none: No such file"),
        (tmp_path / "link", os.getpid, "a symlink on the way is not followed"),
        (tmp_path / "link/tmp", os.getpid, "a symlink on the way is not followed"),
        (tmp_path, lambda: 1 // 0, "no answer"),
    ):
        with pytest.raises(PolicyfsError, match=told):
            in_directory(str(directory), work)
    with pytest.raises(FileNotFoundError):
        in_directory(str(tmp_path / "none"), os.getpid)


def test_only_a_regular_file_of_limited_size_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user may have put anything in the place of a file: nobody waits for a pipe, or reads without end."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkdir("directory")
    os.symlink("/dev/zero", "zero")
    Path("large").write_bytes(b"")
    os.truncate("large", 1 << 40)
    Path("small").write_bytes(b"ten bytes.")
    writer = os.open("pipe", os.O_RDWR)
    try:
        for name in ("pipe", "directory", "zero", "large"):
            with pytest.raises(OSError, match=name):
                read_file(name, 10)
    finally:
        os.close(writer)
    assert read_file("small", 10) == b"ten bytes."

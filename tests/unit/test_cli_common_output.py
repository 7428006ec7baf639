"""Files that commands write."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from policyfs.cli.common.output import new_file, private_file, replace_file, write_new, write_private
from policyfs.errors import PolicyfsError


def test_a_file_is_replaced_as_a_whole_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")
    path.chmod(0o644)
    write_private(str(path), "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyfsError, match="cannot write"):
        write_private(str(tmp_path / "absent/a.html"), "text")


def test_a_link_in_its_place_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.html").symlink_to(tmp_path / "other")
    write_private(str(tmp_path / "a.html"), "text")
    assert (tmp_path / "a.html").read_text() == "text"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.html"]


def test_nothing_is_written_into_a_file_that_another_has_made(tmp_path: Path) -> None:
    """Another user guesses the name, and keeps the file open."""
    opened = []
    for name in ("a.html", "a.html.new"):
        (tmp_path / name).touch(0o666)
        (tmp_path / name).chmod(0o666)
        os.chown(tmp_path / name, 4711, 4711)
        opened.append((tmp_path / name).open("rb"))
    write_private(str(tmp_path / "a.html"), "secret")
    found = (tmp_path / "a.html").stat()
    assert (found.st_uid, found.st_mode & 0o777) == (os.geteuid(), 0o600)
    for file in opened:
        assert file.read() == b""
        file.close()


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(PolicyfsError, match="not a regular file"):
        write_private(str(tmp_path / "fifo"), "text")
    assert (tmp_path / "fifo").is_fifo()


def test_after_an_error_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), private_file(str(path)) as file:
        file.write("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# -- files that are replaced --------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("known", [None, b"old"])
def test_a_replaced_file_keeps_its_mode_and_owner(file: Path, known: bytes | None) -> None:
    os.chown(file, 4711, 4712)
    file.chmod(0o6750)
    before = file.stat()
    replace_file(file, b"new", known=known)
    found = file.stat()
    assert file.read_bytes() == b"new"
    assert (found.st_mode, found.st_uid, found.st_gid) == (before.st_mode & ~0o7000, 4711, 4712)
    assert found.st_ino != before.st_ino, "who reads the old one reads on"
    assert list(file.parent.iterdir()) == [file]


def test_a_missing_file_is_made_for_its_owner_alone(file: Path) -> None:
    file.unlink()
    replace_file(file, b"new")
    assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (b"new", 0o600)
    assert list(file.parent.iterdir()) == [file]


def test_a_name_of_the_greatest_length_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)
    path.write_bytes(b"old")
    replace_file(path, b"new", known=b"old")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("known", [b"", b"ol", b"other"])
def test_a_file_with_other_bytes_than_the_known_ones_stays(file: Path, known: bytes) -> None:
    before = file.stat()
    with pytest.raises(PolicyfsError) as refused:
        replace_file(file, b"new", known=known)
    assert str(refused.value) == (
        f"another program changed {file} meanwhile, so this command did not write the file: try again"
    )
    assert (file.read_bytes(), file.stat().st_ino) == (b"old", before.st_ino)
    assert list(file.parent.iterdir()) == [file]


def test_the_known_bytes_are_looked_for_once_the_new_ones_are_on_disk(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def meanwhile(fd: int) -> None:
        real(fd)
        file.write_bytes(b"another's")

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(PolicyfsError, match=r"another program changed .* meanwhile"):
        replace_file(file, b"new", known=b"old")
    assert file.read_bytes() == b"another's"
    assert list(file.parent.iterdir()) == [file]


def test_a_known_file_that_is_gone_is_not_made_again(file: Path) -> None:
    file.unlink()
    with pytest.raises(FileNotFoundError):
        replace_file(file, b"new", known=b"old")
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("fails", ["fchown", "fchmod", "fsync", "rename"])
@pytest.mark.parametrize("raised", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_replacement_that_fails_leaves_the_file_and_nothing_beside_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, fails: str, raised: BaseException
) -> None:
    def failing(*_: object) -> None:
        raise raised

    for known in (None, b"old"):
        with monkeypatch.context() as patch, pytest.raises(type(raised)) as found:
            patch.setattr(os, fails, failing)
            replace_file(file, b"new", known=known)
        assert found.value is raised
        assert file.read_bytes() == b"old"
        assert list(file.parent.iterdir()) == [file]


def test_a_place_that_takes_no_file_stays_as_it_is(file: Path) -> None:
    file.unlink()
    file.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(file, b"new")
    assert list(file.parent.iterdir()) == [file]
    with pytest.raises(FileNotFoundError):
        replace_file(file / "absent/a.yaml", b"new")
    assert list(file.iterdir()) == []


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def unnamed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Two file systems: one with unnamed files, and one without."""
    if not request.param:
        real = os.open

        def opened(path: str, flags: int, *rest: int, **more: int) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "Operation not supported")
            return real(path, flags, *rest, **more)

        monkeypatch.setattr(os, "open", opened)
    return bool(request.param)


def test_a_new_file_gets_its_name_and_mode_at_the_end(tmp_path: Path, unnamed: bool) -> None:
    before = os.umask(0o027)
    try:
        with new_file(str(tmp_path / "out")) as fd:
            os.write(fd, b"bytes")
            assert [each.stat().st_mode & 0o777 for each in tmp_path.iterdir()] == (
                [] if unnamed else [0o600]
            )
    finally:
        os.umask(before)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_bytes() == b"bytes"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.usefixtures("unnamed")
def test_a_new_file_replaces_no_other(tmp_path: Path, early: bool) -> None:
    out = tmp_path / "out"
    if early:
        out.symlink_to("absent")
    with pytest.raises(FileExistsError), new_file(str(out)):
        assert not early
        out.symlink_to("absent")
    assert [each.readlink() for each in tmp_path.iterdir()] == [Path("absent")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.usefixtures("unnamed")
def test_of_a_new_file_nothing_is_left_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_file(str(tmp_path / "out")):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_of_several_new_files_all_are_written_or_none(tmp_path: Path) -> None:
    first, second = str(tmp_path / "home.yaml"), str(tmp_path / "home.test.yaml")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(PolicyfsError, match=r"cannot write .*test.yaml: File too large"):
            write_new({first: "x", second: "x" * 200})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(UnicodeEncodeError):
        write_new({first: "x", second: "\udcff"})
    assert not list(tmp_path.iterdir())
    Path(second).write_text("mine")
    with pytest.raises(PolicyfsError, match="File exists"):
        write_new({first: "x", second: "x"})
    assert os.listdir(tmp_path) == ["home.test.yaml"]
    assert Path(second).read_text() == "mine"

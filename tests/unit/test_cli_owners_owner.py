"""`policyfs owner` on a store: what is printed, set, kept on record, and refused."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from policyfs.cli import main
from policyfs.cli.owners import owner
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_REFUSED, EXIT_USAGE
from policyfs.linux.statx import Stat
from policyfs.store.facts import StoreFacts
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree
from policyfs.store.trial import probe
from tests.support.mount.trail import read_all

ATTRIBUTE = "trusted.policyfs.owner"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(tmp_path / "trail"))
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "run"))
    made = tmp_path / "store"
    (made / "d/inner").mkdir(parents=True)
    for name in ("a", "d/b", "d/inner/c"):
        (made / name).touch()
    os.mkfifo(made / "fifo")
    (made / "link").symlink_to("d")
    return made


class Said:
    """A command's exit code and its two outputs."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: object) -> None:
        self.code = main.main(["owner", *map(str, words)])
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    return lambda *words: Said(capsys, *words)


def test_owners_are_set_shown_and_set_once_only(store: Path, run) -> None:
    assert run("show", store, "/a", "/d/b").out == "none\t/a\nnone\t/d/b\n"
    said = run("set", store, "camera", "/a", "/d/b")
    assert (said.code, said.out) == (EXIT_OK, "/a: none -> camera\n/d/b: none -> camera\n")
    assert "2 owners changed" in said.err
    said = run("set", store, "camera", "/a")
    assert (said.out, said.err) == ("", "0 owners changed\n")
    assert run("set", store, "none", "/a").out == "/a: camera -> none\n"
    assert run("show", store, "/a", "/d/b").out == "none\t/a\ncamera\t/d/b\n"


def test_a_file_that_a_program_writes_gets_no_owner(store: Path, run) -> None:
    """The program's bytes would count as bytes of the new owner."""
    with (store / "a").open("a"):
        said = run("set", store, "camera", "/a", "/d/b")
        assert (said.code, said.out) == (EXIT_REFUSED, "/d/b: none -> camera\n")
        assert "/a: a program has this file open for writing" in said.err
        assert run("set", store, "none", "/d/b").code == EXIT_OK
    assert run("show", store, "/a", "/d/b").out == "none\t/a\nnone\t/d/b\n"


def test_nobody_owns_a_file_that_a_program_opens_meanwhile(store: Path, run, monkeypatch) -> None:
    run("set", store, "gallery", "/a")
    set_owner = Owners.set

    def meanwhile(self: Owners, fd: int, stat: Stat, app: str) -> None:
        with contextlib.suppress(BlockingIOError):
            os.close(os.open(store / "a", os.O_WRONLY | os.O_NONBLOCK))
        set_owner(self, fd, stat, app)

    monkeypatch.setattr(Owners, "set", meanwhile)
    said = run("set", store, "camera", "/a")
    assert said.code == EXIT_REFUSED
    assert "/a: a program has just opened this file for writing, so nobody owns the file now." in said.err
    assert run("show", store, "/a").out == "none\t/a\n"


def test_a_file_whose_program_ends_within_a_moment_gets_its_owner(store: Path, run) -> None:
    """A mount closes a file some time after the app's close(2)."""
    writer = (store / "a").open("a")
    closing = threading.Timer(0.2, writer.close)
    closing.start()
    said = run("set", store, "camera", "/a")
    closing.join()
    assert (said.code, said.out) == (EXIT_OK, "/a: none -> camera\n")


def test_a_file_on_which_a_program_has_a_write_lease_gets_no_owner(store: Path, run) -> None:
    """The program could write again before it gives up the lease."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with (store / "a").open("r+") as writer:
        fcntl.fcntl(writer, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        said = run("set", store, "camera", "/a")
        fcntl.fcntl(writer, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    signal.signal(signal.SIGIO, before)
    assert said.code == EXIT_REFUSED
    assert "/a: a program has this file open for writing" in said.err


def refusing_leases(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    real = fcntl.fcntl

    def refuses(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETLEASE and argument != fcntl.F_UNLCK:
            raise OSError(error, os.strerror(error))
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", refuses)


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EINVAL, errno.EACCES])
def test_a_store_without_leases_gets_owners(
    store: Path, run, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """CIFS without an oplock, and NFSv4 without a delegation, answer EAGAIN to every lease."""
    facts_without(monkeypatch, leases=False)
    refusing_leases(monkeypatch, error)
    said = run("set", store, "camera", "/a")
    assert (said.code, said.out) == (EXIT_OK, "/a: none -> camera\n")


def test_without_an_answer_about_writers_a_file_gets_no_owner(
    store: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root without CAP_LEASE."""
    facts_without(monkeypatch, leases=True)
    refusing_leases(monkeypatch, errno.EACCES)
    said = run("set", store, "camera", "/a")
    assert (said.code, said.out) == (EXIT_REFUSED, "")
    why = "policyfs cannot find out if a program has this file open for writing (Permission denied)"
    assert f"/a: {why}" in said.err
    assert run("show", store, "/a").out == "none\t/a\n"


def facts_without(monkeypatch: pytest.MonkeyPatch, *, leases: bool) -> None:
    monkeypatch.setattr(owner, "probe", lambda root: replace(probe(root), leases=leases))


def test_a_dry_run_changes_nothing_and_is_not_on_record(store: Path, tmp_path: Path, run) -> None:
    (tmp_path / "trail").mkdir()
    said = run("set", "-n", store, "camera", "/a")
    assert (said.out, said.err) == ("/a: none -> camera\n", "1 owner would change\n")
    assert ATTRIBUTE not in os.listxattr(store / "a")
    assert list((tmp_path / "trail").iterdir()) == []


def test_a_change_is_on_record_before_it_is_made(store: Path, tmp_path: Path, run, monkeypatch) -> None:
    (tmp_path / "trail").mkdir()
    run("set", store, "camera", "/a")
    chain = tmp_path / "trail" / control.mount_id(str(store))
    (fields,) = [one.fields for one in read_all(chain) if one.kind == "owners"]
    assert (fields["done"], fields["store"], fields["how"]) == ("set", str(store), "policyfs owner set")

    def fails(*_: object, **__: object) -> None:
        raise owner.PolicyfsError("the trail cannot be written")

    monkeypatch.setattr(owner, "record", fails)
    assert run("set", store, "camera", "/d/b").code == EXIT_REFUSED
    assert ATTRIBUTE not in os.listxattr(store / "d/b")


def test_everything_below_a_directory_in_order(store: Path, run) -> None:
    said = run("show", "-r", store, "/d")
    assert said.out == "none\t/d\nnone\t/d/b\nnone\t/d/inner\nnone\t/d/inner/c\n"
    assert run("show", store, "/d").out == "none\t/d\n"
    said = run("set", "-r", store, "camera", "/")
    assert said.code == EXIT_REFUSED
    assert "/fifo: fifos, sockets and devices cannot have an owner" in said.err
    assert "/: none -> camera" in said.out
    assert "/link: none -> camera" in said.out
    assert "/link/b" not in said.out
    assert said.out.count("\n") == 7


def test_symlinks_on_the_way_and_absent_names_are_told_and_the_rest_is_done(store: Path, run) -> None:
    said = run("set", store, "camera", "/link/b", "/none", "/a/x", "/a")
    assert (said.code, said.out) == (EXIT_REFUSED, "/a: none -> camera\n")
    assert said.err.splitlines() == [
        "policyfs: /link/b: a part of the path is a symlink, or not a directory",
        "policyfs: /none: No such file or directory",
        "policyfs: /a/x: a part of the path is a symlink, or not a directory",
        "1 owner changed",
    ]
    said = run("show", "-r", store, "/none", "/a")
    assert said.out == "camera\t/a\n"
    assert run("show", store, "/link/b").code == EXIT_REFUSED


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("set", "{}", "no such app!", "/a"), "no such app!"),
        (("set", "{}", "camera", "/a/../b"), "/a/../b"),
        (("show", "{}", "../store"), "../store"),
    ],
)
def test_words_that_are_no_app_or_path_are_usage_errors(store: Path, run, words: tuple, told: str) -> None:
    said = run(*(word.format(store) for word in words))
    assert (said.code, said.out) == (EXIT_USAGE, "")
    assert told in said.err


# -- lists ---------------------------------------------------------------------------------------------


def test_a_wrong_path_among_others_changes_nothing(store: Path, tmp_path: Path, run) -> None:
    (tmp_path / "trail").mkdir()
    said = run("set", store, "none", "/a", "relative/../d")
    wrong = run("set", store, "camera", "/a", "relative/../d")
    assert (said.code, wrong.code, wrong.out) == (EXIT_USAGE, EXIT_USAGE, "")
    assert run("show", store, "/a").out == "none\t/a\n"
    assert not [*(tmp_path / "trail").rglob("*.jsonl")], "nothing on record"


def test_a_list_takes_owners_to_another_store(store: Path, tmp_path: Path, run, monkeypatch) -> None:
    run("set", store, "camera", "/a", "/d", "/link")
    assert run("export", store, tmp_path / "list").code == EXIT_OK
    assert (tmp_path / "list").stat().st_mode & 0o777 == 0o600
    assert run("export", store).out == (tmp_path / "list").read_text()
    assert not (tmp_path / "list.new").exists()
    other = tmp_path / "other"
    (other / "d").mkdir(parents=True)
    (other / "a").mkdir()
    said = run("import", other, tmp_path / "list")
    assert (said.code, said.out) == (EXIT_REFUSED, "/d: none -> camera\n")
    assert "/a: its type in the list is regular, but in the store it is directory" in said.err
    assert "/link: No such file" in said.err
    lines = (tmp_path / "list").read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    (other / "link").symlink_to("anything")
    said = run("import", "-n", other, "-")
    assert said.out == "/link: none -> camera\n"
    assert "1 owner would change" in said.err


def test_a_list_that_cannot_be_written_or_read_is_told(store: Path, tmp_path: Path, run) -> None:
    said = run("export", store, tmp_path / "none/list")
    assert (said.code, "cannot write" in said.err) == (EXIT_REFUSED, True)
    said = run("import", store, tmp_path / "none")
    assert (said.code, "cannot read" in said.err) == (EXIT_REFUSED, True)
    for name in ("list", "list.new"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    assert run("export", store, tmp_path / "list").code == EXIT_OK
    assert not (tmp_path / "elsewhere").exists(), "nothing is written through a symlink"


# -- stores --------------------------------------------------------------------------------------------


def without_attributes(fd: int, *, stable: bool = True) -> StoreFacts:
    return replace(probe(fd), trusted_xattr=False, stable_inodes=stable)


def test_a_store_must_be_there_and_its_reader_root(store: Path, tmp_path: Path, run, monkeypatch) -> None:
    said = run("show", tmp_path / "none", "/a")
    assert said.code == EXIT_REFUSED
    assert "cannot open the store" in said.err
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = run("show", store, "/a")
    assert said.code == EXIT_REFUSED
    assert "needs root" in said.err


def test_a_store_that_keeps_no_attributes_has_a_database(
    store: Path, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "probe", without_attributes)
    said = run("set", store, "camera", "/a")
    assert said.code == EXIT_REFUSED
    assert f"the trail root {tmp_path / 'trail'} does not exist" in said.err
    (tmp_path / "trail").mkdir()
    assert run("set", store, "camera", "/a").out == "/a: none -> camera\n"
    assert ATTRIBUTE not in os.listxattr(store / "a")
    assert (tmp_path / "trail/owners.sqlite").exists()
    assert run("show", store, "/a").out == "camera\t/a\n"
    shutil.copytree(tmp_path / "trail", tmp_path / "backup")
    for file in (tmp_path / "trail").glob("owners.sqlite*"):
        file.unlink()
    assert run("show", store, "/a").out == "none\t/a\n", "docs/operations.md: apps own no file"
    shutil.copytree(tmp_path / "backup", tmp_path / "trail", dirs_exist_ok=True)
    assert run("show", store, "/a").out == "camera\t/a\n"


def test_a_store_without_either_keeps_no_owners(store: Path, run, monkeypatch) -> None:
    monkeypatch.setattr(owner, "probe", lambda fd: without_attributes(fd, stable=False))
    said = run("show", store, "/a")
    assert said.code == EXIT_REFUSED
    assert "cannot keep owners" in said.err


@pytest.fixture(params=["listdir", "fstat"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in which the directory /d/inner cannot be read."""
    listdir, fstat = os.listdir, Tree.fstat

    def check(fd: object) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/d/inner"):
            raise OSError(errno.EIO, "Input/output error")

    def checked_listdir(path: bytes | int) -> list[bytes]:
        check(path if isinstance(path, int) else path.decode().rsplit("/", 1)[1])
        return listdir(path)

    def checked_fstat(self: Tree, fd: int) -> Stat:
        check(fd)
        return fstat(self, fd)

    if request.param == "listdir":
        monkeypatch.setattr(owner.os, "listdir", checked_listdir)
    else:
        monkeypatch.setattr(Tree, "fstat", checked_fstat)


COMPLAINT = "policyfs: /d/inner: Input/output error\n"


@pytest.mark.usefixtures("broken")
def test_a_list_of_owners_that_is_not_complete_is_an_error(store: Path, tmp_path: Path, run) -> None:
    run("set", store, "camera", "/a", "/d/b")
    said = run("export", store)
    assert [json.loads(line).get("path") for line in said.out.splitlines()] == [None, "/a", "/d/b"]
    assert (said.code, said.err) == (EXIT_REFUSED, COMPLAINT)
    kept = tmp_path / "owners.jsonl"
    kept.write_text("an older list")
    said = run("export", store, kept)
    assert (said.code, kept.read_text()) == (EXIT_REFUSED, "an older list")
    assert said.err == f"{COMPLAINT}policyfs: {kept} was not written: the list would not be complete\n"


@pytest.mark.usefixtures("broken")
def test_a_directory_that_cannot_be_read_is_an_error_of_show_and_set(store: Path, run) -> None:
    said = run("show", "-r", store, "/")
    assert (said.code, said.err) == (EXIT_REFUSED, COMPLAINT)
    assert "none\t/link\n" in said.out
    said = run("set", "-r", store, "camera", "/")
    assert said.code == EXIT_REFUSED
    assert said.err.count(COMPLAINT) == 1
    assert "/link: none -> camera\n" in said.out


class Broken(io.StringIO):
    """An output that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, f"No space left for {text}")


def test_an_error_of_the_output_is_blamed_on_no_file(store: Path, run) -> None:
    with contextlib.redirect_stdout(Broken()):
        said = run("set", store, "camera", "/a", "/d/b")
        assert (said.code, said.out) == (EXIT_REFUSED, "")
        assert "policyfs: /a:" not in said.err
        assert "2 owners changed" in said.err
        assert "cannot write the output" in said.err
        said = run("show", store, "/a")
        assert said.code == EXIT_REFUSED
        assert "policyfs: /a:" not in said.err
    assert run("show", store, "/a", "/d/b").out == "camera\t/a\ncamera\t/d/b\n"

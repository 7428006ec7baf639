"""Records of new objects: the next daemon removes what a killed daemon was making, and nothing else."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from policyfs.store.names import new_records
from policyfs.store.names.aside_names import aside
from policyfs.store.names.new_names import NewNames
from policyfs.store.names.new_records import NewRecords
from policyfs.store.tree import Tree
from tests.unit.test_store_names_new_names import WAYS


def killed(place: Path, way: str) -> str:
    """Kill a daemon that is making an object in the directory "d" of a store. Return its temporary name."""
    (place / "store/d").mkdir(parents=True)
    pid = os.fork()
    if pid == 0:
        try:
            with Tree.open(str(place / "store")) as tree:
                dirfd = tree.open_dir(tree.root_fd, b"d")
                NewNames(tree, NewRecords(str(place / "records"), tree)).make(
                    dirfd, b"new", lambda name: WAYS[way](dirfd, name),
                    lambda fd: os.kill(os.getpid(), signal.SIGKILL),
                )  # fmt: skip
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    [left] = os.listdir(place / "store/d")
    assert left.startswith("policyfs-aside-")
    return left


def begun(place: Path, store: str = "store") -> list[str]:
    """Begin the next daemon. Return what is in the directory of the killed one then."""
    with Tree.open(str(place / store)) as tree:
        NewRecords(str(place / "records"), tree).close()
    return os.listdir(place / "store/d")


@pytest.mark.parametrize("way", WAYS)
def test_the_next_daemon_removes_what_a_killed_one_was_making(tmp_path: Path, way: str) -> None:
    left = killed(tmp_path, way)
    (tmp_path / "other").mkdir()
    assert begun(tmp_path, "other") == [left], "of another store"
    assert begun(tmp_path) == []
    assert os.stat(tmp_path / "records").st_size <= 2 * 12288


def test_a_directory_with_files_and_a_file_stay(tmp_path: Path) -> None:
    left = killed(tmp_path, "directory")
    (tmp_path / "store/d" / left / "kept").touch()
    assert begun(tmp_path) == [left]
    with Tree.open(str(tmp_path / "store")) as tree:
        records, name = NewRecords(str(tmp_path / "records"), tree), aside()
        (tmp_path / "store" / os.fsdecode(name)).write_bytes(b"a file")
        records.write(tree.root_fd, name)
        os.close(records._fd)  # the daemon ends without a word
        NewRecords(str(tmp_path / "records"), tree).close()
    assert (tmp_path / "store" / os.fsdecode(name)).read_bytes() == b"a file"


def test_what_a_live_daemon_makes_stays_until_it_is_finished(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with Tree.open(str(tmp_path / "store")) as tree:
        here = NewRecords(str(tmp_path / "records"), tree)
        name = aside()
        here.write(tree.root_fd, name)
        tree.mkdir(tree.root_fd, name, 0o700, 0, 0, 0)
        NewRecords(str(tmp_path / "records"), tree).close()
        assert os.listdir(tmp_path / "store") == [os.fsdecode(name)]
        here.clear()
        here.close()
        NewRecords(str(tmp_path / "records"), tree).close()
        assert os.listdir(tmp_path / "store") == [os.fsdecode(name)]


def test_a_file_system_in_the_store_that_may_not_answer_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = killed(tmp_path, "directory")
    with monkeypatch.context() as patch:
        patch.setattr(new_records, "fuse_mounts_below", lambda path: {path + b"/d"})
        assert begun(tmp_path) == [left]
    assert begun(tmp_path) == []


def test_without_the_shared_file_nothing_is_recorded(tmp_path: Path) -> None:
    with Tree.open(str(tmp_path)) as tree:
        records = NewRecords(str(tmp_path / "absent/records"), tree)
        records.write(tree.root_fd, aside())
        records.clear()
        records.close()


@pytest.mark.parametrize("way", WAYS)
def test_the_record_of_what_cannot_be_removed_stays_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "store/d").mkdir(parents=True)

    def fails(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "no owner")

    def sticks(_tree: Tree, _dirfd: int, _name: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Tree.open(str(tmp_path / "store")) as tree, monkeypatch.context() as patch:
        records, dirfd = NewRecords(str(tmp_path / "records"), tree), tree.open_dir(tree.root_fd, b"d")
        for name in ("rmdir", "unlink"):
            patch.setattr(Tree, name, sticks)
        for number in range(2):
            with pytest.raises(OSError, match="no owner"):
                NewNames(tree, records).make(
                    dirfd, b"%d" % number, lambda name: WAYS[way](dirfd, name), fails
                )
        records.close()
        assert len(begun(tmp_path)) == 2, "nor can the next daemon"
    assert begun(tmp_path) == []
    assert os.stat(tmp_path / "records").st_size <= 4 * 12288


def test_what_is_kept_has_a_limit(tmp_path: Path) -> None:
    with Tree.open(str(tmp_path)) as tree:
        records = NewRecords(str(tmp_path / "records"), tree)
        for _ in range(200):
            records.write(tree.root_fd, aside())
            records.keep()
        records.close()
    assert os.stat(tmp_path / "records").st_size <= 65 * 12288

"""Directories, symlinks and special files that have their owner before their name."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.store.exact_names import ExactNames
from policyfs.store.new_names import NOT_MADE
from policyfs.store.tree import Tree
from tests.unit.test_store_exact_names import Racing

WAYS: dict[str, Callable[[int, bytes], None]] = {
    "directory": lambda dirfd, name: os.mkdir(name, dir_fd=dirfd),
    "symlink": lambda dirfd, name: os.symlink(b"target", name, dir_fd=dirfd),
    "fifo": lambda dirfd, name: os.mkfifo(name, dir_fd=dirfd),
}


class Scene:
    """A store in which an object is made."""

    def __init__(self, place: Path, way: str) -> None:
        self.place, self.way = place / "store", way
        self.place.mkdir()
        self.records = str(place / "records")
        self.tree = Racing.open(str(self.place))
        self.exact = ExactNames(self.tree, lambda *_: None, self.records)
        self.owned: list[int] = []
        self.fails = 0

    def make(self, name: bytes = b"new") -> int:
        fd = self.exact.new.make(self.tree.root_fd, name, self._made, self._own)
        if fd != NOT_MADE:
            os.close(fd)
        return fd

    def _made(self, name: bytes) -> None:
        WAYS[self.way](self.tree.root_fd, name)

    def _own(self, fd: int) -> None:
        assert "new" not in self.names
        self.owned.append(os.fstat(fd).st_ino)
        if self.fails:
            raise OSError(self.fails, "no owner")

    @property
    def names(self) -> list[str]:
        return sorted(os.listdir(self.place))


@pytest.fixture(params=WAYS)
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    return Scene(tmp_path, request.param)


def test_the_object_with_the_name_is_the_one_with_the_owner(scene: Scene) -> None:
    assert scene.make() != NOT_MADE
    assert scene.names == ["new"]
    assert scene.owned == [os.lstat(scene.place / "new").st_ino]


@pytest.mark.parametrize("late", [False, True])
def test_an_object_that_has_the_name_keeps_it(scene: Scene, *, late: bool) -> None:
    other = scene.place / "new"
    if late:
        scene.tree.before["rename2 1"] = other.mkdir
    else:
        other.mkdir()
        scene._own = lambda fd: None  # type: ignore[method-assign]
    with pytest.raises(FileExistsError):
        scene.make()
    assert scene.names == ["new"]
    assert other.is_dir()
    assert other.stat().st_ino not in scene.owned


def test_without_an_owner_nothing_is_made(scene: Scene) -> None:
    scene.fails = errno.ENOSPC
    with pytest.raises(OSError, match="no owner"):
        scene.make()
    assert scene.names == []


def test_a_store_that_knows_no_flags_is_asked_only_once(scene: Scene) -> None:
    scene.tree.failing["flags"] = errno.EINVAL
    assert [scene.make(), scene.make()] == [NOT_MADE, NOT_MADE]
    assert (scene.names, len(scene.owned)) == ([], 1)


def test_a_store_that_keeps_such_names_for_itself_gets_no_object(scene: Scene) -> None:
    def refuse(_name: bytes) -> None:
        raise OSError(errno.EACCES, "policyfs keeps such names for itself")

    scene._made = refuse  # type: ignore[method-assign]
    assert scene.make() == NOT_MADE
    assert scene.names == []


@pytest.mark.parametrize("filled", [False, True])
def test_the_next_daemon_removes_what_a_killed_one_was_making(scene: Scene, *, filled: bool) -> None:
    """A directory in which another program has made a file stays, with the file."""
    pid = os.fork()
    if pid == 0:
        try:
            with Tree.open(str(scene.place)) as tree:
                exact = ExactNames(tree, lambda *_: None, scene.records)
                exact.new.make(
                    tree.root_fd, b"new", lambda name: WAYS[scene.way](tree.root_fd, name),
                    lambda fd: os.kill(os.getpid(), signal.SIGKILL),
                )  # fmt: skip
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    [left] = scene.names
    assert left.startswith("policyfs-aside-")
    warned = list[str]()
    filled &= scene.way == "directory"
    if filled:
        (scene.place / left / "kept").touch()
    with Tree.open(str(scene.place)) as tree:
        ExactNames(tree, lambda what, _: warned.append(what), scene.records).close()
    assert scene.names == ([left] if filled else [])
    assert len(warned) == filled

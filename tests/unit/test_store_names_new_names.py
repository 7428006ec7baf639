"""Directories, symlinks and special files that have their owner before their name."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.store.names.exact_names import ExactNames
from policyfs.store.names.new_names import NOT_MADE, NewNames
from policyfs.store.tree import Tree
from tests.unit.test_store_names_exact_names import Racing

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


@pytest.mark.parametrize(("code", "told"), [
    (errno.EIO, errno.EIO), (errno.ETIMEDOUT, errno.ETIMEDOUT), (errno.EPERM, errno.EPERM),
    (errno.EEXIST, errno.EIO),
])  # fmt: skip
def test_an_object_that_was_made_though_the_store_tells_an_error_is_removed(
    scene: Scene, code: int, told: int
) -> None:
    """The answer of a network store may be lost. The store then finds the temporary name when it asks again,
    and tells EEXIST, but no object has the name that the app gave.
    """
    make = scene._made

    def lost(name: bytes) -> None:
        make(name)
        raise OSError(code, os.strerror(code))

    scene._made = lost  # type: ignore[method-assign]
    with pytest.raises(OSError, match=os.strerror(told)) as failed:
        scene.make()
    assert failed.value.errno == told
    assert scene.names == []


def test_what_cannot_be_removed_after_an_error_is_left_to_the_next_daemon(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = scene._made

    def lost(name: bytes) -> None:
        make(name)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fails(self: NewNames, dirfd: int, taken: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    scene._made = lost  # type: ignore[method-assign]
    with monkeypatch.context() as patch:
        patch.setattr(NewNames, "remove", fails)
        with pytest.raises(OSError, match="Input/output"):
            scene.make()
    scene.exact.close()
    assert len(scene.names) == 1
    with Tree.open(str(scene.place)) as tree:
        ExactNames(tree, lambda *_: None, scene.records).close()
    assert scene.names == []


def test_a_store_without_room_does_not_use_up_the_records(scene: Scene) -> None:
    def refuse(_name: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    scene._made = refuse  # type: ignore[method-assign]
    size = os.stat(scene.records).st_size
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            scene.make()
    assert os.stat(scene.records).st_size <= max(size, 12288)


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

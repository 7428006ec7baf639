"""Directories, symlinks and special files that have their owner before their name."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.store.names.new_names import NOT_MADE, NewNames
from policyfs.store.tree import Tree

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
        self.tree = Tree.open(str(self.place))
        self.new_names = NewNames(self.tree, None)
        self.owned: list[int] = []
        self.fails = 0

    def make(self, name: bytes = b"new") -> int:
        fd = self.new_names.make(self.tree.root_fd, name, self._made, self._own)
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
        scene._own = lambda fd: other.mkdir()  # type: ignore[method-assign]
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


def test_a_store_that_keeps_no_flags_is_not_asked(scene: Scene) -> None:
    scene.tree.noreplace = False
    assert scene.make() == NOT_MADE
    assert (scene.names, len(scene.owned)) == ([], 0)


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
    and tells EEXIST, but no object has the name that the app gave."""
    make = scene._made

    def lost(name: bytes) -> None:
        make(name)
        raise OSError(code, os.strerror(code))

    scene._made = lost  # type: ignore[method-assign]
    with pytest.raises(OSError, match=os.strerror(told)) as failed:
        scene.make()
    assert failed.value.errno == told
    assert scene.names == []


def test_an_object_that_cannot_be_removed_after_an_error_tells_the_first_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Tree, dirfd: int, taken: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    scene.fails = errno.ENOSPC
    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(Tree, name, fails)
    with pytest.raises(OSError, match="no owner"):
        scene.make()
    [left] = scene.names
    assert left.startswith("policyfs-aside-")

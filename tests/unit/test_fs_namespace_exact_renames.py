"""Renames of exactly the files that were decided on, in stores with and without flags, and with races."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.fs.inodes.node import StaleNodeError
from policyfs.fs.namespace.exact_renames import ExactRenames
from policyfs.linux.libc import RENAME_EXCHANGE
from policyfs.store.names.aside_names import is_aside
from policyfs.store.names.exact_names import ExactNames
from policyfs.store.tree import Tree
from tests.unit.test_store_names_exact_names import Racing


class Scene:
    """A store with a file to move, one to replace, and one that takes a name at the wrong moment."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.tree = Racing.open(str(place))
        self.renames = ExactRenames(self.tree, ExactNames(self.tree, lambda *_: None))
        for name in ("moved", "replaced", "third"):
            (place / name).write_text(name)

    def rename(self, new: str = "new", flags: int = 0, *, settled: bool = False) -> None:
        """Rename the file "moved", as it is now."""
        root, plain = self.tree.root_fd, Tree(self.tree.root_fd)  # whose calls do not count
        moved = plain.stat(root, b"moved")
        replaced = plain.stat(root, b"replaced") if new == "replaced" else None
        self.renames.rename(root, b"moved", root, new.encode(), moved, replaced, flags, settled=settled)

    def third_takes(self, name: str) -> None:
        os.replace(self.place / "third", self.place / name)

    @property
    def texts(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.place.iterdir()}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("settled", [True, False])
def test_the_file_gets_a_free_name_or_that_of_the_replaced_file(scene: Scene, *, settled: bool) -> None:
    scene.rename(settled=settled)
    assert scene.texts == {"new": "moved", "replaced": "replaced", "third": "third"}
    os.rename(scene.place / "new", scene.place / "moved")
    scene.rename("replaced", settled=settled)
    assert scene.texts == {"replaced": "moved", "third": "third"}


def test_two_files_are_exchanged(scene: Scene) -> None:
    scene.rename("replaced", RENAME_EXCHANGE)
    assert scene.texts == {"moved": "replaced", "replaced": "moved", "third": "third"}


def test_two_names_of_one_file_both_stay(scene: Scene) -> None:
    os.unlink(scene.place / "replaced")
    os.link(scene.place / "moved", scene.place / "replaced")
    scene.rename("replaced", settled=True)
    assert scene.texts == {"moved": "moved", "replaced": "moved", "third": "third"}


@pytest.mark.parametrize("new", ["new", "replaced"])
def test_a_third_file_with_the_old_name_stays_there(scene: Scene, new: str) -> None:
    scene.tree.before["rename2 1"] = lambda: scene.third_takes("moved")
    with pytest.raises(StaleNodeError):
        scene.rename(new)
    assert scene.texts == {"moved": "third", "replaced": "replaced"}


def test_a_third_file_with_the_old_name_never_has_the_free_name(scene: Scene) -> None:
    seen: list[bool] = []
    scene.tree.before["rename2 1"] = lambda: scene.third_takes("moved")
    for later in ("stat 1", "rename2 2"):
        scene.tree.before[later] = lambda: seen.append((scene.place / "new").exists())
    with pytest.raises(StaleNodeError):
        scene.rename()
    assert seen == [False, False]


@pytest.mark.parametrize("swapped", [True, False])
def test_a_store_that_takes_no_temporary_name_moves_the_file_and_compares_it_then(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, swapped: bool
) -> None:
    """Such as a store that is itself a mount of policyfs."""
    rename2 = Racing.rename2

    def refusing(self: Racing, old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int = 0) -> None:
        if is_aside(new):
            raise PermissionError(errno.EACCES, "not this name")
        rename2(self, old_dir, old, new_dir, new, flags)

    monkeypatch.setattr(Racing, "rename2", refusing)
    if swapped:
        scene.tree.before["rename2 1"] = lambda: scene.third_takes("moved")
        with pytest.raises(StaleNodeError):
            scene.rename(settled=True)
        assert scene.texts == {"moved": "third", "replaced": "replaced"}
    else:
        scene.rename(settled=True)
        assert scene.texts == {"new": "moved", "replaced": "replaced", "third": "third"}


@pytest.mark.parametrize("when", ["rename2 1", "rename2 2"])
def test_a_third_file_with_the_new_name_is_not_replaced(scene: Scene, when: str) -> None:
    scene.tree.before[when] = lambda: scene.third_takes("new")
    with pytest.raises(StaleNodeError):
        scene.rename()
    assert scene.texts == {"moved": "moved", "replaced": "replaced", "new": "third"}


@pytest.mark.parametrize("new", ["new", "replaced"])
def test_a_store_without_flags_moves_no_checked_file(scene: Scene, new: str) -> None:
    scene.tree.failing["flags"] = errno.EINVAL
    with pytest.raises(OSError, match="cannot move exactly") as refused:
        scene.rename(new, settled=True)
    assert (refused.value.errno, scene.texts["moved"]) == (errno.EXDEV, "moved")
    scene.rename(new)
    assert (scene.texts[new], "moved" in scene.texts) == ("moved", False)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_store_that_takes_no_other_name_replaces_by_a_plain_rename(scene: Scene, code: int) -> None:
    scene.tree.failing["flags"] = code
    scene.rename("replaced")
    assert scene.texts == {"replaced": "moved", "third": "third"}


def test_a_store_that_takes_no_other_name_keeps_a_checked_file(scene: Scene) -> None:
    scene.tree.failing["flags"] = errno.ENOSPC
    with pytest.raises(OSError, match="this store fails"):
        scene.rename("replaced", settled=True)
    assert scene.texts == {"moved": "moved", "replaced": "replaced", "third": "third"}

"""Names that are removed only while they are of one certain file, whoever comes between two system calls."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policyfs.linux import libc
from policyfs.linux.statx import Stat
from policyfs.store.names.aside_names import is_aside
from policyfs.store.names.exact_names import ExactNames
from policyfs.store.tree import Tree


class Racing(Tree):
    """A store in which others act right before one of its calls, and whose calls may fail.

    before: what others do, by name and number of the call ("rename2 1" is the first). failing: errnos of
    rename2(), with flags and without them; of link().
    """

    __slots__ = ("before", "calls", "failing")

    def __init__(self, root_fd: int) -> None:
        super().__init__(root_fd)
        self.before: dict[str, Callable[[], object]] = {}
        self.failing: dict[str, int] = {}
        self.calls: list[str] = []

    def _step(self, name: str, *failing: str) -> None:
        self.calls.append(name)
        act = self.before.pop(f"{name} {self.calls.count(name)}", None)
        if act is not None:
            act()
        for each in failing:
            if each in self.failing:
                raise OSError(self.failing[each], "this store fails")

    def stat(self, dirfd: int, name: bytes) -> Stat:
        self._step("stat")
        return super().stat(dirfd, name)

    def unlink(self, dirfd: int, name: bytes) -> None:
        self._step("unlink")
        super().unlink(dirfd, name)

    def rename2(self, old_dir: int, old: bytes, new_dir: int, new: bytes, flags: int = 0) -> None:
        self._step("rename2", "flags" if flags else "plain")
        super().rename2(old_dir, old, new_dir, new, flags)

    def link(self, fd: int, dirfd: int, name: bytes) -> None:
        self._step("link", "link")
        super().link(fd, dirfd, name)


class Scene:
    """A directory with a file that is to go, and two that must stay."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.tree = Racing.open(str(place))
        self.warned: list[bytes] = []
        self.exact = ExactNames(self.tree, lambda _what, name: self.warned.append(name))
        for name in ("refused", "good", "third"):
            (place / name).write_text(name)
        self.target = self.tree.stat(self.tree.root_fd, b"refused")
        self.tree.calls.clear()

    def unlink(self, still: Callable[[Stat], bool] = lambda _: True) -> bool:
        return self.exact.unlink(self.tree.root_fd, b"refused", self.target, still)

    def swap(self, name: str = "good") -> Callable[[], object]:
        return lambda: (self.place / name).rename(self.place / "refused")

    def contents(self) -> list[str]:
        return sorted(path.read_text() for path in self.place.iterdir())

    def called(self, name: str) -> str:
        return (self.place / name).read_text()


@pytest.fixture
def scene(tmp_path: Path):
    found = Scene(tmp_path)
    yield found
    found.tree.close()


@pytest.fixture(params=[{}, {"flags": errno.EINVAL}], ids=["flags", "no-flags"])
def failing(request, scene: Scene) -> None:
    """With renameat2, and on a store that knows no flags of it."""
    scene.tree.failing = dict(request.param)


@pytest.mark.usefixtures("failing")
class TestRemoval:
    def test_the_file_goes_and_nothing_else(self, scene: Scene) -> None:
        assert scene.unlink()
        assert scene.contents() == ["good", "third"]
        assert not scene.warned

    @pytest.mark.parametrize("before", ["stat 1", "rename2 1"])
    def test_a_file_that_takes_the_name_keeps_it(self, scene: Scene, before: str) -> None:
        scene.tree.before[before] = scene.swap()
        assert not scene.unlink()
        assert sorted(os.listdir(scene.place)) == ["refused", "third"]
        assert scene.called("refused") == "good"
        assert not scene.warned

    @pytest.mark.parametrize("before", ["stat 1", "rename2 1"])
    def test_a_file_that_has_changed_keeps_its_name(self, scene: Scene, before: str) -> None:
        scene.tree.before[before] = lambda: (scene.place / "refused").write_text("longer than before")
        assert not scene.unlink(lambda now: now.size == scene.target.size)
        assert sorted(os.listdir(scene.place)) == ["good", "refused", "third"]
        assert scene.called("refused") == "longer than before"

    def test_two_files_that_take_the_name_one_after_the_other_both_stay(self, scene: Scene) -> None:
        scene.tree.before["rename2 1"] = scene.swap()
        scene.tree.before["stat 2"] = scene.swap("third")
        assert not scene.unlink()
        assert scene.called("refused") == "third"
        assert scene.contents() == ["good", "third"]
        assert scene.warned == [b"refused"]
        [aside] = set(os.listdir(scene.place)) - {"refused"}
        assert aside.startswith("policyfs-aside-")

    def test_a_name_that_is_gone_is_told(self, scene: Scene) -> None:
        (scene.place / "refused").unlink()
        with pytest.raises(FileNotFoundError):
            scene.unlink()
        assert scene.contents() == ["good", "third"]

    def test_a_name_that_goes_meanwhile_is_told(self, scene: Scene) -> None:
        scene.tree.before["rename2 1"] = (scene.place / "refused").unlink
        with pytest.raises(FileNotFoundError):
            scene.unlink()
        assert scene.contents() == ["good", "third"]


def test_a_file_that_cannot_get_its_name_back_stays_under_another(scene: Scene) -> None:
    """On a store with neither flags nor hard links."""
    scene.tree.failing = {"flags": errno.EINVAL, "link": errno.EPERM}
    scene.tree.before["rename2 1"] = scene.swap()
    assert not scene.unlink()
    assert scene.contents() == ["good", "third"]
    assert scene.warned == [b"refused"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_name_goes_though_the_store_takes_no_other(scene: Scene, error: int) -> None:
    """It has no room, or is itself a mount of policyfs."""
    scene.tree.failing = {"flags": error, "plain": error}
    assert scene.unlink()
    assert scene.contents() == ["good", "third"]


def test_an_error_of_the_store_is_told_and_nothing_goes(scene: Scene) -> None:
    scene.tree.failing = {"flags": errno.EROFS}
    with pytest.raises(OSError) as caught:
        scene.unlink()
    assert caught.value.errno == errno.EROFS
    assert scene.contents() == ["good", "refused", "third"]


@pytest.mark.parametrize(("size", "is_renamed"), [(1 << 10, True), (1 << 30, False)])
def test_a_large_file_on_an_overlay_is_not_renamed_before_it_goes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, size: int, is_renamed: bool
) -> None:
    """A rename would copy it first, if it is of a lower layer."""
    monkeypatch.setattr(libc, "file_system_type", lambda _fd: 0x794C7630)
    os.truncate(scene.place / "refused", size)
    assert scene.unlink()
    assert ("rename2" in scene.tree.calls) is is_renamed
    assert scene.contents() == ["good", "third"]


CALLS = ["stat", "unlink"]


def failing_aside(monkeypatch: pytest.MonkeyPatch, error: int, *calls: str) -> None:
    """The store fails as soon as a file has a temporary name."""
    for call in calls:
        monkeypatch.setattr(Racing, call, _failing(getattr(Racing, call), error))


def _failing(call: Callable[..., Any], error: int) -> Callable[..., Any]:
    def fails(self: Racing, *arguments: Any) -> Any:
        if isinstance(arguments[1], bytes) and is_aside(arguments[1]):
            raise OSError(error, "the disk")
        return call(self, *arguments)

    return fails


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.EACCES])
def test_a_file_that_the_store_does_not_remove_keeps_its_name(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    failing_aside(monkeypatch, error, call)
    with pytest.raises(OSError, match="the disk") as caught:
        scene.unlink()
    assert caught.value.errno == error
    assert sorted(os.listdir(scene.place)) == ["good", "refused", "third"]
    assert not scene.warned


@pytest.mark.parametrize("call", CALLS)
def test_a_file_that_the_store_does_not_replace_keeps_its_name(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    root = scene.tree.root_fd
    moved, replaced = (scene.tree.stat(root, name) for name in (b"good", b"refused"))
    failing_aside(monkeypatch, errno.EIO, "unlink")
    scene.tree.before[f"{call} 1"] = lambda: None
    if call == "stat":
        failing_aside(monkeypatch, errno.EIO, "stat")
    with pytest.raises(OSError, match="the disk"):
        scene.exact.replace(root, b"good", moved, root, b"refused", replaced)
    assert {name: scene.called(name) for name in os.listdir(scene.place)} == {
        "good": "good", "refused": "refused", "third": "third",
    }  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_file_that_stays_aside_is_told_and_gets_its_name_from_the_next_daemon(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, call: str
) -> None:
    """The store is read-only from the first rename on, and later writable again."""
    records, root = str(tmp_path_factory.mktemp("records") / "moves"), scene.tree.root_fd
    warned: list[bytes] = []
    first = ExactNames(scene.tree, lambda _what, name: warned.append(name), records)
    for name in (b"refused", b"third"):
        with monkeypatch.context() as patch:
            failing_aside(patch, errno.EROFS, call, "rename2")
            with pytest.raises(OSError, match="the disk"):
                first.unlink(root, name, scene.tree.stat(root, name))
    assert warned == [b"refused", b"third"]
    assert first.unlink(root, b"good", scene.tree.stat(root, b"good")), "its record overwrites no other"
    assert all(is_aside(os.fsencode(name)) for name in os.listdir(scene.place))
    first.close()
    ExactNames(scene.tree, lambda _what, _name: None, records).close()
    assert sorted(os.listdir(scene.place)) == ["refused", "third"]
    assert [scene.called(name) for name in ("refused", "third")] == ["refused", "third"]


def test_a_replacement_that_cannot_be_undone_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails after the two files were exchanged. The replaced file never gets the other's name."""
    root = scene.tree.root_fd
    moved, replaced = (scene.tree.stat(root, name) for name in (b"good", b"refused"))
    scene.tree.before["rename2 3"] = lambda: scene.tree.failing.update(flags=errno.EROFS)
    failing_aside(monkeypatch, errno.EIO, "unlink")
    with pytest.raises(OSError, match="the disk"):
        scene.exact.replace(root, b"good", moved, root, b"refused", replaced)
    assert scene.contents() == ["good", "refused", "third"]
    assert scene.called("refused") == "good"
    assert not (scene.place / "good").exists()
    assert scene.warned == [b"good"]

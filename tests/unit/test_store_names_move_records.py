"""Records of files that are moved aside, and what the next daemon makes of those of a killed one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from policyfs.linux.statx import Stat
from policyfs.store.names import move_records
from policyfs.store.names.aside_names import is_aside
from policyfs.store.names.exact_names import ExactNames
from policyfs.store.names.move_records import Move, MoveRecords, mark
from policyfs.store.tree import Tree

STEPS: Final = ("stat", "unlink", "rename2", "link")
OLD, NEW, THIRD, FOURTH = "bytes of old", "bytes of new", "bytes of a third", "bytes of a fourth"


class Dying(Tree):
    """A store in which others act right before a call, and whose process is killed before a call.

    before: what others do, by number of the call. dies: the number of the call.
    """

    __slots__ = ("before", "calls", "dies")

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in STEPS:
            return found

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
            self.before.pop(self.calls, lambda: None)()
            return found(*arguments)

        return call


class Store:
    """A store with two directories: from/old, to/new, and files elsewhere that may take these names."""

    def __init__(self, place: Path) -> None:
        self.place, self.records = place / "store", str(place / "records")
        for name, text in (("from/old", OLD), ("to/new", NEW), ("other/3/a", THIRD), ("other/4/a", FOURTH)):
            path = self.place / name
            path.parent.mkdir(parents=True)
            path.write_text(text)
        self.warned: list[str] = []

    def taken(self, source: str, target: str) -> Callable[[], object]:
        """Another program renames a file over another."""
        return lambda: (self.place / "other" / source / "a").rename(self.place / target)

    def dies(
        self, work: Callable[[ExactNames, Tree, int, int], object], step: int,
        before: dict[int, Callable[[], object]],
    ) -> bool:  # fmt: skip
        """Work in a process that is killed at a step. False if it has fewer steps."""
        pid = os.fork()
        if pid == 0:
            status = 2
            try:
                with Dying.open(str(self.place)) as tree:
                    tree.before, tree.calls, tree.dies = {}, 0, 0
                    exact = ExactNames(tree, lambda what, name: None, self.records)
                    here, there = (tree.open_dir(tree.root_fd, name) for name in (b"from", b"to"))
                    tree.before, tree.calls, tree.dies = before, 0, step
                    work(exact, tree, here, there)
                status = 0
            finally:
                os._exit(status)
        _, ended = os.waitpid(pid, 0)
        assert ended in {0, signal.SIGKILL}
        return ended != 0

    def next_daemon(self) -> ExactNames:
        self.warned.clear()
        tree = Tree.open(str(self.place))
        return ExactNames(tree, lambda what, name: self.warned.append(what), self.records)

    def files(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.place)): path.read_text()
            for path in self.place.rglob("*")
            if path.is_file()
        }

    def asides(self) -> list[str]:
        return [name for name in self.files() if is_aside(os.fsencode(os.path.basename(name)))]


def _unlink(exact: ExactNames, tree: Tree, here: int, there: int) -> None:
    del there
    exact.unlink(here, b"old", _target(tree, "from/old"))


def _replace(exact: ExactNames, tree: Tree, here: int, there: int) -> None:
    moved, replaced = _target(tree, "from/old"), _target(tree, "to/new")
    exact.replace(here, b"old", moved, there, b"new", replaced)


def _move(exact: ExactNames, tree: Tree, here: int, there: int) -> None:
    os.unlink("new", dir_fd=there)  # so that the name is free
    with contextlib.suppress(FileExistsError):  # another has taken the name
        exact.move(here, b"old", _target(tree, "from/old"), there, b"new")


def _target(tree: Tree, path: str) -> Stat:
    """The file that was decided on, whose number others have not taken yet."""
    fd = os.open(path, os.O_PATH, dir_fd=tree.root_fd)
    return tree.fstat(fd)


RACES: Final = {
    "nobody": [],
    "old": [("3", "from/old")],
    "new": [("3", "to/new")],
    "both": [("3", "from/old"), ("4", "to/new")],
    "new twice": [("3", "to/new"), ("4", "to/new")],
}


@pytest.mark.parametrize("race", RACES)
@pytest.mark.parametrize("way", [_unlink, _replace, _move])
def test_no_file_is_lost_wherever_a_daemon_is_killed(
    tmp_path: Path, way: Callable[..., None], race: str
) -> None:
    """Others take the names right before each call, and the daemon is killed before each."""
    left = 0
    for first in range(1, 6):
        for step in itertools.count(1):
            store = Store(tmp_path / f"{first}-{step}")
            before = {first + number: store.taken(*names) for number, names in enumerate(RACES[race])}
            died = store.dies(way, step, before)
            texts, left = set(store.files().values()), left + len(store.asides())
            store.next_daemon().close()
            files, where = store.files(), (first, step, store.files())
            # What others have replaced is gone, and what the app was to remove or replace may be.
            assert texts - set(files.values()) <= ({OLD} if way is _unlink else {NEW}), where
            assert files.get("from/old", OLD) in {OLD, THIRD}, where
            assert files.get("to/new", NEW) != files.get("from/old"), where
            assert not store.asides() or race != "nobody", where
            assert not store.asides() or not died or store.warned, where
            if not died:
                break
    assert left > 5


@pytest.mark.parametrize(("way", "steps"), [(_unlink, 5), (_replace, 6), (_move, 4)])
def test_a_next_daemon_without_records_finds_nothing(tmp_path: Path, way: Any, steps: int) -> None:
    """The test above can fail: without the records, each of these files stays aside."""
    asides = 0
    for step in range(1, steps):
        store = Store(tmp_path / f"{step}")
        assert store.dies(way, step, {})
        os.unlink(store.records)
        store.next_daemon().close()
        asides += len(store.asides())
    assert asides >= 2


def test_a_record_of_a_live_daemon_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with Tree.open(str(store.place)) as tree:
        mine, found = MoveRecords(store.records, tree.root_fd), []
        mine.begin(lambda move: bool(found.append(move)))
        directory = tree.open_dir(tree.root_fd, b"from")
        mine.write(directory, b"old", b"policyfs-aside-1")
        other = MoveRecords(store.records, tree.root_fd)
        other.begin(lambda move: bool(found.append(move)))
        assert found == []
        mine.close()
        third = MoveRecords(store.records, tree.root_fd)
        third.begin(lambda move: bool(found.append(move)))
        assert found == [Move(b"from", b"old", b"policyfs-aside-1")]
        third.close()
        found.clear()
        fourth = MoveRecords(store.records, tree.root_fd)
        fourth.begin(lambda move: found.append(move) is None)
        assert found == [Move(b"from", b"old", b"policyfs-aside-1")], "it was not finished before"
        fifth = MoveRecords(store.records, tree.root_fd)
        fifth.begin(lambda move: found.append(move) is None)
        assert len(found) == 1
        for each in (other, fourth, fifth):
            each.close()
        os.close(directory)


def test_a_record_of_another_store_waits_for_that_store(tmp_path: Path) -> None:
    store, other = Store(tmp_path), tmp_path / "another"
    other.mkdir()
    assert store.dies(_unlink, 3, {})
    with Tree.open(str(other)) as tree:
        ExactNames(tree, lambda what, name: None, store.records).close()
    assert len(store.asides()) == 1
    store.next_daemon().close()
    assert store.asides() == []
    assert store.files()["from/old"] == OLD


def test_a_damaged_record_is_no_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.dies(_unlink, 3, {})
    with open(store.records, "r+b") as records:
        records.seek(12)
        records.write(b"?")
    store.next_daemon().close()
    assert len(store.asides()) == 1
    assert store.warned == []


def test_names_are_removed_without_the_shared_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.records = str(tmp_path / "absent/records")
    assert not store.dies(_unlink, 0, {})
    assert "from/old" not in store.files()


def test_a_file_that_cannot_get_its_name_back_now_is_left_to_a_later_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may be without room, or read-only since an error of its disk."""
    for way, dies in ((_unlink, 3), (_replace, 2), (_replace, 3)):
        for code in (errno.EROFS, errno.EDQUOT, errno.EIO):
            store = Store(tmp_path / f"{way.__name__}-{dies}-{code}")
            assert store.dies(way, dies, {})
            with monkeypatch.context() as patch:
                patch.setattr(Tree, "rename2", _failing(code))
                store.next_daemon().close()
                assert len(store.asides()) == len(store.warned) == 1
            store.next_daemon().close()
            assert store.asides() == []
            assert store.files()["from/old"] == OLD


def _failing(code: int) -> Callable[..., None]:
    def rename2(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    return rename2


def test_a_replaced_file_never_gets_the_old_name_of_the_moved_one(tmp_path: Path) -> None:
    """Another link of the replaced file has the new name when the next daemon starts. Apps that may not read
    the replaced file may read files by the old name.
    """
    store = Store(tmp_path)
    os.link(store.place / "to/new", store.place / "to/link")
    assert store.dies(_replace, 5, {})
    assert (store.place / "to/new").read_text() == OLD
    assert len(store.asides()) == 1
    os.rename(store.place / "to/link", store.place / "to/new")
    store.next_daemon().close()
    assert (store.place / "to/new").read_text() == NEW
    assert not (store.place / "from/old").exists()


@pytest.mark.parametrize("fields", [
    (), (b"from",), (b"from", b"new", b"old"), (b"from", b"new", b"x/../old"),
    (b"from", b"old", b"policyfs-aside-1", b"", b"", b"", b"", b"one more"),
])  # fmt: skip
def test_a_record_of_another_form_changes_no_name_and_stays(
    tmp_path: Path, fields: tuple[bytes, ...]
) -> None:
    """A daemon of another version of policyfs may have written it, and may start again."""
    store = Store(tmp_path)
    with Tree.open(str(store.place)) as tree:
        data = b"\0".join((mark(tree.fstat(tree.root_fd)), *fields))
    record = struct.pack("=II", len(data), zlib.crc32(data)) + data
    Path(store.records).write_bytes(record)
    before = store.files()
    for _ in range(2):
        store.next_daemon().close()
        assert store.files() == before
        assert store.warned == [move_records.UNKNOWN]
        assert Path(store.records).read_bytes().startswith(record)


def test_a_record_of_another_form_takes_no_record_away(tmp_path: Path) -> None:
    """This daemon gets another place, where the next one finds what this one left. A daemon of another store
    warns of nothing.
    """
    store, other = Store(tmp_path), tmp_path / "another"
    other.mkdir()
    with Tree.open(str(store.place)) as tree:
        data = mark(tree.fstat(tree.root_fd)) + b"\0of another form"
    record = struct.pack("=II", len(data), zlib.crc32(data)) + data
    Path(store.records).write_bytes(record)
    assert store.dies(_unlink, 3, {})
    warned: list[str] = []
    with Tree.open(str(other)) as tree:
        ExactNames(tree, lambda what, name: warned.append(what), store.records).close()
    assert warned == []
    store.next_daemon().close()
    assert store.asides() == []
    assert store.files()["from/old"] == OLD
    assert Path(store.records).read_bytes().startswith(record)


def test_files_get_their_names_back_though_the_shared_file_cannot_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, write = Store(tmp_path), os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if at != place:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data, at)

    with Tree.open(str(store.place)) as tree:
        first = MoveRecords(store.records, tree.root_fd)
        first.begin(lambda move: True)
        assert store.dies(_unlink, 3, {})
        place = Path(store.records).stat().st_size // 12288 * 12288
        first.close()
    assert place > 0
    monkeypatch.setattr(os, "pwrite", pwrite)
    store.next_daemon().close()
    assert store.asides() == []
    assert store.files()["from/old"] == OLD


def test_a_kept_record_stays_for_the_next_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is not used again while its daemon runs. Too many kept records end the recording."""
    monkeypatch.setattr(move_records, "_KEPT", 3)
    store = Store(tmp_path)
    with Tree.open(str(store.place)) as tree:
        first = MoveRecords(store.records, tree.root_fd)
        first.begin(lambda _: True)
        for taken in (b"1", b"2", b"3", b"4"):
            first.write(tree.root_fd, b"name", taken)
            first.keep()
        beside = MoveRecords(store.records, tree.root_fd)
        beside.begin(lambda move: pytest.fail(f"a record of a running daemon: {move}"))
        first.close()
        found: list[bytes] = []
        beside.begin(lambda move: not found.append(move.taken))
        assert found == [b"1", b"2", b"3"]
        beside.close()

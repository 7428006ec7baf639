"""Writes to files that stay open: one event for each file and second, by a real watch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.store import modified_files
from policyfs.store.modified_files import ModifiedFiles
from policyfs.store.tree import Tree
from policyfs.store.watch import Change, Watch
from tests.support.machine.processes import wait_for

pytestmark = pytest.mark.mount


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(modified_files, "time", clock)
    return clock


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    (tmp_path / "log").write_text("words")
    with Tree.open(tmp_path) as tree, Watch(tree.root_fd, writes=True) as watch:
        yield watch


def _append(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(b"more")
        os.fsync(file)


def _events(watch: Watch, files: ModifiedFiles) -> list[tuple[bytes | None, Change]]:
    return [(event.name, event.kind) for event in files.sift(watch.read_events())]


WRITTEN = [(b"log", Change.MODIFY)]


def test_writes_to_an_open_file_are_told_once_a_second(watch: Watch, tmp_path: Path, clock: Clock) -> None:
    files = ModifiedFiles(watch)
    assert files.wait_s() == float("inf")
    with (tmp_path / "log").open("ab", buffering=0) as log:
        log.write(b"more")
        assert _events(watch, files) == []
        assert 0 < files.wait_s() <= modified_files._FIRST_S
        for _ in range(3):
            log.write(b"more")
            assert watch.read_events() == [], "the kernel ignores them"
        clock.now_s += 0.2
        assert _events(watch, files) == WRITTEN
        log.write(b"more")
        clock.now_s += 0.9
        assert _events(watch, files) == []
        clock.now_s += 0.2
        assert _events(watch, files) == WRITTEN
        clock.now_s += 1.1
        assert _events(watch, files) == []
        assert files.wait_s() == float("inf")
        log.write(b"more")
        assert wait_for(watch.read_events, "it is reported again")


def test_a_close_tells_of_the_write(watch: Watch, tmp_path: Path, clock: Clock) -> None:
    files = ModifiedFiles(watch)
    _append(tmp_path / "log")
    assert _events(watch, files) == [(b"log", Change.CLOSE_WRITE)]
    with (tmp_path / "log").open("ab", buffering=0) as log:
        log.write(b"more")
        assert _events(watch, files) == []
    assert _events(watch, files) == [(b"log", Change.CLOSE_WRITE)]
    clock.now_s += 0.5
    assert _events(watch, files) == []


def test_a_truncation_by_path_is_a_write(watch: Watch, tmp_path: Path, clock: Clock) -> None:
    files = ModifiedFiles(watch)
    os.truncate(tmp_path / "log", 1)
    assert _events(watch, files) == []
    clock.now_s += 0.2
    assert _events(watch, files) == WRITTEN


def test_a_file_that_is_gone_is_forgotten(watch: Watch, tmp_path: Path, clock: Clock) -> None:
    files = ModifiedFiles(watch)
    os.truncate(tmp_path / "log", 1)
    assert _events(watch, files) == []
    (tmp_path / "log").unlink()
    clock.now_s += 0.2
    assert _events(watch, files) == [(b"log", Change.DELETE)]
    assert (files.wait_s(), files.missed) == (float("inf"), 0)


def test_writes_without_room_are_missed(watch: Watch, tmp_path: Path, clock: Clock, monkeypatch) -> None:
    monkeypatch.setattr(modified_files, "_MOST", 1)
    (tmp_path / "other").write_text("words")
    watch.read_events()
    files = ModifiedFiles(watch)
    for name in ("log", "other"):
        os.truncate(tmp_path / name, 1)
    clock.now_s += 0.01
    assert _events(watch, files) == []
    assert files.missed == 1

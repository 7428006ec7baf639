"""Replaced files: for how long, for whom, and that no descriptor is lost."""

from __future__ import annotations

import os
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.domain import RAW_VIEW, FileType
from policyfs.fs.inodes import replaced_files
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.placement import Placement
from policyfs.fs.inodes.replaced_files import ReplacedFiles
from policyfs.store import freeing
from tests.support.machine.processes import wait_for
from tests.support.models.policies import engine_of

STATE = engine_of('- {id: a, allow: [see], who: {app: any}, paths: "/**"}\n').root
PLACES: Placement = Placement(lambda state, name: state)
TOP = Node(1, 1, 0, FileType.DIRECTORY, RAW_VIEW, BytePath.RAW, STATE, PLACES)


def node(nodeid: int, name: bytes = b"a") -> Node:
    made = Node(nodeid, nodeid, 0, FileType.REGULAR, RAW_VIEW, BytePath.RAW, STATE, PLACES)
    made.parent, made.name = TOP, name
    return made


def descriptor() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").is_symlink()


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(replaced_files, "time", types.SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def kept(clock: Clock) -> Iterator[ReplacedFiles]:
    made = ReplacedFiles()
    yield made
    made.close()


def test_it_is_found_for_a_quarter_of_a_second(kept: ReplacedFiles, clock: Clock) -> None:
    fd, file = descriptor(), node(2)
    assert kept.find(file) == -1
    kept.keep(file, fd)
    clock.now_s += 0.25
    assert kept.find(file) == fd
    kept.expire()
    assert is_open(fd), "not yet"
    clock.now_s += 0.01
    assert kept.find(file) == -1, "also before anybody cleans up"
    kept.expire()
    assert not is_open(fd)
    assert len(kept) == 0


def test_only_what_has_had_its_time_is_closed(kept: ReplacedFiles, clock: Clock) -> None:
    old, new = descriptor(), descriptor()
    kept.keep(node(2), old)
    clock.now_s += 0.2
    kept.keep(node(3), new)
    clock.now_s += 0.1
    kept.expire()
    assert [is_open(fd) for fd in (old, new)] == [False, True]


def test_a_node_that_is_replaced_again_keeps_one_descriptor_and_its_place(
    kept: ReplacedFiles, clock: Clock
) -> None:
    file, first, other, second = node(2), descriptor(), descriptor(), descriptor()
    kept.keep(file, first)
    kept.keep(node(3), other)
    clock.now_s += 0.2
    kept.keep(file, second)
    assert not is_open(first)
    clock.now_s += 0.1
    kept.expire()
    assert [is_open(fd) for fd in (other, second)] == [False, True], "it is the newest now"
    assert kept.find(file) == second


def test_the_oldest_go_where_there_are_many(kept: ReplacedFiles) -> None:
    fds = [descriptor() for _ in range(65)]
    for number, fd in enumerate(fds):
        kept.keep(node(number + 2), fd)
    assert len(kept) == 64
    assert [is_open(fd) for fd in fds] == [False, *[True] * 64]
    kept.close()
    assert not any(map(is_open, fds))


def test_a_large_one_is_freed_on_a_thread(
    kept: ReplacedFiles, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for its room, and freeing 512 MiB takes 80 ms."""
    monkeypatch.setattr(freeing, "LARGE_BYTES", 4095)
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, bytes(64 * 1024))
    threads: list[threading.Thread] = []
    close = os.close

    def noted(number: int) -> None:
        threads.append(threading.current_thread())
        close(number)

    monkeypatch.setattr(os, "close", noted)
    kept.keep(node(2), fd)
    clock.now_s += 1
    kept.expire()
    wait_for(lambda: not is_open(fd), "the file is closed")
    assert threads != [threading.main_thread()]


def test_what_is_kept_for_one_open_goes_with_it(kept: ReplacedFiles) -> None:
    once, often = node(2), node(3)
    fds = descriptor(), descriptor()
    kept.keep(once, fds[0], 7)
    kept.keep(often, fds[1])
    for each in (once, often):
        kept.opened(each, 7)
    assert (kept.find(once), kept.find(often)) == (-1, fds[1])
    assert [is_open(fd) for fd in fds] == [False, True]


def test_the_open_of_one_thread_leaves_what_another_needs(kept: ReplacedFiles) -> None:
    file, first, fd = node(2), descriptor(), descriptor()
    kept.keep(file, first, 7)
    kept.keep(file, fd, 8)
    assert not is_open(first)
    kept.opened(file, 7)
    kept.opened(file, 9)
    assert kept.find(file) == fd, "the thread 8 has found the file, and will open it"
    kept.opened(file, 8)
    assert kept.find(file) == -1
    assert not is_open(fd)


def test_threads_that_never_open_take_no_memory(kept: ReplacedFiles) -> None:
    file = node(2)
    for thread in range(1000):
        kept.keep(file, descriptor(), thread)
    assert len(kept._threads[file.nodeid]) <= 256


def test_a_node_kept_for_one_open_may_be_replaced_after_it(kept: ReplacedFiles) -> None:
    file, fd = node(2), descriptor()
    kept.keep(file, descriptor(), 7)
    kept.keep(file, fd)
    kept.opened(file, 7)
    assert kept.find(file) == fd


def test_a_name_that_was_missed_is_wanted_until_it_is_opened(kept: ReplacedFiles) -> None:
    missed, found, elsewhere = node(2, b"a"), node(3, b"a"), node(4, b"b")
    assert not kept.is_wanted(found)
    kept.missed(missed, 7)
    assert kept.is_wanted(found), "the file that has the name by now"
    assert kept.is_wanted(found), "the kernel may look twice"
    assert not kept.is_wanted(elsewhere)
    kept.opened(elsewhere, 7)
    assert kept.is_wanted(found)
    kept.opened(found, 7)
    assert not kept.is_wanted(found)


def test_an_open_by_another_thread_leaves_a_missed_name_wanted(kept: ReplacedFiles) -> None:
    """Otherwise the second try may meet the next rename, and the app gets ESTALE."""
    file = node(2)
    for thread in (7, 8):
        kept.missed(file, thread)
    kept.opened(file, 9)
    kept.opened(file, 7)
    assert kept.is_wanted(file)
    kept.opened(file, 8)
    assert not kept.is_wanted(file)


def test_threads_that_never_come_back_take_no_room(kept: ReplacedFiles) -> None:
    for thread in range(10_000):
        kept.missed(node(2), thread)
    assert sum(len(threads) for _, threads in kept._missed._entries.values()) <= 256

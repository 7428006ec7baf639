"""The circle of locks where the bridge answers repeats: it asks the store by itself. If another program
removes a file that an app writes, the kernel keeps the lock of the file's directory, too, until the write is
over. Then all who look for a name in this directory wait: the event loop, or a reader."""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.machine.processes import Child, call_as, is_blocked, start_as, thread_states, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.short_waits import READERS
from tests.support.mount.tinyfs import Options, Tiny

SHORT_WAITS = "tests.support.mount.short_waits"
READER = "policyfs-reader"
LOG = ("waited for each other",)
BEGUN_S = 0.5
"""The daemon looks for circles long before this time has passed."""
HANGS_S = 5.0
ENDS_S = 20.0
WARM = 6
"""LOOKUPs of absent names in one directory. The bridge answers the last ones."""


def _look(directory: Path, first: int, count: int) -> None:
    """Look for absent names."""
    for number in range(first, first + count):
        with contextlib.suppress(FileNotFoundError):
            os.stat(directory / f"absent-{number}")


def _look_once(channel: Connection, directory: Path, number: int) -> None:
    del channel
    _look(directory, number, 1)


def _write_page(channel: Connection, source: Path, target: Path) -> int:
    """Write a page of a file that hangs: the kernel keeps the target's lock until the page is read."""
    del channel
    fd = os.open(target, os.O_WRONLY)
    with (
        source.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory,
        memoryview(memory) as page,
    ):
        return os.pwrite(fd, page, 0)


def _remove(channel: Connection, path: Path) -> None:
    del channel
    path.unlink()


def _readers_blocked(mount: Mount) -> int:
    """How many readers wait for a lock."""
    return list(thread_states(mount.pid).values()).count((READER, "D"))


@pytest.fixture
def hanging(arena: Path) -> Iterator[Tiny]:
    """A file system with one file whose pages hang until the test lets them go."""
    far, backing = arena / "far", arena / "far-backing" / "file"
    far.mkdir()
    backing.parent.mkdir(mode=0o700)
    backing.write_bytes(b"hello world\n")
    tiny = Tiny(far, backing, Options())
    try:
        yield tiny
    finally:
        tiny.call("let_go")
        tiny.stop()


@pytest.fixture
def store(store_on: Callable[[str], Path], hanging: Tiny) -> Path:
    """A store in memory: there each look for an absent name takes the directory's lock."""
    store = store_on("tmpfs")
    faulty.furnish(store)
    return store


@pytest.fixture
def start(store: Path, mounts_on) -> Callable[..., Mount]:
    def started(*readers: str) -> Mount:
        mount = mounts_on.prepare(faulty.POLICY, store, "--avc")
        mount.program = (SHORT_WAITS, *readers)
        return mount.start()

    return started


@contextlib.contextmanager
def _held(mount: Mount, hanging: Tiny, *, reading: bool, killed: bool = True) -> Iterator[int]:
    """One process writes the hanging page to a file, and another one removes the file in the store. Yields
    the number of readers. killed: the daemon kills the process that writes meanwhile."""
    call_as(CAMERA, _look, mount / "DCIM", 0, WARM)
    said = mount.status()["vectors"]
    assert said["absences"] > 0
    assert said["reading"] == reading
    time.sleep(BEGUN_S)
    writer = start_as(CAMERA, _write_page, Path(hanging.path("slow")), mount / "DCIM/a.jpg")
    wait_for(lambda: hanging.call("is_waiting"), "the writer waits for the page")
    remover = start_as(0, _remove, mount.store / "DCIM/a.jpg")
    wait_for(lambda: is_blocked(remover.pid), "the remover waits for the writer")
    try:
        yield said["readers"]
        if killed:
            assert writer.channel.poll(ENDS_S), "nobody has killed the writer"
            with pytest.raises(AssertionError, match="wait status 9"):
                writer.result()
    finally:
        hanging.call("let_go")
        assert killed or writer.result() > 0
        remover.result()


def _assert_answers(mount: Mount, looks: list[Child]) -> None:
    """All who wait get their answer, though the page still hangs."""
    mount.expected_log.extend(LOG)
    for child in looks:
        if not child.channel.poll(ENDS_S):
            _abort(mount)
            pytest.fail("the mount hangs")
        child.result()


def _abort(mount: Mount) -> None:
    mount.abort()  # else nobody can be killed


def test_the_mount_goes_on_where_the_loop_asks_the_store(start: Callable[..., Mount], hanging: Tiny) -> None:
    """Attack E5.8: The same, while another mount or program removes or links the file, and so has the lock
    of a directory in which the bridge looks
    Guard: policyfs/daemon/lock_circle.py::LockCircle.writer (the process that writes is killed after 30
    s)
    Also: ::test_the_mount_goes_on_where_the_loop_waits_for_a_reader,
    ::test_the_mount_goes_on_where_each_reader_asks_the_store,
    tests/unit/test_daemon_lock_circle.py::test_a_reader_that_is_blocked_is_found_though_the_loop_goes_on
    Without: ::test_it_hangs_where_nobody_looks_at_the_readers
    """
    mount = start()
    with _held(mount, hanging, reading=False):
        look = start_as(CAMERA, _look_once, mount / "DCIM", 100)
        wait_for(lambda: is_blocked(mount.pid), "the loop waits for the directory")
        _assert_answers(mount, [look])
    assert mount.status()["bugs"] == 0


def test_the_mount_goes_on_where_the_loop_waits_for_a_reader(
    start: Callable[..., Mount], hanging: Tiny
) -> None:
    mount = start(READERS)
    with _held(mount, hanging, reading=True):
        looks = [start_as(CAMERA, _look_once, mount / "DCIM", 100)]
        wait_for(lambda: _readers_blocked(mount) == 1, "a reader waits for the directory")
        looks += [start_as(GALLERY, _look_once, mount / "Checked", number) for number in range(WARM)]
        _assert_answers(mount, looks)
    assert mount.status()["bugs"] == 0


def _look_in_each_reader(mount: Mount, readers: int) -> list[Child]:
    looks = [start_as(CAMERA, _look_once, mount / "DCIM", 100 + number) for number in range(readers)]
    wait_for(lambda: _readers_blocked(mount) == readers, "all readers wait for the directory")
    return looks


def test_the_mount_goes_on_where_each_reader_asks_the_store(
    start: Callable[..., Mount], hanging: Tiny
) -> None:
    mount = start(READERS)
    with _held(mount, hanging, reading=True) as readers:
        _assert_answers(mount, _look_in_each_reader(mount, readers))
    assert mount.status()["bugs"] == 0


def test_it_hangs_where_nobody_looks_at_the_readers(
    store: Path, without: Callable[..., Mount], hanging: Tiny
) -> None:
    mount = without("readers-unseen", faulty.POLICY, store, "--avc")
    mount.expected_exit = 1
    mount.expected_log.append("mount-ended")
    with _held(mount, hanging, reading=True, killed=False) as readers:
        looks = _look_in_each_reader(mount, readers)
        assert not looks[0].channel.poll(HANGS_S)
        _abort(mount)
        for child in looks:
            with pytest.raises(OSError, match=r"not connected|abort"):
                child.result()
    process = mount.process
    assert process is not None
    wait_for(lambda: process.poll() is not None, "the daemon ends", ENDS_S)

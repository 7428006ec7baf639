"""Open vectors in the bridge's own table, as far as they need no device: what it keeps, and for how long."""

from __future__ import annotations

import os
import random
import signal
import stat as stat_bits
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.kernel import bridge, vectors

NODE, GID, FLAGS = 7, 100, os.O_RDONLY


@pytest.fixture
def table() -> Iterator[None]:
    bridge.library.open_vectors(16, 2)
    yield
    bridge.prepare(0, 0)


def install(directory: Path, backing_id: int, uid: int = 1000, grant: int = vectors.OPEN) -> bool:
    fd = os.open(directory, os.O_PATH)
    try:
        return vectors.install(
            NODE, 1, fd, b"name", uid, grant, 3, 11, 5, stat_bits.S_IFREG, 0, GID, FLAGS, backing_id
        )
    finally:
        os.close(fd)


def test_a_node_has_one_backing_id(tmp_path: Path, table: None) -> None:
    assert install(tmp_path, 3)
    assert install(tmp_path, 3, uid=1001)
    assert not install(tmp_path, 4)
    assert vectors.end_opens(NODE) == []
    assert install(tmp_path, 4)
    assert vectors.end_all_opens() == []
    assert install(tmp_path, 5)


@pytest.mark.parametrize("backing_id", [0, -1])
def test_no_open_without_a_backing_id(tmp_path: Path, table: None, backing_id: int) -> None:
    assert not install(tmp_path, backing_id)


def test_a_node_that_was_not_opened_between_two_calls_is_unused(tmp_path: Path, table: None) -> None:
    assert install(tmp_path, 3)
    assert vectors.age_opens(2) == ([], [])
    assert vectors.age_opens(2) == ([], [NODE])
    assert install(tmp_path, 3), "it was opened by Python"
    assert vectors.age_opens(2) == ([], [])
    vectors.end_opens(NODE)
    assert vectors.age_opens(2) == ([], [])
    assert vectors.age_opens(2) == ([], [])


def test_a_vector_of_the_name_keeps_no_backing_id(tmp_path: Path, table: None) -> None:
    assert install(tmp_path, 0, grant=vectors.LOOKUP)
    assert [vectors.age_opens(2) for _ in range(3)] == [([], [])] * 3


def test_what_the_bridge_does_not_have_is_not_taken(tmp_path: Path, table: None) -> None:
    assert install(tmp_path, 3)
    for fh in (0, 1, 1 << 55, 1 << 55 | 0xFFFF, (1 << 64) - 1):
        assert vectors.take_handle(fh) == []
    assert vectors.take_handles(NODE) == vectors.take_handles(99) == []
    assert vectors.end_opens(99) == []
    stats = vectors.stats()
    assert (stats.opens, stats.releases, stats.handles) == (0, 0, 0)


def test_nothing_is_there_without_a_table() -> None:
    bridge.prepare(0, 0)
    assert vectors.take_handle(1 << 55) == vectors.end_opens(NODE) == []
    assert vectors.end_all_opens() == []
    assert vectors.age_opens(2) == ([], [])


def test_each_mode_of_access_has_a_bit_of_its_own() -> None:
    bits = [vectors.access(mode) for mode in range(vectors.ACCESS_MODES)]
    assert len({*bits, vectors.LOOKUP, vectors.GETATTR, vectors.OPEN, vectors.UNCOUNTED}) == 12
    assert sum(bits) & (vectors.LOOKUP | vectors.GETATTR | vectors.OPEN | vectors.UNCOUNTED) == 0


@pytest.mark.parametrize("many", [1, 2, 3, 4, 5, 7, 64, 96])
def test_each_processor_has_one_reader(many: int) -> None:
    processors = range(10, 10 + many)
    groups = vectors.reader_groups(processors)
    assert [processor for group in groups for processor in group] == list(processors)
    assert len(groups) == min(many, vectors.MAX_READERS)
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_directories_are_found_in_whatever_order_they_come_and_go(tmp_path: Path, seed: int) -> None:
    """Each is in a place of its own, and takes it from another one, in turn."""
    places = 5
    bridge.library.open_vectors(16, places)
    chance, turn = random.Random(seed), 0
    model: dict[int, int] = {}
    fd = os.open(tmp_path, os.O_PATH)
    try:
        for _ in range(200):
            directory = chance.choice([1, 5, 6, 10, 11, 15, 16, 20])
            if chance.random() < 0.3:
                vectors.leave(directory)
                model = {place: other for place, other in model.items() if other != directory}
            else:
                assert vectors.see_all(directory, fd, 1000, False)
                if directory not in model.values():
                    model[turn % places] = directory
                    turn += 1
            assert vectors.stats().directories == len(model)
    finally:
        os.close(fd)
        bridge.prepare(0, 0)


FAULT = """
import ctypes, os, signal, sys, threading
from pathlib import Path
from policyfs.kernel import bridge, vectors

bridge.end_at_faults()
device, other = os.pipe2(os.O_NONBLOCK)
file = os.memfd_create("log")
call = ctypes.CDLL(None)
call.prctl(15, b"appender", 0, 0, 0)  # PR_SET_NAME; a new thread has the name of the thread that starts it
appender = bridge.Appender()
appender.begin(file, 0, b"")
appender.result()
call.prctl(15, b"loop", 0, 0, 0)
vectors.start(device, 0, nodes=16, directories=2)
tasks = {int(task.name): (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
thread = next(number for number, name in tasks.items() if name == sys.argv[1])
call.syscall(ctypes.c_long(234), os.getpid(), thread, signal.SIGSEGV)  # tgkill(2)
threading.Event().wait(5)
"""


@pytest.mark.parametrize("thread", ["policyfs-reader", "appender"])
def test_a_fault_in_each_thread_of_c_ends_the_process_without_a_dump(thread: str) -> None:
    """If a thread blocks the signal of its fault, the kernel does not call the handler, and makes a dump."""
    done = subprocess.run(
        [sys.executable, "-c", FAULT, thread], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "signal 11 (a fault in C" in done.stderr

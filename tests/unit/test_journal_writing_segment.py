"""The segment that is written: whole batches or nothing, also by the thread without the interpreter lock."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.files.segments import settled_tail
from policyfs.journal.writing.segment import Segment
from policyfs.kernel.bridge import Appender
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, segments, verified


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "segment"


@pytest.fixture
def segment(file: Path) -> Iterator[Segment]:
    made = Segment(file.name, 1, os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), 0)
    yield made
    made.close()


@pytest.fixture
def appender() -> Iterator[Appender]:
    made = Appender()
    yield made
    made.close()


def test_a_started_write_is_in_the_file_when_it_is_over(
    file: Path, segment: Segment, appender: Appender
) -> None:
    for data in (b"one\n", b"two\n" * 50_000):
        before = segment.size
        assert segment.start(appender, data)
        segment.finish(*appender.result())
        assert file.read_bytes()[before:] == data
        assert segment.size == before + len(data)
        assert not segment.damage()


def test_a_file_that_another_changed_is_not_written(file: Path, segment: Segment, appender: Appender) -> None:
    file.write_bytes(b"forged\n")
    assert segment.start(appender, b"line\n")
    with pytest.raises(OSError, match="Stale") as caught:
        segment.finish(*appender.result())
    assert caught.value.errno == errno.ESTALE
    assert file.read_bytes() == b"forged\n"
    assert segment.damage() == "7 bytes long instead of 0"


def test_a_file_that_is_gone_is_not_written(file: Path, segment: Segment, appender: Appender) -> None:
    file.unlink()
    assert segment.start(appender, b"line\n")
    with pytest.raises(OSError, match="Stale"):
        segment.finish(*appender.result())
    assert segment.damage() == "deleted"


def test_readers_see_whole_batches_only(file: Path, segment: Segment, appender: Appender) -> None:
    line = b'{"type":"event","seq":1,"path":"/a","chain":"' + b"0" * 64 + b'"}\n'
    segment.start(appender, line)
    segment.finish(*appender.result())
    fd = os.open(file, os.O_RDONLY)
    assert settled_tail(fd) == line[:-1]
    os.close(fd)


HELD = """
import fcntl, os, threading
from policyfs.kernel.bridge import Appender
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, segments, verified

read_end, write_end = os.pipe()
size = fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
appender, data = Appender(), b"x" * (size + 1)
assert appender.begin(write_end, 0, data)  # the pipe takes all but one byte
while not appender.wait(0.01) and int.from_bytes(fcntl.ioctl(read_end, 0x541B, bytes(4)), "little") < size:
    pass
holder = [appender]
del appender
dropper = threading.Thread(target=holder.clear)
dropper.start()
dropper.join(0.2)
assert dropper.is_alive(), "its write is not over"
seen = 0
while seen < len(data):
    seen += len(os.read(read_end, size))
dropper.join()
print(seen)
"""
"""Who drops the last reference to an appender waits for its write; other threads go on."""


def test_an_appender_that_nobody_has_any_more_holds_nobody_up() -> None:
    said = subprocess.run(
        [sys.executable, "-c", HELD], capture_output=True, text=True, timeout=30, check=False
    )
    assert (said.stdout, said.stderr) == ("4097\n", "")


def test_the_appender_goes_where_its_caller_runs(segment: Segment, appender: Appender) -> None:
    mine, own = os.sched_getaffinity(0), threading.get_native_id()
    try:
        for cpu in (min(mine), max(mine)):
            os.sched_setaffinity(own, {cpu})
            for _ in range(2):  # it follows after a write
                assert segment.start(appender, b"line\n")
                segment.finish(*appender.result())
            threads = {int(name) for name in os.listdir("/proc/self/task")}
            deadline = time.monotonic() + 10
            while {cpu} not in [os.sched_getaffinity(one) for one in threads - {own}]:
                assert time.monotonic() < deadline
    finally:
        os.sched_setaffinity(own, mine)


def test_one_write_at_a_time_and_none_after_the_end(segment: Segment) -> None:
    appender = Appender()
    with pytest.raises(RuntimeError):
        appender.result()
    assert segment.start(appender, b"a")
    with pytest.raises(RuntimeError):
        segment.start(appender, b"b")
    segment.finish(*appender.result())
    for _ in range(2):
        appender.close()
    with pytest.raises(RuntimeError):
        segment.start(appender, b"c")


# -- who truncates the segment that is written


def _paths_in(data: bytes) -> set[bytes]:
    """The paths of all lines that begin in these bytes, whole or cut."""
    return {part.partition(b'"')[0] for part in data.split(b'"path":"')[1:]}


@pytest.mark.parametrize("when", ["between", "before the write"])
def test_only_lines_that_the_vandal_cut_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Each line is in a segment, or was in the file when that was truncated."""
    # The cuts are drawn for lines of this length: a longer version would put one into a path.
    monkeypatch.setattr("policyfs.journal.writing.writer.VERSION", "0.1.0")
    cuts, rng, cut = iter(range(1, 1000)), random.Random(5), set()

    def truncate() -> None:
        if next(cuts) % 9 == 0:
            path = segments(tmp_path / MOUNT_ID)[-1]
            data = path.read_bytes()
            keep = rng.randrange(len(data))
            begin = data.rfind(b"\n", 0, keep) + 1
            cut.update(_paths_in(data[begin:]))
            os.truncate(path, keep)

    append = Segment.append

    def late(self: Segment, data: bytes) -> None:
        truncate()  # after it was compared with what was written, and before the write
        append(self, data)

    with a_journal(tmp_path) as journal:
        if when != "between":
            monkeypatch.setattr(Segment, "append", late)
        for number in range(188):
            journal.record(an_event(b"/%03d" % number), Audit.REQUIRED)
            if when == "between":
                truncate()
    monkeypatch.undo()
    left = {path for one in segments(tmp_path / MOUNT_ID) for path in _paths_in(one.read_bytes())}
    assert left | cut == {b"/%03d" % number for number in range(188)}
    assert len(cut) > 20
    assert not verified(tmp_path / MOUNT_ID).whole

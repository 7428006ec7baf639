"""One app's checked writes wait for a slow disk, on threads, and nobody else does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.machine.counts import SOAK, count
from tests.support.machine.disks import Disk, disk
from tests.support.machine.processes import Child, call_as, start_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY, PHOTO
from tests.support.mount.stores import Mounts

pytestmark = pytest.mark.load

NAMES = tuple(f"{number}.jpg" for number in range(8))
PADDED = PHOTO + bytes(16384 - len(PHOTO) % 4096)
WHOLE_PAGE = b"\xd9" * 4096
SECONDS = count(1, 240) / 4
TIMES_ALONE, AT_MOST_S, WORST_S = 3, 0.020, 0.100


def _furnish(root: Path) -> None:
    (root / "store").mkdir(mode=0o700)
    faulty.furnish(root / "store")
    for name in NAMES:
        for place in ("DCIM", "Checked"):
            path = root / "store" / place / name
            path.write_bytes(PADDED)
            os.chown(path, CAMERA, CAMERA)


@pytest.fixture
def slow(mounts: Mounts, tmp_path: Path) -> Iterator[Callable[..., tuple[Mount, Disk]]]:
    """`slow(guard)`: a mount of a store on a disk that waits when told to; contents are not in memory."""
    with disk(tmp_path, _furnish) as made:
        mount = mounts.prepare(faulty.POLICY, made.root / "store")

        def start(guard: str = "") -> tuple[Mount, Disk]:
            if guard:
                mount.program = ("tests.attack.weakened", guard)
            mount.expected_mediated = True
            mount.start()
            for place in ("DCIM", "Checked"):
                for name in NAMES:
                    call_as(CAMERA, os.stat, mount / place / name)
            return mount, made

        try:
            yield start
        finally:
            made.be()
            wrong = mount.stop()
    assert wrong == []


def _overwrite(channel, path: Path) -> bytes:
    """Change a page behind the picture, in what is looked at of a checked file."""
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)  # else the kernel may read before it writes, and wait there
    os.pwrite(fd, WHOLE_PAGE, len(PADDED) - 4096)
    channel.send("open")
    channel.recv()
    os.pwrite(fd, WHOLE_PAGE, len(PADDED) - 8192)
    os.close(fd)
    return b"written"


def _slow_from_now_on(made: Disk, writers: list[Child]) -> None:
    """What is in the writers' files is on the disk alone, which waits; they go on to write."""
    for writer in writers:
        assert writer.receive() == "open"
    for name in NAMES:
        fd = os.open(made.root / "store/Checked" / name, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    made.be(slow="r")
    for writer in writers:
        writer.send("write")
    wait_for(lambda: made.waits("r"), "they wait for the disk")


def _opens(channel: Connection, path: Path) -> tuple[float, float]:
    """Open and read for a while: the 99th of a hundred times in seconds, and the longest."""
    del channel
    took, end = [], time.perf_counter() + SECONDS
    while (begun := time.perf_counter()) < end:
        path.read_bytes()
        took.append(time.perf_counter() - begun)
    took.sort()
    return took[len(took) * 99 // 100], took[-1]


def _measured(path: Path) -> tuple[float, float]:
    """The best of three short measurements, or one long one."""
    return min(start_as(GALLERY, _opens, path).result(SECONDS + 60) for _ in range(1 if SOAK else 3))


@pytest.mark.alone
@pytest.mark.timeout(4 * SECONDS + 120)
@pytest.mark.parametrize("processes", [1, 8] if SOAK else [4])
def test_an_honest_app_beside_checked_writes_to_a_slow_disk(slow, processes: int) -> None:
    """Attack E5.14: Write checked content (heads, drafts) to a slow disk
    Guard: policyfs/fs/checked/change_lock.py::ChangeLock.in_thread,
    policyfs/store/page_cache.py::read_store
    Without: ::test_everybody_waits_where_they_are_changed_on_the_loop
    """
    mount, made = slow()
    known = mount / "DCIM/7.jpg"
    alone, _ = _measured(known)
    writers = [start_as(CAMERA, _overwrite, mount / "Checked" / name) for name in NAMES[:processes]]
    _slow_from_now_on(made, writers)
    beside, worst = _measured(known)
    assert not any(writer.channel.poll() for writer in writers)
    made.be()
    assert [writer.result() for writer in writers] == [b"written"] * processes
    alone = max(alone, _measured(known)[0])  # before and after: the machine's load may have changed
    print(f"{processes}: p99 {alone * 1e3:.2f} ms, beside {beside * 1e3:.2f}, worst {worst * 1e3:.1f}")
    if SOAK:  # on a machine that has nothing else to do
        assert beside <= min(TIMES_ALONE * alone, AT_MOST_S), (beside, alone)
        assert worst < WORST_S
    assert beside <= max(TIMES_ALONE * alone, AT_MOST_S), (beside, alone)
    assert mount.status()["bugs"] == 0


def _read_one(channel, path: Path) -> int:
    return len(path.read_bytes())


def test_everybody_waits_where_they_are_changed_on_the_loop(slow) -> None:
    mount, made = slow("changed-on-the-loop")
    call_as(GALLERY, (mount / "DCIM/7.jpg").read_bytes)
    writer = start_as(CAMERA, _overwrite, mount / "Checked/0.jpg")
    _slow_from_now_on(made, [writer])
    reader = start_as(GALLERY, _read_one, mount / "DCIM/7.jpg")
    assert not reader.channel.poll(1.0)
    made.be()
    assert reader.result() == len(PADDED)
    assert writer.result() == b"written"

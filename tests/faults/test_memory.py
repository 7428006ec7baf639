"""The daemon has no more memory: copies stay within what it may have, and an end is clean."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.machine.memory import limited
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY, PHOTO
from tests.support.mount.stores import Mounts

pytestmark = pytest.mark.alone

LIMIT = 144 << 20
SIZE = 4 << 20
PHOTOS = count(45, 200)
"""Together more than LIMIT."""
FEW = 20


@pytest.fixture
def few(mounts: Mounts, empty_store: Path) -> Mount:
    """A mount, not started, of a store of few files."""
    faulty.furnish(empty_store)
    for number in range(FEW):
        (empty_store / f"DCIM/{number}.jpg").write_bytes(PHOTO)
    mount = mounts.prepare(faulty.POLICY, empty_store)
    mount.expected_mediated = True
    return mount


@pytest.fixture
def album(few: Mount) -> Mount:
    """A mount, not started, of a store of many large photos without reflink; the cap of copies is as ever."""
    for number in range(PHOTOS):
        photo = PHOTO[:-2] + bytes(SIZE - len(PHOTO)) + PHOTO[-2:]
        (few.store / f"DCIM/{number}.jpg").write_bytes(photo)
    return few


def _read_all(channel, directory: Path) -> list[str]:
    """Read every photo, and keep all of them open; what was wrong."""
    wrong, held = [], []
    for number in range(PHOTOS):
        try:
            held.append(os.open(directory / f"{number}.jpg", os.O_RDONLY))
            data = os.pread(held[-1], SIZE, 0)
        except OSError as error:
            wrong.append(f"{number}: {error.strerror}")
        else:
            if len(data) != SIZE or PHOTO[:1000] == data[:1000]:
                wrong.append(f"{number}: {len(data)} bytes")
    channel.send("read")
    channel.recv()
    return wrong


def test_copies_stay_within_what_the_daemon_may_have(album: Mount) -> None:
    """A limit of the control group that it is started in: half of it is for copies at most.

    Fault daemon.10: The daemon's control group has a memory limit
    App: no error. Copies take at most half of the limit, also with a larger `--copies-max`. If a copy
    has no room, the daemon serves the file as it serves large files
    Store: unchanged
    Trail: the opens, as usual
    """
    with limited(LIMIT) as limit:
        album.wrapper = ("sh", "-c", f'echo $$ > {limit.path}/cgroup.procs; exec "$@"', "sh")
        album.start()
        reader = start_as(GALLERY, _read_all, album / "DCIM")
        assert reader.receive(60) == "read"
        assert limit.kills() == 0
        assert album.status()["copies"]["bytes"] <= LIMIT // 2
        reader.send("enough")
        assert reader.result() == []
        assert album.status()["bugs"] == 0
        assert album.stop() == []


def test_a_daemon_that_the_kernel_kills_for_memory_leaves_a_clean_place(album: Mount) -> None:
    """Its limit is lowered while it serves: it goes as by kill -9.

    Fault daemon.12: The kernel kills the daemon for lack of memory
    App: as after kill -9
    Store: as after kill -9
    Trail: as after kill -9
    """
    album.start()
    reader = start_as(GALLERY, _read_all, album / "DCIM")
    with limited(16 << 20) as limit:
        limit.admit(album.pid)
        dead = album.process
        assert dead is not None
        assert dead.wait(60) == -signal.SIGKILL
        assert limit.kills() > 0
    album.start()
    assert wait_for(lambda: _read(album / "DCIM/a.jpg"), "the new mount answers") == PHOTO
    assert album._answers()
    reader.receive(60)
    reader.send("enough")
    assert all("bytes" not in line for line in reader.result())


def _read(path: Path, uid: int = CAMERA) -> bytes:
    try:
        return call_as(uid, path.read_bytes)
    except OSError:
        return b""


def _stat_all(path: Path) -> int:
    return sum(os.stat(path / f"DCIM/{number}.jpg").st_size for number in range(FEW) for _ in range(25))


@pytest.mark.parametrize("program", [(), ("tests.support.mount.readers_on",)], ids=["loop", "readers"])
def test_a_request_that_cannot_be_read_does_not_end_the_mount(
    few: Mount, arena: Path, program: tuple[str, ...]
) -> None:
    """The kernel has no memory for the copy of a request, and answers this request with EIO.

    Fault daemon.11: The kernel has no memory to give the daemon a request
    App: EIO from this request. The mount goes on
    Store: unchanged
    Trail: nothing about this request
    """
    source, library = Path(__file__).with_name("short_reads.c"), arena / "short_reads.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True, timeout=60)
    few.environment["LD_PRELOAD"], few.executed = str(library), True
    few.program = program or few.program
    few.start()
    assert call_as(CAMERA, _stat_all, few.mountpoint) == 25 * FEW * len(PHOTO)

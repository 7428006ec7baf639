"""One app's writes that hang, as many as the kernel lets it have, leave tasks and memory for others."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from policyfs.kernel import bridge, session
from policyfs.kernel.bridge import pack_fh, pyfuse3
from policyfs.kernel.session import IN_ALL, UNDER_WAY
from tests.faults.test_hanging import ANYBODY, TEXT, content_beginning_of, read_all_at_once
from tests.support.machine.processes import code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.mount.tinyfs import Options, Tiny, TinyFs

GREEDY, HONEST = 20000, 20001
MANY = range(20010, 20085)
"""Users with two requests each that hang, in lanes of their own."""
FILES = 400
"""More than there are tasks in the daemon. The kernel sends one WRITE of a file at a time."""
WHOLE = 1 << 20
"""The largest WRITE."""
HANG_MIB = 128
"""MiB of one app that may wait in the bridge while none goes on: BYTES_HANGING in _lanes.c."""
FIRST = UNDER_WAY + HANG_MIB
"""Writes after which the bridge has that, and waits for HANGS_S for one to go on."""
HANGS_S = 5.5
"""A bit more than HANGS_MS in _lanes.c."""
FIRST_MADE = 10
"""The node of the first file that was made in a TinyFs: these hang."""


class HangingFiles(TinyFs):
    """Each WRITE of more than a byte to a file that was made here waits, and then drops the bytes. Nothing
    passes through."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.hanging: set[int] = set()

    def _handle(self, node, flags):
        self.state.index += 1
        fh = pack_fh(self.state.index)
        self.state.handles[fh] = os.open(self._path(node), flags & os.O_ACCMODE)
        if node >= FIRST_MADE:
            self.hanging.add(fh)
        return fh

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        if fh in self.hanging and len(buf) > 1:
            await self.wait()
            return len(buf)
        return await super().write(fh, off, buf)


@pytest.fixture
def hanging(request, arena: Path, mounts: Mounts, monkeypatch) -> Iterator[tuple[Mount, Tiny]]:
    """A mount of a FUSE store with FILES files whose writes hang, and /slow, whose reads hang. It may have so
    many zeros behind its text."""
    monkeypatch.setattr(pyfuse3, "main", functools.partial(pyfuse3.main, max_tasks=1000))
    monkeypatch.setattr(session, "take_turns", lambda *_: bridge.take_turns(0))
    store, backing = arena / "fuse-store", arena / "tiny-backing" / "file"
    store.mkdir()
    backing.parent.mkdir(mode=0o700)
    backing.write_bytes(TEXT + bytes(getattr(request, "param", 0)))
    tiny = Tiny(store, backing, Options(kind=HangingFiles))
    monkeypatch.undo()
    for number in range(FILES):
        (store / str(number)).touch()
        backing.with_name(f"made-{number}").write_bytes(TEXT)
    mount = mounts.prepare(ANYBODY, store, "--no-passthrough")
    mount.expected_mediated = True
    mount.start()
    try:
        yield mount, tiny
    finally:
        tiny.call("let_go")
        wrong = mount.stop()
        tiny.stop()
    assert wrong == []


def _stands_still(mount: Mount) -> bool:
    """Whether nothing comes or goes for a while."""
    before = mount.waiting()
    for _ in range(10):
        time.sleep(0.1)
        if mount.waiting() != before:
            return False
    return True


def _memory_kb(mount: Mount) -> int:
    lines = Path(f"/proc/{mount.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def _write_all_at_once(channel: Connection, directory: Path) -> tuple[Counter[str], int]:
    """A write of WHOLE bytes to each file, as many at once as are asked for. How many had which result; and
    in how many of those that failed a mapping then shows bytes that the file never had."""
    results: dict[int, str] = {}
    mapped: dict[int, mmap.mmap] = {}

    def one(number: int) -> None:
        fd = os.open(directory / str(number), os.O_RDWR)
        mapped[number] = mmap.mmap(fd, len(TEXT), prot=mmap.PROT_READ)
        assert mapped[number][:] == TEXT
        os.pwrite(fd, TEXT[:1], 0)  # before its first write the kernel asks for the file's capabilities
        opened.wait()
        told.acquire()
        results[number] = code_of(os.pwrite, fd, data, 0)
        os.close(fd)

    data = b"x" * WHOLE  # in memory: else the kernel sends it page by page
    opened, told = threading.Barrier(FILES + 1), threading.Semaphore(0)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(FILES)]
    for thread in threads:
        thread.start()
    opened.wait()
    channel.send("open")
    for _ in range(3):
        told.release(channel.recv())
    for thread in threads:
        thread.join()
    return Counter(results.values()), sum(mapped[at][:] != TEXT for at, code in results.items() if code)


def _store_through_mappings(channel: Connection, directory: Path, names: list[str]) -> None:
    """Change a page of each file through a mapping, and have all written back."""
    files = [os.open(directory / name, os.O_RDWR) for name in names]
    mapped = [mmap.mmap(fd, len(TEXT)) for fd in files]
    for one in mapped:
        one[:1] = b"H"
    threads = [threading.Thread(target=os.fsync, args=(fd,)) for fd in files]
    for thread in threads:
        thread.start()
    channel.send("they wait")
    for thread in threads:
        thread.join()


@pytest.mark.night
def test_an_apps_writes_that_hang_leave_others_tasks_and_memory(hanging) -> None:
    mount, tiny = hanging
    before = _memory_kb(mount)
    greedy = start_as(GREEDY, _write_all_at_once, mount.mountpoint)
    assert greedy.receive(60) == "open"
    for writes, sent in ((FIRST, FIRST), (4, FIRST + 4)):
        greedy.send(writes)
        all_wait = lambda sent=sent: mount.waiting() >= sent and _stands_still(mount)  # noqa: E731
        wait_for(all_wait, "they wait for the store", 60)
    time.sleep(HANGS_S)  # from the first write beyond what the bridge has room for
    greedy.send(FILES - FIRST - 4)
    wait_for(lambda: mount.waiting() > UNDER_WAY and _stands_still(mount), "they wait for the store", 60)
    later = start_as(HONEST, content_beginning_of, mount / "m")
    assert later.result(20) == TEXT
    assert mount.status()["requests"]["under_way"] <= UNDER_WAY
    assert _memory_kb(mount) - before < (UNDER_WAY + HANG_MIB + 64) << 10
    tiny.call("let_go")
    results, wrong = greedy.result(60)
    assert wrong == 0
    assert results.keys() == {"", "ENOMEM"}
    assert results[""] >= HANG_MIB
    assert mount.status()["bugs"] == 0


def test_pages_of_one_app_that_hang_leave_others_their_write_back(hanging) -> None:
    """The kernel writes pages back as nobody, so that those of all apps would wait for the same turns."""
    mount, tiny = hanging
    names = [str(number) for number in range(2 * UNDER_WAY)]
    greedy = start_as(GREEDY, _store_through_mappings, mount.mountpoint, names)
    assert greedy.receive(60) == "they wait"
    wait_for(lambda: mount.waiting() >= len(names) and _stands_still(mount), "they wait for the store", 60)
    for uid in (HONEST, 0):
        later = start_as(uid, _store_through_mappings, mount.mountpoint, ["m"])
        assert later.receive(20) == "they wait"
        later.result(20)
    assert mount.status()["requests"]["under_way"] <= UNDER_WAY
    assert (mount / "m").read_bytes() == b"H" + TEXT[1:]
    tiny.call("let_go")
    greedy.result(60)
    assert mount.status()["bugs"] == 0


def _read_and_store_one_each(channel: Connection, directory: Path, first: int) -> None:
    """For each of MANY a read of a page of /slow, and a changed page of a file, which the kernel writes back.
    It sends a thread's own uid (setfsuid(2)), and a page counts for the uid that opened the file."""

    def one(uid: int) -> None:
        number = uid - MANY.start
        ctypes.CDLL(None).setfsuid(uid)
        slow, made = os.open(directory / "slow", os.O_RDONLY), os.open(directory / str(number), os.O_RDWR)
        os.posix_fadvise(slow, 0, 0, os.POSIX_FADV_RANDOM)
        mapped = mmap.mmap(made, len(TEXT))
        mapped[:1] = b"H"
        opened.wait()
        told.wait()
        sync = threading.Thread(target=os.fsync, args=(made,))
        sync.start()
        os.pread(slow, 10, (first + number) << 16)
        sync.join()

    opened, told = threading.Barrier(len(MANY) + 1), threading.Event()
    threads = [threading.Thread(target=one, args=(uid,)) for uid in MANY]
    for thread in threads:
        thread.start()
    opened.wait()
    channel.send("open")
    channel.recv()
    told.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("hanging", [32 << 20], indirect=True)
def test_many_users_with_a_read_and_a_page_that_hang_leave_tasks_for_others(hanging) -> None:
    """A uid may have a request under way in each of its lanes, however many there are of others."""
    mount, tiny = hanging
    crowd = [start_as(20000 + n, read_all_at_once, mount / "slow", n * 40) for n in range(7)]
    many = start_as(0, _read_and_store_one_each, mount.mountpoint, 300)
    for child in (*crowd, many):
        child.receive()
    for sent, child in enumerate(crowd, 1):
        child.send("read")
        child.receive()
        begun = min(sent * UNDER_WAY, IN_ALL - UNDER_WAY)  # the last two have a part of what is left
        wait_for(lambda n=begun: mount.status()["requests"]["under_way"] >= n, "they wait for the store")
    many.send("read")
    sent = len(crowd) * (UNDER_WAY + 1) + 2 * len(MANY)
    wait_for(lambda: mount.waiting() >= sent and _stands_still(mount), "they wait, too", 30)
    later = start_as(20199, content_beginning_of, mount / "m")
    assert later.result(20) == TEXT
    tiny.call("let_go")
    for child in (*crowd, many):
        child.result()
    assert mount.status()["bugs"] == 0


def test_pages_of_mappings_that_hang_leave_requests_in_the_background_for_others(hanging) -> None:
    """One app's pages use as many of these as there is memory for them, if nothing bounds them."""
    mount, _ = hanging
    settings = Path(f"/sys/class/bdi/0:{mount._device}")
    assert int((settings / "strict_limit").read_text()) == 1
    # The kernel keeps it as a share of the memory that dirty pages may have at the time, which changes.
    assert int((settings / "max_bytes").read_text()) <= 33 << 20

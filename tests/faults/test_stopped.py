"""SIGSTOP of the daemon: apps wait and can be killed; after SIGCONT all goes on and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import start_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO, written
from tests.support.mount.holdings import anonymous_memory
from tests.support.mount.stores import Mounts

PROCESSES, THREADS = count(20, 50), 500
"""10,000 requests in `make test`."""
MOST_MEMORY = 48 << 20


@pytest.fixture
def mount(mounts: Mounts, empty_store: Path) -> Iterator[Mount]:
    faulty.furnish(empty_store)
    mount = mounts.prepare(faulty.POLICY, empty_store)
    mount.expected_mediated = True
    yield mount.start()
    with contextlib.suppress(ProcessLookupError):
        os.kill(mount.pid, signal.SIGCONT)


@contextlib.contextmanager
def stopped(mount: Mount) -> Iterator[None]:
    os.kill(mount.pid, signal.SIGSTOP)
    wait_for(lambda: " T " in Path(f"/proc/{mount.pid}/stat").read_text(), "it stands still")
    try:
        yield
    finally:
        os.kill(mount.pid, signal.SIGCONT)


def _write(channel, directory: Path) -> tuple[int, str]:
    os.chdir(directory)  # the kernel knows the way from now on
    channel.send("ready")
    channel.recv()
    return written("new.jpg", LARGE, step=5000, sync=True)


def _list(channel, directory: Path) -> list[str]:
    os.chdir(directory)
    channel.send("ready")
    channel.recv()
    return os.listdir(".")


def test_apps_wait_and_can_be_killed_and_then_all_goes_on(mount: Mount) -> None:
    """Fault daemon.6: SIGSTOP of the daemon
    App: The app waits, and can be killed while its request is queued. After SIGCONT all continue
    Store: accepted bytes
    Trail: all events, after SIGCONT
    Also: ::test_a_start_asks_a_mount_that_does_not_answer_for_nothing
    """
    writers = [start_as(CAMERA, _write, mount / place) for place in ("DCIM", "Checked")]
    victim = start_as(GALLERY, _list, mount / "DCIM")
    for child in (*writers, victim):
        assert child.receive() == "ready"
    before = mount.waiting()
    with stopped(mount):
        for child in (*writers, victim):
            child.send("go")
        wait_for(lambda: mount.waiting() >= before + 3, "all of them wait", 20)
        victim.kill()  # returns when it is dead
        wait_for(lambda: mount.waiting() < before + 3, "its request is gone", 20)
    assert [child.result(30) for child in writers] == [(len(LARGE), "")] * 2
    for place in ("DCIM", "Checked"):
        assert (mount.store / place / "new.jpg").read_bytes() == LARGE
        assert (mount.store / place / "a.jpg").read_bytes() == PHOTO


def _ask(channel, directory: str, count: int) -> list[str]:
    """As many threads ask for a name each; which of the answers were wrong."""
    wrong: list[str] = []
    threading.stack_size(64 << 10)
    place = os.open(directory, os.O_RDONLY)  # each path would wait at its first step, for one request
    channel.send("ready")
    channel.recv()

    def one(number: int) -> None:
        try:
            os.stat(f"none-{os.getpid()}-{number}", dir_fd=place)
            wrong.append("there")
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                wrong.append(error.strerror or "")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_ten_thousand_requests_are_all_answered_in_bounded_memory(mount: Mount) -> None:
    """Fault daemon.8: 10,000 requests wait
    App: Each request is answered. The daemon's memory stays within bounds
    """
    crowd = [
        start_as(uid, _ask, str(mount / "DCIM"), THREADS)
        for uid in (CAMERA, GALLERY)
        for _ in range(PROCESSES // 2)
    ]
    for child in crowd:
        assert child.receive() == "ready"
    wait_for(lambda: mount.waiting() == 0, "the releases of the start are answered", 10)
    memory = anonymous_memory(mount.pid)
    with stopped(mount):
        for child in crowd:
            child.send("go")
        wait_for(lambda: mount.waiting() >= PROCESSES * THREADS, "all of them wait", 100)
    assert [child.result(100) for child in crowd] == [[]] * PROCESSES
    # A process has its answer before its RELEASE, which nobody waits for, has one.
    wait_for(lambda: mount.waiting() == 0, "nothing waits any more", 10)
    assert anonymous_memory(mount.pid) < memory + MOST_MEMORY


def _begin(_channel, mount: Mount) -> str:
    """Describe a start at a mountpoint, as `policyfs mount` does before it looks what is there."""
    from argparse import Namespace

    from policyfs.cli.mounts.start import Start

    named = Namespace(command="mount", trail=str(mount.trail), store=str(mount.store))
    named.mountpoint = str(mount.mountpoint)
    return Start.of(named)._mountpoint


def _stat(_channel, mount: Mount) -> str:
    return str(os.lstat(mount.mountpoint))


def test_a_start_asks_a_mount_that_does_not_answer_for_nothing(mount: Mount) -> None:
    """It would hang, and nothing could end it but to end the mount that it was to clear away."""
    for _ in range(3):
        os.chmod(mount.store, 0o701)  # the kernel knows the attributes of the mountpoint no more
        time.sleep(0.3)
        with stopped(mount):
            asking = start_as(0, _stat, mount)
            assert start_as(0, _begin, mount).result(10) == str(mount.mountpoint)
            hangs = mount.waiting() > 0
        asking.result()
        os.chmod(mount.store, 0o700)
        if hangs:
            return
    raise AssertionError("a stat was answered by the kernel alone")

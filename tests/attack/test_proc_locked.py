"""An app locks its own directory in /proc: one thread lists it into memory whose page does not come, and a
second thread makes a name in it. Then each look-up in the directory waits. For the trail the daemon reads the
name of the program there.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.attack.test_pages_elsewhere import Stuck, stuck
from tests.support.machine.namespace import die_with_parent
from tests.support.machine.processes import call_as
from tests.support.mount import faulty
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.stores import Mounts

__all__ = ["stuck"]
_GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61
READING = ("tests.support.mount.readers_on",)
WAITS_S = 3.0
TIMES = 200


def _lock(slow: Path) -> None:
    """Lock the directory of this process in /proc, until the file *slow* has a page."""
    libc = ctypes.CDLL(None)
    directory, pages = os.open(f"/proc/{os.getpid()}", os.O_RDONLY), os.open(slow, os.O_RDONLY)
    memory = mmap.mmap(pages, 4096, mmap.MAP_PRIVATE)
    page = ctypes.c_char.from_buffer(memory)
    listing = (ctypes.c_long(_GETDENTS64), directory, ctypes.byref(page), ctypes.c_size_t(4096))

    def make() -> None:
        with contextlib.suppress(OSError):
            os.mkdir(f"/proc/{os.getpid()}/name")

    threading.Thread(target=libc.syscall, args=listing, daemon=True).start()
    time.sleep(0.3)
    threading.Thread(target=make, daemon=True).start()
    time.sleep(0.3)


def _lock_own_directory(channel: Connection, slow: Path, file: Path) -> int:
    """Open the file so often that a reader looks for the caller's processor, too."""
    _lock(slow)
    channel.send("locked")
    for _ in range(TIMES):
        os.close(os.open(file, os.O_RDONLY))
    return TIMES


def _lock_of_child(channel: Connection, slow: Path) -> None:
    """Lock the directory of a child process, which nobody has looked into."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        die_with_parent(signal.SIGKILL)
        _lock(slow)
        os.write(write, b".")
        signal.pause()
    os.read(read, 1)
    channel.send("locked")
    channel.recv()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _look(path: Path) -> int:
    return sum(len(path.read_bytes()) > 0 for _ in range(TIMES))


def _look_once(channel: Connection, path: Path) -> None:
    channel.send(len(path.read_bytes()) > 0)


@pytest.mark.parametrize("options", [("--avc",), ("--no-avc",)], ids=["vectors", "no vectors"])
def test_an_app_that_locks_its_directory_in_proc_keeps_nobody_waiting(
    mounts: Mounts, stuck: Stuck, empty_store: Path, options: tuple[str, ...]
) -> None:
    faulty.furnish(empty_store)
    mount = mounts.prepare(faulty.POLICY, empty_store, *options)
    mount.program = READING
    mount.start()
    child = stuck.start(CAMERA, _lock_own_directory, stuck.directory / "slow", mount / "DCIM/a.jpg")
    assert child.receive() == "locked"
    assert call_as(GALLERY, _look, mount / "DCIM/a.jpg") == TIMES
    assert call_as(CAMERA, _look, mount / "DCIM/a.jpg") == TIMES
    stuck.let_go()
    assert child.result() == TIMES


def test_all_wait_where_the_daemon_reads_proc_itself(mounts: Mounts, stuck: Stuck, empty_store: Path) -> None:
    faulty.furnish(empty_store)
    mount = mounts.prepare(faulty.POLICY, empty_store)
    mount.program = ("tests.attack.weakened", "proc-shared")
    mount.start()
    child = stuck.start(CAMERA, _lock_own_directory, stuck.directory / "slow", mount / "DCIM/a.jpg")
    assert child.receive() == "locked"
    time.sleep(0.5)
    other = stuck.start(GALLERY, _look_once, mount / "DCIM/a.jpg")
    assert not other.channel.poll(WAITS_S), "it waits, and so does everybody"
    stuck.let_go()
    assert other.receive()
    assert child.result() == TIMES


def test_a_mount_starts_while_an_app_has_locked_its_directory_in_proc(
    mounts: Mounts, stuck: Stuck, empty_store: Path
) -> None:
    """The daemon looks at the uids of all processes, to find uids for its workers."""
    faulty.furnish(empty_store)
    child = stuck.start(CAMERA, _lock_of_child, stuck.directory / "slow")
    assert child.receive() == "locked"
    mount = mounts.start(faulty.POLICY, empty_store)
    assert call_as(GALLERY, _look, mount / "DCIM/a.jpg") == TIMES
    stuck.let_go()
    child.send("end")
    child.result()

"""An app has as many requests under way as it may, all of which wait. Then it changes a directory itself: the
kernel holds the directory's lock until the answer, and other apps that look for a new name in it wait, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.support.machine.processes import Child, code_of, start_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY

pytestmark = pytest.mark.load  # the kernel ends the lease after 45 s, and with it the waits
THREADS = 40
"""More than the bridge lets one uid have under way in one lane."""


def _open_many(channel: Connection, path: Path) -> None:
    """Open a file for writing, which waits for another program's lease, until killed."""
    threads = [threading.Thread(target=code_of, args=(os.open, path, os.O_WRONLY)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    channel.send("begun")
    for thread in threads:
        thread.join()


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


CHANGES: dict[str, Callable[[Path], object]] = {
    "chmod": lambda path: os.chmod(path, 0o755),
    "utime": lambda path: os.utime(path, (10**9, 10**9)),
    "setxattr": lambda path: os.setxattr(path, "user.a", b"1"),
    "removexattr": lambda path: os.removexattr(path, "user.a"),
    "fsync": _sync,
}


def _change(channel: Connection, path: Path, what: str) -> None:
    channel.send("begun")
    code_of(CHANGES[what], path)


def _look(channel: Connection, path: Path) -> str:
    channel.send("begun")
    return code_of(os.stat, path)


@pytest.fixture
def waiting() -> Iterator[Callable[[Mount, Path], None]]:
    """`waiting(mount, store)`: all requests of the camera wait from now on, as long as the test runs."""
    children: list[Child] = []
    with contextlib.ExitStack() as stack:

        def begin(mount: Mount, store: Path) -> None:
            before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # of the kernel, for the lease
            stack.callback(signal.signal, signal.SIGIO, before)
            fd = os.open(store / "DCIM/a.jpg", os.O_RDONLY)
            stack.callback(os.close, fd)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            stack.callback(lambda: [child.result() for child in children])
            stack.enter_context(contextlib.suppress(OSError))  # the kernel has taken the lease by then
            stack.callback(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            children.append(start_as(CAMERA, _open_many, mount / "DCIM/a.jpg"))
            assert children[-1].receive() == "begun"
            wait_for(lambda: mount.status()["requests"]["waiting"] > 0, "the lane is used up")

        yield begin


@pytest.mark.parametrize("what", CHANGES)
def test_a_directory_is_not_held_for_its_changers_other_requests(mounts, empty_store, waiting, what) -> None:
    faulty.furnish(empty_store)
    os.setxattr(empty_store / "Checked", "user.a", b"1")
    mount = mounts.start(faulty.POLICY, empty_store)
    waiting(mount, empty_store)
    children: list[Child] = []
    for uid, function, *words in (
        (CAMERA, _change, mount / "Checked", what), (GALLERY, _look, mount / "Checked/none"),
    ):  # fmt: skip
        children.append(start_as(uid, function, *words))
        assert children[-1].receive() == "begun"
    changer, looker = children
    assert looker.result() == "ENOENT"
    assert mount.status()["requests"]["waiting"] > 0, "the lane is used up all the time"
    changer.result()

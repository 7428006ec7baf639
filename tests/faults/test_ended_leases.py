"""The daemon ends while an app waits for a program in the store that keeps a lease on the app's file."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.faults.test_ended_drafts import terminate
from tests.faults.test_unmounted import GONE, abort
from tests.support.machine.processes import code_of, start_as, wait_for
from tests.support.mount.daemons import STOP_S
from tests.support.mount.faulty import CAMERA, PHOTO, POLICY, furnish
from tests.support.mount.stores import Mounts

WAYS: Final[dict[str, Callable[[Path], object]]] = {
    "open": lambda path: os.close(os.open(path, os.O_RDWR)),
    "truncate": lambda path: os.truncate(path, 10),
}


def _lease(channel: Connection, path: Path) -> None:
    """Keep a read lease for as long as the kernel allows (lease-break-time), whoever wants to write."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    with path.open("rb") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        channel.send("leased")
        channel.recv()


def _write(channel: Connection, path: Path, way: str) -> str:
    channel.send("begins")
    return code_of(WAYS[way], path)


@pytest.mark.parametrize(("way", "end"), [("open", terminate), ("truncate", terminate), ("open", abort)])
def test_the_end_waits_for_no_lease(
    mounts: Mounts, empty_store: Path, way: str, end: Callable[..., None]
) -> None:
    """Fault mount.5: SIGTERM or an abort while an app waits for a lease that a program in the store keeps
    on a file
    App: ENOTCONN, ECONNABORTED or EIO. The daemon ends at once
    Store: unchanged
    Trail: the end of the trail
    """
    furnish(empty_store)
    mount = mounts.start(POLICY, empty_store)
    holder = start_as(0, _lease, empty_store / "DCIM/a.jpg")
    try:
        assert holder.receive() == "leased"
        app = start_as(CAMERA, _write, mount / "DCIM/a.jpg", way)
        assert app.receive() == "begins"
        wait_for(lambda: mount.fuse("OPEN") + mount.fuse("SETATTR"), "the request")
        time.sleep(0.3)  # it waits for the lease
        mount.expected_exit = 1 if end is abort else 0
        end(mount)
        assert mount.process is not None
        assert mount.process.wait(STOP_S) == mount.expected_exit
        assert app.result() in GONE - {""}
    finally:
        holder.kill()
    assert (empty_store / "DCIM/a.jpg").read_bytes() == PHOTO

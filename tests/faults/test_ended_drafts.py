"""The daemon ends while a file that was looked through as a whole (a draft) goes into the store."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.faults.test_full_drafts import POLICY
from tests.faults.test_unmounted import GONE, abort
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, written
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

OLD: Final = jpegs.plain(3, 64) + bytes(5 << 20)
NEW: Final = jpegs.plain(4, 64) + bytes(5 << 20)


def _save(channel, path: Path) -> tuple[str, str]:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    for at in range(0, len(NEW), 1 << 20):
        os.write(fd, NEW[at : at + (1 << 20)])
    channel.send("written")
    return code_of(os.fsync, fd), code_of(os.close, fd)


def terminate(mount: Mount) -> None:
    assert mount.process is not None
    mount.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("way", [terminate, abort])
def test_the_end_waits_for_a_draft_that_is_half_in_the_store(mounts: Mounts, empty_store: Path, way) -> None:
    """Fault mount.6: SIGTERM or an abort while a checked draft goes into the store's file
    App: ENOTCONN, ECONNABORTED or EIO from fsync and close
    Store: the whole draft: the daemon ends after the last piece
    Trail: the end of the trail
    """
    share = empty_store / "Share"
    share.mkdir()
    os.chown(share, CAMERA, CAMERA)
    mount = mounts.prepare(POLICY, empty_store)
    mount.program = ("tests.attack.weakened", "pieces-take-long")
    mount.start()
    assert call_as(CAMERA, written, mount / "Share/a.jpg", OLD) == (len(OLD), "")
    assert (share / "a.jpg").read_bytes() == OLD
    writer = start_as(CAMERA, _save, mount / "Share/a.jpg")
    writer.receive()
    with (share / "a.jpg").open("rb") as file:
        wait_for(lambda: os.pread(file.fileno(), 4096, 0) == NEW[:4096], "the first piece is there")
        assert (share / "a.jpg").read_bytes() != NEW
        mount.expected_exit = 1 if way is abort else 0
        way(mount)
        assert mount.process is not None
        assert mount.process.wait(30) == mount.expected_exit
    assert set(writer.result()) <= GONE
    assert (share / "a.jpg").read_bytes() == NEW

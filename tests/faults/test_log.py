"""The daemon's log cannot be written: its reader is busy, its terminal is paused, its disk is full."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA
from tests.support.mount.stores import Mounts

RELOADS: Final = 5


@pytest.fixture
def started(mounts: Mounts, empty_store: Path) -> Iterator[object]:
    """A function that starts a mount whose standard error is a given file."""
    made: list[Mount] = []

    def start(log: Path) -> Mount:
        faulty.furnish(empty_store)
        mount = mounts.prepare(faulty.POLICY, empty_store)
        mount.log, kept = log, mount.log
        mount.start()
        mount.log = kept
        made.append(mount)
        return mount

    yield start
    for mount in made:
        assert mount.stop() == []


def _reload(mount: Mount) -> None:
    """Let the daemon write lines of its log: it takes new policies."""
    for number in range(RELOADS):
        before = mount.status()["policy"]["digest"]
        mount.policy.write_text(faulty.POLICY.replace("{name: faults}", f"{{name: faults-{number}}}"))
        os.kill(mount.pid, signal.SIGHUP)
        wait_for(lambda: mount.status()["policy"]["digest"] != before, "the daemon has the policy")  # noqa: B023


def test_a_log_that_nobody_reads_stops_no_app(started, tmp_path: Path) -> None:
    """Fault trail.5: The daemon's log has no room, its disk hangs, its terminal is paused (Ctrl-S), or
    nobody reads its pipe
    App: no error. The daemon waits 0.05 s once, and then loses lines; a later line tells how many
    Store: unchanged
    Trail: as usual
    Also: ::test_a_log_without_room_stops_no_app
    """
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        mount = started(fifo)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(reader, b"x" * 4096)
        _reload(mount)
        assert call_as(CAMERA, (mount / "DCIM/a.jpg").read_bytes) == faulty.PHOTO
        os.kill(mount.pid, signal.SIGTERM)
        wait_for(lambda: not mount.is_mounted(), "the mount ends")
    finally:
        os.close(reader)


def test_a_log_without_room_stops_no_app(started) -> None:
    mount = started(Path("/dev/full"))
    _reload(mount)
    assert call_as(CAMERA, (mount / "DCIM/a.jpg").read_bytes) == faulty.PHOTO
    assert mount.status()["bugs"] == 0

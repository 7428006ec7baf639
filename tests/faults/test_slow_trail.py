"""The disk of the trail waits: what goes on in the daemon meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from policyfs.content.cache import RACY_NS
from tests.support.machine.disks import Disk, disk
from tests.support.machine.processes import call_as, wait_for
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.stores import Mounts

FILES: Final = 1500
BOUND: Final = 300


def _furnish(root: Path) -> None:
    (root / "trail").mkdir(mode=0o700)


@pytest.fixture
def slow(mounts: Mounts, empty_store: Path, tmp_path: Path) -> Iterator[tuple[Mount, Disk]]:
    """A mount of a store in memory whose trail waits for its disk; the next flush has begun to wait."""
    faulty.furnish(empty_store)
    for number in range(FILES):
        (empty_store / "DCIM" / f"{number}.txt").touch()
    with disk(tmp_path, _furnish) as made:
        mount = mounts.prepare(faulty.POLICY, empty_store, "--nodes-max", str(BOUND))
        mount.trail = made.root / "trail"
        mount.environment["POLICYFS_TRAIL_DIR"] = str(mount.trail)
        mount.start()
        try:
            wait_for(lambda: mount.status()["trail"]["queued"] == 0, "the beginning is written")
            made.be(slow="w")
            call_as(CAMERA, (mount / "DCIM/a.jpg").read_bytes)
            wait_for(lambda: made.waits("w"), "the flush waits for the disk")
            yield mount, made
        finally:
            made.be()
            wrong = mount.stop()
    assert wrong == []


def _stat_all(directory: Path) -> None:
    for number in range(FILES):
        os.stat(directory / f"{number}.txt")


def test_the_kernel_is_asked_to_forget_files_while_the_trail_waits(slow) -> None:
    """Fault trail.4: The trail's disk is slow, or hangs: work that the daemon does by itself
    App: no error. Only the next flush waits: resources are released, the kernel is told, and SIGTERM
    unmounts at once
    Store: unchanged
    Trail: the lines, later
    Also: ::test_an_order_to_end_does_not_wait_for_a_reload_that_waits
    """
    mount, made = slow
    call_as(CAMERA, _stat_all, mount / "DCIM")
    wait_for(lambda: mount.status()["nodes"] <= BOUND, "the files are forgotten")
    assert made.waits("w")
    assert mount.status()["bugs"] == 0


def test_an_order_to_end_does_not_wait_for_a_reload_that_waits(slow) -> None:
    mount, made = slow
    mount.policy.write_text(faulty.POLICY + "# new\n")
    os.kill(mount.pid, signal.SIGHUP)
    assert mount.status()["bugs"] == 0
    os.kill(mount.pid, signal.SIGTERM)
    wait_for(lambda: not mount.is_mounted(), "the mount ends")
    assert made.waits("w")


def test_a_database_whose_disk_does_not_answer_stops_no_app(
    mounts: Mounts, empty_store: Path, tmp_path: Path
) -> None:
    """found.sqlite lies beside the trail. A disk that hangs may cost a worker's time, but no answer.

    Fault trail.6: The disk of `found.sqlite` (beside the trail) does not answer a read
    App: no error. One request waits for 0.25 s; then workers read files anew
    Store: unchanged
    Trail: as usual
    """

    def started() -> Mount:
        mount = mounts.prepare(faulty.POLICY, empty_store)
        mount.trail = made.root / "trail"
        mount.environment["POLICYFS_TRAIL_DIR"] = str(mount.trail)
        mount.start()
        return mount

    faulty.furnish(empty_store)
    time.sleep(RACY_NS / 1e9 + 0.1)  # a younger file is not remembered
    with disk(tmp_path, _furnish) as made:
        first = started()
        seen = call_as(GALLERY, (first / "DCIM/a.jpg").read_bytes)
        wait_for(lambda: first.status()["remembered"]["written"] >= 1, "the plan is kept")
        assert first.stop() == []
        again = started()
        try:
            with (again.trail / "found.sqlite").open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            made.be(slow="r")
            assert call_as(GALLERY, (again / "DCIM/a.jpg").read_bytes) == seen
            assert made.waits("r"), "the read of the database still waits"
            assert call_as(CAMERA, (again / "DCIM/a.jpg").read_bytes) == faulty.PHOTO
        finally:
            made.be()
            wrong = again.stop()
    assert wrong == []

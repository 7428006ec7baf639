"""A change of the policy while an app or a disk hangs: first it is in force, then all others are told."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.support.machine.disks import Disk, disk
from tests.support.machine.processes import call_as, wait_for
from tests.support.models.twins import error
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY
from tests.support.mount.policy_ends import LATE_S, QUIET, WIDE, Tries, ending
from tests.support.mount.stores import Mounts

RELOADED_S: Final = 3.0
"""What a reload may take while the trail's disk hangs."""


Begin: TypeAlias = Callable[..., tuple[Mount, Disk]]


@pytest.fixture
def trail(mounts: Mounts, empty_store: Path, tmp_path: Path) -> Iterator[Begin]:
    """`trail(policy, *guards)`: a mount of a store in memory, and the disk of its trail."""
    faulty.furnish(empty_store)
    (empty_store / "DCIM/b.jpg").write_bytes(b"x")
    (empty_store / "DCIM/b.jpg").chmod(0o644)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(disk(tmp_path, lambda root: (root / "trail").mkdir(mode=0o700)))

        def begin(policy: str, *guards: str) -> tuple[Mount, Disk]:
            mount = mounts.prepare(policy, empty_store)
            if guards:
                mount.program = ("tests.attack.weakened", ",".join(guards))
            mount.trail = made.root / "trail"
            mount.environment["POLICYFS_TRAIL_DIR"] = str(mount.trail)
            mount.start()
            stack.callback(lambda: wrong.extend(mount.stop()))
            stack.callback(made.be)
            return mount, made

        wrong: list[str] = []
        yield begin
    assert wrong == []


def _hang(mount: Mount, made: Disk) -> None:
    """From now on the trail's disk does not answer, and a flush waits for it."""
    wait_for(lambda: mount.status()["trail"]["queued"] == 0, "the beginning is written")
    made.be(slow="w")
    call_as(CAMERA, (mount / "DCIM/a.jpg").read_bytes)
    wait_for(lambda: made.waits("w"), "the flush waits for the disk")


def _watched(tries: list[Tries], made: Disk, until_s: float) -> list[float]:
    """The last successes until a time; then the disk answers again."""
    time.sleep(max(0.0, until_s - time.monotonic()))
    found = [one.last_s() for one in tries]
    assert made.waits("w")
    made.be()
    for one in tries:
        one.child.kill()
    return found


def test_an_exception_ends_while_the_disk_of_the_trail_hangs(trail) -> None:
    """Fault trail.3: The trail's disk hangs, or has no room, and the policy changes
    App: It is in force at once (an exception's end), or after 3 s and the time to compile (a reload).
    Then all requests wait 3 s for its record, then **get EIO**
    Store: unchanged
    Trail: the record, later, before all events of the new policy
    Also: ::test_a_reload_that_cannot_be_recorded_opens_nothing_and_closes_what_it_closes,
    ::test_it_opens_where_an_unrecorded_policy_counts
    """
    policy, end_s = ending(6.0)  # a busy machine needs some of it to start the mount
    mount, made = trail(policy)
    _hang(mount, made)
    (last_s,) = _watched([Tries(GALLERY, mount / "DCIM/b.jpg")], made, end_s + LATE_S + 0.5)
    assert end_s - 1 < last_s < end_s + LATE_S
    (record,) = wait_for(lambda: mount.events(type="policy"), "its record")
    assert (record["cause"], record["generation"]) == ("exception", 2)


def _last_s(trail: Begin, *guards: str) -> tuple[float, float]:
    """Let the gallery have what the camera had, while the disk hangs. Return their last successes, in s after
    the order."""
    mount, made = trail(QUIET, *guards)
    mount.expected_log.append("is in force, but not on record")
    _hang(mount, made)
    mount.policy.write_text(WIDE.replace("{app: camera}", "{app: gallery}"))
    os.kill(mount.pid, signal.SIGHUP)
    due_s = time.monotonic()
    tries = [Tries(CAMERA, mount / "DCIM/b.jpg")]
    wait_for(lambda: mount.status()["policy"]["generation"] == 2, "the new policy is in force")
    # Not before, and no name of the camera: a refusal waits for its record, in the kernel's lock of a name.
    tries.append(Tries(GALLERY, mount / "Checked/a.jpg"))
    camera_s, gallery_s = _watched(tries, made, due_s + RELOADED_S + 0.5)
    stat = (os.stat, mount / "Checked/a.jpg")
    wait_for(lambda: not call_as(GALLERY, error, *stat).startswith("E"), "the reload is on record")
    assert call_as(CAMERA, error, *stat).startswith("ENOENT")
    return camera_s - due_s, gallery_s - due_s


def test_a_reload_that_cannot_be_recorded_opens_nothing_and_closes_what_it_closes(trail) -> None:
    """Until it is on record, nobody has the rights of the new policy, and nobody those of the old one."""
    camera_s, gallery_s = _last_s(trail)
    assert 0 < camera_s < RELOADED_S
    assert gallery_s < 0


def test_it_opens_where_an_unrecorded_policy_counts(trail) -> None:
    assert _last_s(trail, "unrecorded-counts")[1] > 0

"""A daemon that may have few descriptors: work goes on, and who asks for too much hears EMFILE."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, start_as
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO, written
from tests.support.mount.stores import Mounts, wait_until_closed
from tests.support.samples import jpegs

LIMITS = (256, 4096)
MANY, WANTED = 40, 150


def _hold(channel, directory: Path, most: int) -> tuple[int, set[str]]:
    """Open for writing as many as it gets; all of them work."""
    room = len(os.listdir("/proc/self/fd")) + most + 50
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, room))
    held, said = [], set()
    for number in range(most):
        try:
            held.append(os.open(directory / f"many{number}", os.O_RDWR | os.O_CREAT))
        except OSError as error:
            said.add(os.strerror(error.errno or 0))
    channel.send((len(held), said))
    channel.recv()
    for number, fd in enumerate(held):
        assert number % 20 or os.write(fd, PHOTO) == len(PHOTO)
        os.close(fd)
    return len(held), said


def _work(directory: Path) -> None:
    """Directories deeper and more than descriptors are kept for, and files in each."""
    for number in range(MANY):
        place = directory / f"d{number}/e/f"
        place.mkdir(parents=True)
        (place / "file").write_bytes(PHOTO)
    assert len(list(directory.rglob("file"))) == MANY
    for number in range(MANY):
        assert (directory / f"d{number}/e/f/file").read_bytes() == PHOTO


@pytest.mark.parametrize("limit", LIMITS)
def test_a_daemon_with_few_descriptors(mounts: Mounts, empty_store: Path, limit: int) -> None:
    """Fault daemon.9: The daemon may have only few descriptors (256 or 4,096 in the tests)
    App: EMFILE for an app that has used up its share of the descriptors. Other apps continue
    Store: accepted bytes
    Trail: `allow` of the opens
    Also: tests/attack/test_exhaustion.py::test_who_takes_all_leaves_as_much_for_others
    """
    faulty.furnish(empty_store)
    mount: Mount = mounts.prepare(faulty.POLICY, empty_store)
    mount.most_descriptors = limit
    mount.start()
    before = mount.descriptors()
    greedy = start_as(CAMERA, _hold, mount / "Checked", WANTED)
    got, said = greedy.receive(60)
    if limit // 4 > WANTED:
        assert (got, said) == (WANTED, set())
    else:
        assert limit // 8 < got < limit // 2, got
        assert said == {"Too many open files"}
    # Beside it there are redacted readers, and work in many directories.
    shown = call_as(GALLERY, (mount / "DCIM/a.jpg").read_bytes)
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
    call_as(GALLERY, os.listdir, mount / "DCIM")
    greedy.send("enough")
    greedy.result(60)
    call_as(CAMERA, _work, mount / "DCIM", deadline_s=60)
    assert call_as(CAMERA, written, mount / "Checked/new.jpg", LARGE) == (len(LARGE), "")
    assert (empty_store / "Checked/new.jpg").read_bytes() == LARGE
    wait_until_closed(mount)
    assert mount.descriptors() <= before + limit // 8 + 16
    assert mount.status()["bugs"] == 0

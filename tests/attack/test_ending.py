"""A daemon that is told to end while its mount is in full use: it ends, and nobody hangs in it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import Child, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.samples import jpegs

EDITOR, GALLERY = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  editor: {{uid: {EDITOR}, grants: [media.location]}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: read, allow: [see, read], who: {{app: any}}, paths: "/DCIM/**"}}
  - {{id: editor, allow: [all], who: {{app: editor}}, paths: "/DCIM/**"}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: "/DCIM/**"
    audit: best_effort
"""
PHOTO = jpegs.photo_with(jpegs.exif())
ENDS_WITHIN_S = 10.0


def _look(channel, directory: Path) -> None:
    """Opens, reads, stats and lists until it is told to stop; whatever fails."""
    while not channel.poll():
        for look in (
            (directory / "a.jpg").read_bytes,
            (directory / "b.jpg").stat,
            lambda: os.listdir(directory),
        ):
            try:
                look()
            except OSError:
                continue


def _change(channel, directory: Path) -> None:
    """Rewrites, replaces and touches until it is told to stop; whatever fails."""
    while not channel.poll():
        for name in ("a.jpg", "b.jpg"):
            try:
                (directory / f"{name}.new").write_bytes(PHOTO)
                os.rename(directory / f"{name}.new", directory / name)
                os.utime(directory / name)
            except OSError:
                continue


@pytest.fixture
def crowded(mounts, empty_store: Path) -> Iterator[tuple[Mount, list[Child]]]:
    """A mount in full use: by its apps, and in the store, so that the daemon has much to tell."""
    directory = empty_store / "DCIM"
    directory.mkdir()
    directory.chmod(0o777)
    for name in ("a.jpg", "b.jpg"):
        (directory / name).write_bytes(PHOTO)
    mount: Mount = mounts.start(POLICY, empty_store)
    mount.expected_log.append("detached while busy")
    crowd = [start_as(GALLERY, _look, mount / "DCIM") for _ in range(2)]
    crowd.append(start_as(EDITOR, _change, mount / "DCIM"))
    crowd.append(start_as(0, _change, directory))
    try:
        yield mount, crowd
    finally:
        mount.force_away()
        for child in crowd:
            child.kill()


def nobody_hangs(crowd: list[Child]) -> None:
    """All of them end when they are told to, at whatever they were."""
    for child in crowd:
        child.send("enough")
    for child in crowd:
        child.result(10)


@pytest.mark.parametrize("turn", range(count(2, 40)))
def test_a_daemon_ends_in_the_middle_of_everything(crowded, turn) -> None:
    """Fault mount.2: SIGTERM to the daemon while many processes use the mount
    App: ENOTCONN
    Store: accepted bytes
    Trail: the end of the trail
    """
    mount, crowd = crowded
    wait_for(lambda: mount.fuse("LOOKUP") > 100 + 37 * turn, "the mount is in full use")
    start = time.monotonic()
    mount.process.send_signal(signal.SIGTERM)
    mount.process.wait(ENDS_WITHIN_S + 5)
    assert time.monotonic() - start < ENDS_WITHIN_S
    nobody_hangs(crowd)


@pytest.mark.parametrize("turn", range(count(2, 30)))
def test_umount_frees_those_whom_a_killed_daemon_left_waiting(crowded, turn) -> None:
    """After kill -9 the kernel may hold a thread of the daemon, which waits for an app that waits for it."""
    mount, crowd = crowded
    wait_for(lambda: mount.fuse("LOOKUP") > 100 + 37 * turn, "the mount is in full use")
    mount.expected_exit = -signal.SIGKILL
    mount.process.send_signal(signal.SIGKILL)
    with mount.as_environment():
        said = policyfs("umount", mount.mountpoint)
    assert said.returncode == 0, said
    assert not mount.is_mounted()
    nobody_hangs(crowd)
    mount.process.wait(ENDS_WITHIN_S)
    mount.control_socket.unlink(missing_ok=True)


def _end_again_and_again(mount: Mount) -> None:
    """SIGTERM, a thousand times a second, for as long as there is a daemon."""
    assert mount.process is not None
    while mount.process.poll() is None:
        mount.process.send_signal(signal.SIGTERM)
        time.sleep(0.001)


@pytest.mark.parametrize("turn", range(count(2, 30)))
def test_who_is_ending_is_not_disturbed_by_being_told_to(mounts, empty_store: Path, turn) -> None:
    """From the first signal, or from `policyfs umount` on."""
    mount: Mount = mounts.start(POLICY, empty_store)
    if turn % 2:
        _end_again_and_again(mount)
    else:
        with mount.as_environment():
            assert policyfs("umount", mount.mountpoint).returncode == 0
        _end_again_and_again(mount)
    assert mount.process is not None
    assert mount.process.returncode == 0
    assert mount.unexpected_log() == []


@pytest.mark.parametrize("turn", range(count(4, 120)))
def test_who_is_told_to_end_while_it_begins_leaves_nothing(mounts, empty_store: Path, turn) -> None:
    """At some moment from the start of the process until it has mounted and serves."""
    mount: Mount = mounts.prepare(POLICY, empty_store)
    process = mount.launch()
    time.sleep(turn * 1.2 / count(4, 120))
    process.send_signal(signal.SIGTERM)
    code = process.wait(ENDS_WITHIN_S)
    assert code in {0, -signal.SIGTERM}  # killed before it took signals at all
    assert not mount.is_mounted()
    assert not mount.control_socket.exists()
    assert mount.unexpected_log() == []
    mount.process = None

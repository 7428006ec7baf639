"""Starts of a mount at one mountpoint at the same time: one waits for the other, and is refused."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from policyfs.linux.private_files import make_private
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import READY_S, Mount
from tests.support.mount.stores import Mounts

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {app: {uid: 10050}}
rules:
  - {id: read, allow: [see, read], who: {app: app}, paths: ["/**"]}
"""


def _has_open(mount: Mount, path: Path) -> bool:
    assert mount.process is not None
    assert mount.process.poll() is None, mount.log.read_text()
    for fd in Path(f"/proc/{mount.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(fd) == str(path):
                return True
    return False


def test_one_of_two_starts_mounts_once_a_killed_one_has_ended(mounts: Mounts, store: Path) -> None:
    """The kernel may take a moment to end the killed one: a script's restart does not fail for it."""
    first = mounts.prepare(POLICY, store)
    second = Mount(store, first.mountpoint, first.policy, work=mounts.work)
    second.log = first.log.with_suffix(".second")
    mounts.all.append(second)
    lock = first.control_socket.with_suffix(".lock")
    make_private(lock.parent)
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)  # as a killed start that has not ended yet
    for one in (first, second):
        one.launch()
        wait_for(lambda one=one: _has_open(one, lock), "a start has found the lock", READY_S)
    os.close(fd)
    [refused] = wait_for(lambda: [one for one in (first, second) if one.process.poll() is not None], "an end")
    assert refused.process.returncode == 1
    refused.process = None
    assert "something is mounted on" in refused.log.read_text()
    mounted = second if refused is first else first
    wait_for(mounted._answers, "the other one answers", READY_S)
    assert mounted.status()["pid"] == mounted.pid
    there = [one for one in mounts_below(first.mountpoint) if one.mountpoint == str(first.mountpoint)]
    assert len(there) == 1

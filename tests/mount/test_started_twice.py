"""Two commands that make a mount at one mountpoint at the same time: one is refused."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import READY_S, Mount
from tests.support.mount.stores import Mounts

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: twice}
apps: {app: {uid: 10050}}
rules:
  - {id: read, allow: [see, read], who: {app: app}, paths: ["/**"]}
"""


def test_one_of_two_mounts_at_one_place_is_refused(mounts: Mounts, store: Path) -> None:
    """The first one is stopped between its look at the mountpoint and the end of its start."""
    first = mounts.prepare(POLICY, store)
    second = Mount(store, first.mountpoint, first.policy, work=mounts.work)
    second.log = first.log.with_suffix(".second")
    mounts.all.append(second)
    process = first.launch()
    wait_for(first.control_socket.with_suffix(".lock").exists, "the first one has begun", READY_S)
    process.send_signal(signal.SIGSTOP)
    try:
        assert second.launch().wait(READY_S) == 1
    finally:
        process.send_signal(signal.SIGCONT)
    second.process = None
    said = second.log.read_text()
    assert "another process is making a mount at" in said, said
    wait_for(first._answers, "the first one answers", READY_S)
    assert first.status()["pid"] == first.pid
    there = [one for one in mounts_below(first.mountpoint) if one.mountpoint == str(first.mountpoint)]
    assert len(there) == 1

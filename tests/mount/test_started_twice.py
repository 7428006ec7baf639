"""Two commands that make a mount at one mountpoint at the same time: one is refused."""

from __future__ import annotations

from pathlib import Path

from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import READY_S, STOP_S, Mount
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
    """The proof takes longest between the look at the mountpoint and the mount."""
    first = mounts.prepare(POLICY, store)
    second = Mount(store, first.mountpoint, first.policy, work=mounts.work)
    second.log = first.log.with_suffix(".second")
    mounts.all.append(second)
    both = (first, second)
    for one in both:
        one.proved = True
        one.launch()
    wait_for(first.control_socket.exists, "a daemon has begun", READY_S)
    wait_for(lambda: any(one.process.poll() is not None for one in both), "one is refused", READY_S)
    refused, made = sorted(both, key=lambda one: one.process.poll() is None)
    assert refused.process.wait(STOP_S) == 1
    refused.process = None
    said = refused.log.read_text()
    assert "another process is making a mount at" in said, said
    wait_for(made._answers, "the other one answers", READY_S)
    assert made.status()["pid"] == made.pid
    there = [one for one in mounts_below(first.mountpoint) if one.mountpoint == str(first.mountpoint)]
    assert len(there) == 1

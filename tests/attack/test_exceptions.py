"""An exception that has ended, and a clock that goes back."""

from __future__ import annotations

import os
import time
from pathlib import Path

from policyfs.policy.exceptions import instant_text
from tests.support.machine import clocked
from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.stores import Mounts

GUEST = 10011
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  guest: {{uid: {guest}}}
rules: []
exceptions:
  - id: party
    allow: [see, read]
    until: {until}
    reason: slides for the party
    approved-by: Ann
    who: {{app: guest}}
    paths: "/Music/***"
"""
_LEFT_S = 2


def _seen_after(mounts: Mounts, store: Path, clock: Path, *guards: str) -> list[str]:
    """What the guest sees once the exception and the daemon have ended, and the clock goes an hour back."""
    until = instant_text(time.time_ns() + (_LEFT_S + 1) * 1_000_000_000)
    mount = mounts.prepare(POLICY.format(guest=GUEST, until=until), store)
    clocked.step(clock, 0)
    plain = mount.program
    if guards:
        mount.program = ("tests.attack.weakened", ",".join(guards))
    mount.start()
    wait_for(lambda: call_as(GUEST, os.listdir, mount.mountpoint) == [], "the exception has ended")
    assert mount.stop() == []
    clocked.step(clock, -3600)
    mount.program = ("tests.support.machine.clocked", str(clock))
    mount.start()
    seen = call_as(GUEST, os.listdir, mount.mountpoint)
    assert mount.stop() == []
    mount.program = plain
    return list(seen)


def test_an_exception_that_ended_does_not_come_back_with_the_clock(
    mounts: Mounts, store: Path, arena: Path
) -> None:
    """Attack B4.9: Use an exception after its end: set the clock back, restart the mount
    Guard: policyfs/daemon/high_water.py::HighWaterMark.pass_ends,
    policyfs/daemon/policies/reload.py::Reload.end_exceptions
    Also: tests/mount/test_exceptions.py
    Without: ::test_it_does_where_ends_are_forgotten
    """
    assert _seen_after(mounts, store, arena / "clock") == []


def test_it_does_where_ends_are_forgotten(mounts: Mounts, store: Path, arena: Path) -> None:
    assert _seen_after(mounts, store, arena / "clock", "ends-are-forgotten") == ["Music"]

"""The keeper shares memory and descriptors with the daemon. If an attacker in a daemon reached the keeper
through these, it could make no call that reads, opens, executes or starts anything (decision 70)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP = 10110
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{viewer: {{uid: {APP}}}}}
rules:
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: "/**"}}
"""
OPTIONS = ("--app", "viewer", "--read-only")
GUARD = "keeper-unfiltered"


def filters(mount: Mount) -> tuple[str, str]:
    """Whether the keeper's system calls are filtered, and whether a program could give it rights."""
    assert mount.process is not None
    assert mount.status()["pid"] != mount.process.pid
    lines = Path(f"/proc/{mount.process.pid}/status").read_text().splitlines()
    found = dict(line.split(":\t", 1) for line in lines)
    return found["Seccomp"], found["NoNewPrivs"]


@pytest.mark.parametrize("guard", [None, GUARD])
def test_the_keeper_can_only_wait(
    mounts: Mounts, without: Callable[..., Mount], empty_store: Path, guard: str | None
) -> None:
    (empty_store / "file").write_text("text")
    parts = POLICY, empty_store, *OPTIONS
    mount = mounts.start(*parts) if guard is None else without(guard, *parts)
    assert filters(mount) == ("2" if guard is None else "0", "1")
    assert call_as(APP, (mount.mountpoint / "file").read_text) == "text"

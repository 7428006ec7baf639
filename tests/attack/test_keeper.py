"""The keeper shares memory and descriptors with the daemon. If an attacker in a daemon reached the keeper
through these, it could make no call that reads, opens, executes or starts anything (decision 70)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_takeover import kill_daemon
from tests.mount.test_takeover_shared import MAPS, VIEWER
from tests.mount.test_takeover_shared import POLICY as SHARED
from tests.mount.test_takeover_views import asked, photo, reader
from tests.support.machine.processes import call_as, start_as
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


@pytest.mark.parametrize("guard", [None, "callers-forgotten"])
def test_no_app_reads_on_as_another(
    mounts: Mounts, without: Callable[..., Mount], empty_store: Path, guard: str | None
) -> None:
    """Two apps read one photo of a shared mount under a lease, each in its own view; the daemon dies."""
    (empty_store / "DCIM").mkdir()
    (empty_store / "DCIM/a.jpg").write_bytes(photo())
    parts = SHARED, empty_store, "--read-only", "--copy-max", "4K"
    mount = mounts.start(*parts) if guard is None else without(guard, *parts)
    children = [start_as(uid, reader(mount.mountpoint / "DCIM/a.jpg")) for uid in (MAPS, VIEWER)]
    before = [child.receive() for child in children]
    kill_daemon(mount)
    (whole, _, told), (other, _, leaked) = [asked(child) for child in children]
    assert (whole == before[0], bool(told)) == (True, True)
    assert (other == before[1], bool(leaked)) == (guard is None, guard is not None)
    for child in children:
        child.send("end")
        child.result()

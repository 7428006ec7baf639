"""A store that its apps have emptied mounts again, and an absent one does not, with each shipped policy."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import pytest

from policyfs.errors import EXIT_REFUSED
from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts

POLICIES: Final = Path(__file__).parents[2] / "policies"
EMPTIED: Final = {
    "android-scoped-storage": ("Inbox", 10105),
    "dataset": ("Inbox", 10051),
    "downloads": ("Downloads", 10331),
    "drop-box": ("Filed", 10082),
    "family-photos": ("Photos", 0),
    "home-server": ("Immich", 10311),
    "kiosk": ("Drafts", 10031),
    "legal-hold": ("Cases", 10100),
    "two-galleries": ("Photos", 0),
}
"""A directory that an app of the policy may remove, and the app's uid; 0 if no app may: then it is removed
straight in the store."""


def fill(directory: Path) -> None:
    directory.mkdir()
    (directory / "a").touch()


def take(directory: Path) -> None:
    (directory / "a").unlink()
    directory.rmdir()


def kill(mount: Mount) -> None:
    """Kill the daemon and its keeper at once, and take the dead mount away."""
    assert mount.process is not None
    daemon, keeper = mount.status()["pid"], mount.process
    os.kill(keeper.pid, signal.SIGKILL)
    os.kill(daemon, signal.SIGKILL)
    keeper.wait(20)
    wait_for(lambda: not os.path.exists(f"/proc/{daemon}"), "the daemon is gone")
    mount.force_away()
    mount.control_socket.unlink(missing_ok=True)
    mount.process = None


OTHERS: Final = sorted(EMPTIED.keys() - {"downloads", "family-photos"})


def test_each_shipped_policy_is_tried() -> None:
    """But the one that keeps what apps remove, in the store: it is never empty."""
    assert {path.stem for path in POLICIES.glob("*.yaml")} == {*EMPTIED, "untrusted-sync"}


@pytest.mark.parametrize(
    ("name", "killed"),
    [
        ("downloads", True), ("family-photos", True), ("drop-box", False),
        *(pytest.param(name, True, marks=pytest.mark.night) for name in OTHERS),
    ],
)
def test_an_emptied_store_is_mounted_again_and_an_absent_one_is_not(
    mounts: Mounts, empty_store: Path, name: str, *, killed: bool
) -> None:
    policy, (directory, uid) = POLICIES / f"{name}.yaml", EMPTIED[name]
    fill(empty_store / directory)
    empty_store.chmod(0o755)
    mount = mounts.start(policy, empty_store, "--keeper")
    at = mount / directory if uid else empty_store / directory
    call_as(uid, take, at) if uid else take(at)
    assert os.listdir(empty_store) == []
    if killed:
        kill(mount)
    else:
        assert mount.stop() == []
    away = empty_store.with_name("away")
    empty_store.rename(away)
    empty_store.mkdir()
    with mount.as_environment():
        said = policyfs("mount", "--policy", policy, empty_store, mount.mountpoint)
    assert said.returncode == EXIT_REFUSED, said
    assert "an empty directory is there" in said.stderr
    empty_store.rmdir()
    away.rename(empty_store)
    mount.start()

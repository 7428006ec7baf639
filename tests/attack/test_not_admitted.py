"""B11: an app mount with several groups admits them, and nobody else, root neither.

The kernel admits one group to a mount, or everybody. So it is the daemon that refuses, and the kernel must
not answer anybody from what it keeps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP, OTHER, GROUP = 10120, 10121, 100
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{app: {{uid: {APP}, gid: [{APP}, {GROUP}]}}, other: {{uid: {OTHER}}}}}
rules:
  - {{id: all, allow: [all], paths: "/***"}}
"""
NOTES = "Documents/notes.txt"
NOT_ADMITTED = [(0, 0), (0, GROUP), (OTHER, OTHER), (OTHER, GROUP), (APP, OTHER)]


def _open(path: Path) -> None:
    os.close(os.open(path, os.O_RDONLY))


def attempts(mount: Mount, uid: int, gid: int) -> dict[str, str]:
    """What an outsider gets, while the app has just used all of it."""
    for group in (APP, GROUP):
        assert call_as(APP, (mount / NOTES).read_text, gid=group) == "plain words\n"
        call_as(APP, os.listdir, mount / "Documents", gid=group)
    calls = {
        "look": (os.stat, mount / NOTES),
        "list": (os.listdir, mount / "Documents"),
        "open": (_open, mount / NOTES),
        "make": (os.mkdir, mount / "new"),
        "remove": (os.unlink, mount / "Documents/no such file"),
    }
    return {name: call_as(uid, code_of, *call, gid=gid) for name, call in calls.items()}


def test_nobody_else_comes_through_a_mount_of_several_groups(mounts: Mounts, store: Path) -> None:
    """Attack B11.2: Use an app mount that admits several groups, as another user, with another group, or as
    root; use names that the kernel keeps for the app
    Guard: policyfs/fs/access/gate.py::Gate.admits,
    policyfs/fs/kernel_cache/attributes.py::Timeouts.entry,
    policyfs/fs/namespace/lookup.py::Lookup.lookup_from_outside
    Also: tests/mount/test_app_mount.py::test_several_groups_are_let_in_and_nobody_else
    Without: ::test_who_gets_in_without_a_guard
    """
    mount = mounts.start(POLICY, store, "--app", "app")
    for caller in NOT_ADMITTED:
        assert set(attempts(mount, *caller).values()) == {"EACCES"}, caller


def _space(path: Path) -> tuple[int, int]:
    found = os.statvfs(path)
    return found.f_blocks, found.f_bfree


def test_nobody_else_is_told_of_the_space(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--app", "app")
    assert min(call_as(APP, _space, mount.mountpoint, gid=GROUP)) > 0
    for uid, gid in NOT_ADMITTED:
        assert call_as(uid, _space, mount.mountpoint, gid=gid) == (0, 0)


@pytest.mark.parametrize(
    ("guard", "open_ways"),
    [("everybody-admitted", {"look", "list", "open", "make"}), ("names-kept", {"look"})],
)
def test_who_gets_in_without_a_guard(without: Callable[..., Mount], store: Path, guard, open_ways) -> None:
    mount = without(guard, POLICY, store, "--app", "app")
    found = attempts(mount, OTHER, OTHER)
    assert {name for name, code in found.items() if not code} == open_ways, found

"""H: a mount whose daemon enforces less than its policy is refused before any app reaches it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.mount.daemons import Mount, MountFailed
from tests.support.mount.stores import Mounts

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: proved}
apps:
  gallery: {uid: 10011}
  maps: {uid: 10012, grants: [media.location]}
rules:
  - {id: media.read, allow: [see, read], who: {app: any}, paths: "/DCIM/**"}
  - {id: no-location, require: {redact: location}, who: {not: {grant: media.location}}, paths: "/DCIM/**"}
  - {id: private, deny: [all], paths: "/DCIM/private/***", errno: ENOENT}
"""


def _refused(mounts: Mounts, store: Path, guard: str, *options: str) -> tuple[str, Mount]:
    """The reason why a mount without this guard is refused, and the mount."""
    mount = mounts.prepare(POLICY, store, *options)
    mount.proved = True
    mount.program = ("tests.attack.weakened", guard)
    mount.expected_exit = 1
    mount.expected_log = ["the proof of the mount failed"]
    with pytest.raises(MountFailed) as refused:
        mount.start()
    assert refused.value.returncode == 1
    assert not mount.is_mounted()
    assert os.listdir(mount.mountpoint) == []
    return refused.value.output, mount


@pytest.mark.parametrize(
    ("guard", "canary"),
    [
        ("shows-hidden", "canary hiding: in a store in memory"),
        ("denies-nothing", "canary denial: in a store in memory"),
        ("redacts-nothing", "canary redaction: in a store in memory"),
        ("passes-nothing", "canary passthrough: in a store in memory"),
        ("shows-hidden-in-the-library", "canary hiding: in the mount"),
    ],
)
def test_a_canary_refuses_a_daemon_without_a_guard(
    mounts: Mounts, store: Path, guard: str, canary: str
) -> None:
    (store / "DCIM/private").mkdir()
    said, mount = _refused(mounts, store, guard)
    assert canary in said
    (proof,) = mount.events(type="proof")
    assert proof["result"] == "failed"
    assert canary in proof["reason"]
    (failed,) = mount.events(type="failed")
    assert failed["reason"] == proof["reason"]


def test_a_canary_refuses_an_app_mount_that_admits_everybody(mounts: Mounts, store: Path) -> None:
    said, _ = _refused(mounts, store, "admits-everybody", "--app", "gallery")
    assert "another user" in said
    assert "the mount admits this user" in said

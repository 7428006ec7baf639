"""H: `policyfs prove` finds a mount whose daemon enforces less than its policy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import Mount, policyfs_process
from tests.support.mount.stores import WEAKENED, Mounts

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {uid: 10011}
  maps: {uid: 10012, grants: [media.location]}
rules:
  - {id: media.read, allow: [see, read], who: {app: any}, paths: "/DCIM/**"}
  - {id: no-location, require: {redact: location}, who: {not: {grant: media.location}}, paths: "/DCIM/**"}
  - {id: private, deny: [all], paths: "/DCIM/private/***", errno: ENOENT}
"""


CHECKOUT = Path(__file__).resolve().parents[2]


def _weakened(mounts: Mounts, store: Path, guard: str, *options: str) -> Mount:
    """A mount whose daemon lacks a guard."""
    mount = mounts.prepare(POLICY, store, *options)
    mount.program = (WEAKENED, guard)
    return mount.start()


@pytest.mark.parametrize("guard", first(1, [("denial",), ("redaction",), ("hiding",), ("passthrough",)]))
def test_a_canary_finds_a_program_without_a_guard(mounts: Mounts, store: Path, guard: str) -> None:
    """The daemon of the mount may be sound: the program that is there now is tested on a store in memory."""
    taken = {"hiding": "shows-hidden", "denial": "denies-nothing",
             "redaction": "redacts-nothing", "passthrough": "passes-nothing"}  # fmt: skip
    mount = mounts.start(POLICY, store)
    line = [sys.executable, "-m", WEAKENED, taken[guard], "prove", str(mount.mountpoint)]
    said = subprocess.run(
        line, env=os.environ | mount.environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert said.returncode == 1, said
    assert f"canary {guard}: in a store in memory" in said.stdout
    (proof,) = mount.events(type="proof")
    assert proof["result"] == "failed"
    assert proof["reason"] in said.stdout


def test_a_canary_finds_a_daemon_without_a_guard(mounts: Mounts, store: Path) -> None:
    (store / "DCIM/private").mkdir()
    mount = _weakened(mounts, store, "shows-hidden")
    said = policyfs_process("prove", mount.mountpoint, environment=mount.environment)
    assert said.returncode == 1, said
    assert "canary hiding: in the mount" in said.stdout


def test_a_canary_finds_an_app_mount_that_admits_everybody(mounts: Mounts, store: Path) -> None:
    mount = _weakened(mounts, store, "admits-everybody", "--app", "gallery")
    assert call_as(10012, code_of, os.listdir, mount.mountpoint) == ""
    said = policyfs_process("prove", mount.mountpoint, environment=mount.environment)
    assert said.returncode == 1, said
    assert "another user" in said.stdout
    assert "the mount admits this user" in said.stdout

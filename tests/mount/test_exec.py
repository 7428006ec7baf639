"""execve(2) holds a lock while it closes files. Readers of this process's /proc/PID/exe wait for the lock."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs

CAMERA = 10010
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/**", audit: AUDIT}}
  - {{id: checked, require: {{no: [location]}}, paths: "/**"}}
"""
FORGOTTEN_S = 0.3
"""The daemon has then forgotten the programs that it looked up for its trail."""


def save_and_exec(_channel: object, path: str, data: bytes) -> None:
    """Write a file, and let execve(2) close it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.write(fd, data)
    time.sleep(FORGOTTEN_S)
    os.execv("/bin/true", ["true"])


@pytest.mark.parametrize("audit", ["best_effort", "off"])
def test_a_file_that_execve_closes_is_refused_without_a_hang(mounts, store: Path, audit: str) -> None:
    mount: Mount = mounts.start(POLICY.replace("AUDIT", audit), store)
    store.chmod(0o777)
    path = str(mount.mountpoint / "a.jpg")
    child = start_as(CAMERA, save_and_exec, path, jpegs.photo_with(jpegs.exif()))
    wait_for(lambda: os.waitpid(child.pid, os.WNOHANG)[0], "the program ends")
    (event,) = wait_for(lambda: mount.events(operation="write", decision="deny"), "the refusal is on record")
    assert event["pid"] == child.pid
    assert event["exe"] == os.readlink("/proc/self/exe"), "the program that opened the file"
    assert "a.jpg" not in call_as(CAMERA, os.listdir, str(mount.mountpoint))

"""A mount that another file system covers: the end of its daemon leaves the other one where it is."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.machine.namespace import detach
from tests.support.mount.daemons import STOP_S
from tests.support.mount.stores import Mounts

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {app: {uid: 10050}}
rules:
  - {id: read, allow: [see, read], who: {app: app}, paths: ["/**"]}
"""


@pytest.mark.parametrize("aborted", [False, True], ids=["by signal", "by abort"])
def test_the_daemon_of_a_covered_mount_unmounts_nothing_else(
    mounts: Mounts, store: Path, aborted: bool
) -> None:
    mount = mounts.start(POLICY, store)
    subprocess.run(["mount", "-t", "tmpfs", "disk", mount.mountpoint], check=True)
    try:
        (mount.mountpoint / "on-the-disk").touch()
        if aborted:
            Path(f"/sys/fs/fuse/connections/{mount.status()['connection']}/abort").write_text("1")
        else:
            os.kill(mount.pid, signal.SIGTERM)
        assert mount.process.wait(STOP_S) == aborted
        assert os.listdir(mount.mountpoint) == ["on-the-disk"]
    finally:
        detach(str(mount.mountpoint))  # the other one, and then the dead mount
        detach(str(mount.mountpoint))
        mount.process = None

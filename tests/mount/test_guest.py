"""Tests that need another kernel, in a guest: a store on NFS, and mounts on Linux 6.1.

What compares with a native tmpfs is left out: tmpfs has no O_DIRECT before Linux 6.6.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.machine.documents import CHECKOUT

GUEST_S = 3000


@pytest.mark.soak
@pytest.mark.timeout(GUEST_S + 120)
@pytest.mark.parametrize(
    "chosen",
    [
        ["tests/guest/nfs.py"],
        ["tests/guest/two_machines.py"],
        ["tests/guest/delegations.py"],
        ["tests/mount/test_other_stores.py", "-k", "ext4 or btrfs or tmpfs or mergerfs"],
        ["tests/mount/test_ops_files.py", "tests/mount/test_ops_names.py", "-k", "ext4"],
    ],
    ids=["nfs", "machines", "delegations", "stores", "operations"],
)
def test_in_a_guest(chosen: list[str]) -> None:
    command = [sys.executable, "-m", "tests.guest", "--timeout", str(GUEST_S)]
    command += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300", *chosen]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]

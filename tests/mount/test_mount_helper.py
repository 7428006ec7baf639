"""`mount -t fuse.policyfs` through the real mount(8) and the helper."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine.namespace import enter_private_namespace, mounts_below
from tests.support.machine.processes import TOOL_ENVIRONMENT, call_as, tool_as
from tests.support.mount.stores import Mounts

CHECKOUT = Path(__file__).resolve().parents[2]
UID = 10060
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{reader: {{uid: {UID}}}}}
rules:
  - {{id: read, allow: [see, read], who: {{app: reader}}, paths: ["/**"]}}
"""


def _through_mount8(arena: Path, runtime: dict[str, str], store: Path, policy: Path, mnt: Path) -> dict:
    """In a namespace of its own, with the helper put into /usr/sbin by an overlay."""
    enter_private_namespace()
    for name in ("upper", "overlay"):
        (arena / name).mkdir()
    shutil.copy(CHECKOUT / "packaging" / "mount.fuse.policyfs", arena / "upper")
    (arena / "upper" / "policyfs").symlink_to(Path(sys.executable).with_name("policyfs"))
    layers = f"lowerdir=/usr/sbin,upperdir={arena}/upper,workdir={arena}/overlay"
    tool_as(0, "mount", "-t", "overlay", "overlay", "-o", layers, "/usr/sbin", check=True)
    environment = TOOL_ENVIRONMENT | runtime
    fstab = arena / "fstab"
    fstab.write_text(f"{store} {mnt} fuse.policyfs policy={policy},modes=policy,ro,noatime,nofail 0 0\n")
    mount = ["mount", "--fstab", str(fstab), str(mnt)]
    done = subprocess.run(mount, env=environment, capture_output=True, text=True, timeout=60, check=False)
    try:
        mounted = [entry.fstype for entry in mounts_below(mnt)]
        seen = tool_as(UID, "cat", mnt / "Documents/notes.txt").stdout
        written = tool_as(UID, "touch", mnt / "Documents/notes.txt").stderr
    finally:
        end = ["policyfs", "umount", str(mnt)]
        ended = subprocess.run(end, env=environment, capture_output=True, text=True, timeout=60, check=False)
    got = {"mount": done, "mounted": mounted, "seen": seen, "written": written, "umount": ended}
    return got | {"left": mounts_below(mnt)}


@pytest.mark.timeout(150)
def test_mount8_mounts_by_a_line_of_fstab(arena: Path, store: Path, mounts: Mounts) -> None:
    mount = mounts.prepare(POLICY, store)
    for directory in (mount.trail, mount.runtime):
        directory.mkdir()
    got = call_as(
        0, _through_mount8, arena, mount.environment, store, mount.policy, mount.mountpoint, deadline_s=140
    )
    assert got["mount"].returncode == 0, got
    assert got["mounted"] == ["fuse.policyfs"]
    assert got["seen"] == b"plain words\n"
    assert b"Read-only file system" in got["written"]
    assert got["umount"].returncode == 0, got
    assert got["left"] == []

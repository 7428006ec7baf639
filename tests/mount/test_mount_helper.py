"""`mount -t fuse.policyfs` through the real mount(8) and the helper."""

from __future__ import annotations

import os
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
LONG_AGO_S = 1_000_000_000
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{reader: {{uid: {UID}}}}}
rules:
  - {{id: read, allow: [see, read], who: {{app: reader}}, paths: ["/**"]}}
"""


TAKEN = {
    "defaults,nofail,_netdev,noauto,x-systemd.automount,X-mount.mkdir,comment=a": {"rw", "nosuid", "nodev"},
    "rw,relatime,lazytime,silent,nosuid,nodev,exec,async": {"rw", "nosuid", "nodev"},
    "ro,noatime": {"ro", "nosuid", "nodev"},
    "nodiratime,ro,lazytime": {"ro", "nosuid", "nodev"},
}
"""Options, and those of the mount then."""
REFUSED = {
    "noatime": "noatime needs ro",
    "nodiratime,rw": "nodiratime needs ro",
    "ro,strictatime": "strictatime is for the mount of the store",
    "user": "no mount of policyfs has the option noexec",  # mount(8) adds it
    "users,exec": "only root can mount policyfs, so users is impossible",
    **{one: f"no mount of policyfs has the option {one}" for one in ("noexec", "sync", "dirsync", "mand")},
    **{one: f"no mount of policyfs has the option {one}" for one in ("iversion", "nosymfollow")},
    "remount,ro": "end the mount with",
    "nosuchoption": "unknown option: nosuchoption",
}


def _put_helper(arena: Path) -> None:
    """Put the helper into /usr/sbin by an overlay, in a namespace of its own."""
    enter_private_namespace()
    for name in ("upper", "overlay"):
        (arena / name).mkdir()
    shutil.copy(CHECKOUT / "packaging" / "mount.fuse.policyfs", arena / "upper")
    (arena / "upper" / "policyfs").symlink_to(Path(sys.executable).with_name("policyfs"))
    layers = f"lowerdir=/usr/sbin,upperdir={arena}/upper,workdir={arena}/overlay"
    tool_as(0, "mount", "-t", "overlay", "overlay", "-o", layers, "/usr/sbin", check=True)


def _with_options(arena: Path, environment: dict[str, str], store: Path, policy: Path, mnt: Path) -> dict:
    """The exit code, message and mount of each set of options, and whether a read changed an access time."""
    _put_helper(arena)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)

    found = {}
    notes = store / "Documents/notes.txt"
    for options in [*TAKEN, *REFUSED]:
        done = run("mount", "-t", "fuse.policyfs", "-o", f"policy={policy},{options}", str(store), str(mnt))
        mounted = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        flags = [set(line[5].split(",")) for line in mounted if line[4] == str(mnt)]
        if flags:
            os.utime(notes, (LONG_AGO_S, LONG_AGO_S))
            tool_as(UID, "cat", mnt / "Documents/notes.txt", check=True)
            assert run("policyfs", "umount", str(mnt)).returncode == 0
        found[options] = (done.returncode, done.stderr, flags, notes.stat().st_atime == LONG_AGO_S)
    return found


@pytest.mark.timeout(150)
def test_each_option_is_honoured_or_refused(arena: Path, store: Path, mounts: Mounts) -> None:
    mount = mounts.prepare(POLICY, store)
    for directory in (mount.trail, mount.runtime):
        directory.mkdir()
    environment = TOOL_ENVIRONMENT | mount.environment
    found = call_as(
        0, _with_options, arena, environment, store, mount.policy, mount.mountpoint, deadline_s=140
    )
    for options, wanted in TAKEN.items():
        code, said, flags, kept = found[options]
        assert code == 0, (options, said)
        assert wanted <= flags[0], options
        assert kept == ("ro" in wanted), options
    for options, wanted in REFUSED.items():
        code, said, flags, _ = found[options]
        assert (code, flags) == (1, []), (options, said)
        assert wanted in said, options


def _through_mount8(arena: Path, runtime: dict[str, str], store: Path, policy: Path, mnt: Path) -> dict:
    _put_helper(arena)
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

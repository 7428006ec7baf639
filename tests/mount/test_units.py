"""The rights that the systemd units leave the daemon are enough for all it does."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from policyfs.cli.site.site_document import read_site
from policyfs.cli.site.site_units import CONFINED, units
from policyfs.daemon.contain import DAEMON
from policyfs.linux.confinement.capabilities import ZYGOTE, Capability
from tests.support.machine.namespace import detach
from tests.support.machine.processes import call_as, tool_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

CHECKOUT = Path(__file__).resolve().parents[2]
CAMERA, GALLERY = 10010, 10011


def _bounding_set() -> list[str]:
    lines = re.findall(r"^CapabilityBoundingSet=(.+)$", CONFINED, re.MULTILINE)
    return [word.removeprefix("CAP_").lower() for line in lines for word in line.split()]


def _work(mountpoint: str) -> None:
    """What an app does with files of its own."""
    os.chdir(f"{mountpoint}/DCIM")
    os.mkdir("mine", 0o750)
    Path("mine/a.jpg").write_bytes(Path("Camera/a.jpg").read_bytes())
    os.chmod("mine/a.jpg", 0o640)
    os.utime("mine/a.jpg", ns=(1, 2))
    os.setxattr("mine/a.jpg", "user.note", b"x")
    os.truncate("mine/a.jpg", 100_000)
    os.rename("mine/a.jpg", "mine/b.jpg")
    fd = os.open("mine/b.jpg", os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    os.unlink("mine/b.jpg")
    os.rmdir("mine")


def test_the_units_give_no_more_than_the_daemon_would_keep() -> None:
    kept = {one.name.lower() for one in DAEMON | ZYGOTE | {Capability.SETPCAP}}
    assert set(_bounding_set()) == kept


def test_the_units_make_no_mount_namespace() -> None:
    """Of a service that has one nobody else sees a mount: systemd.exec(5), `shared` propagation included."""
    found = set(re.findall(r"^(\w+)=", CONFINED, re.MULTILINE))
    assert not found & {
        "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateNetwork",
        "PrivateIPC", "PrivateUsers", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
        "ProtectControlGroups", "ProtectProc", "ProcSubset", "ProtectHostname", "ReadOnlyPaths",
        "ReadWritePaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths", "BindReadOnlyPaths",
        "TemporaryFileSystem", "RootDirectory", "RootImage", "MountFlags", "MountAPIVFS", "DynamicUser",
        "ProtectClock",
    }  # fmt: skip
    # New files get the setgid bit of their directory, and apps may set modes of their own files.
    assert "RestrictSUIDSGID" not in found


@pytest.mark.parametrize("app", [(), ("--app", "camera")], ids=["shared", "app"])
def test_the_daemon_works_with_the_units_capabilities(
    app: tuple[str, ...], store: Path, mounts: Mounts
) -> None:
    policy = CHECKOUT / "policies" / "family-photos.yaml"
    mount = mounts.prepare(policy, store, *app)
    allowed = ",".join(f"+{name}" for name in _bounding_set())
    mount.wrapper = ("setpriv", "--bounding-set", f"-all,{allowed}", "--no-new-privs", "--")
    mount.start()
    effective = re.search(r"CapEff:\s*(\w+)", Path(f"/proc/{mount.pid}/status").read_text())
    assert effective is not None
    assert int(effective[1], 16).bit_count() <= len(_bounding_set())
    assert mount.status()["contained"]["missing"] == []

    call_as(CAMERA, _work, str(mount.mountpoint))
    assert mount.status()["passthrough"]["enabled"]
    events = [event for event in mount.events() if event.get("uid") == CAMERA]
    assert events
    assert [event for event in events if event.get("exe")], "no executable could be read"
    if not app:
        seen = tool_as(GALLERY, "exiftool", "-s3", "-GPSPosition", mount / "DCIM/Camera/a.jpg", check=True)
        assert seen.stdout == b""


# -- the end of a unit -----------------------------------------------------------------------------------

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 10011}}
rules:
  - {id: read, allow: [see, read], who: {app: gallery}, paths: ["/**"]}
"""
SITE = """\
apiVersion: policyfs/v1
kind: Site
name: home
store: %s
policy: %s
mounts: [{shared: true, at: %s}]
"""


def _end(mount: Mount, place: Path) -> None:
    """Run the command that a unit runs after its daemon's end, also after a start that failed."""
    site = place / "home.site.yaml"
    site.write_text(SITE % (mount.store, mount.policy, mount.mountpoint))
    text = "".join(text for name, text in units(read_site(str(site))) if name.endswith("shared.service"))
    (line,) = re.findall(r"^ExecStopPost=-(.+)$", text, re.MULTILINE)
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = {"SERVICE_RESULT": "signal"}
    words = shlex.split(line.replace("$$", "$"))
    subprocess.run(words, env=os.environ | mount.environment | path | result, check=False, timeout=60)


def test_a_unit_that_could_not_mount_takes_no_other_mount_away(
    store: Path, mounts: Mounts, tmp_path: Path
) -> None:
    """Somebody else has mounted at its mountpoint, so its start has failed."""
    mount = mounts.start(POLICY, store)
    _end(mount, tmp_path)
    assert mount.is_mounted()
    assert call_as(GALLERY, os.listdir, mount.mountpoint)


def test_nor_another_file_system(store: Path, mounts: Mounts, tmp_path: Path) -> None:
    mount = mounts.prepare(POLICY, store)
    subprocess.run(["mount", "-t", "tmpfs", "disk", mount.mountpoint], check=True)
    try:
        _end(mount, tmp_path)
        assert os.path.ismount(mount.mountpoint)
    finally:
        detach(str(mount.mountpoint))


def test_a_unit_takes_away_the_mount_of_its_killed_daemon(
    store: Path, mounts: Mounts, tmp_path: Path
) -> None:
    mount = mounts.start(POLICY, store)
    mount.process.kill()
    mount.process.wait(10)
    mount.process = None
    _end(mount, tmp_path)
    assert not mount.is_mounted()

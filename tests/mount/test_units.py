"""The rights that the systemd units leave the daemon are enough for all it does."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from policyfs.daemon.contain import DAEMON
from policyfs.linux.capabilities import ZYGOTE, Capability
from tests.support.machine.processes import call_as, tool_as
from tests.support.mount.stores import Mounts

CHECKOUT = Path(__file__).resolve().parents[2]
UNITS = sorted((CHECKOUT / "packaging" / "systemd").glob("*@.service"))
CAMERA, GALLERY = 10010, 10011


def _bounding_set(unit: Path) -> list[str]:
    lines = re.findall(r"^CapabilityBoundingSet=(.+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
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


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_units_give_no_more_than_the_daemon_would_keep(unit: Path) -> None:
    kept = {one.name.lower() for one in DAEMON | ZYGOTE | {Capability.SETPCAP}}
    assert set(_bounding_set(unit)) == kept


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_units_make_no_mount_namespace(unit: Path) -> None:
    """Of a service that has one nobody else sees a mount: systemd.exec(5), `shared` propagation included."""
    text = unit.read_text(encoding="utf-8")
    found = set(re.findall(r"^(\w+)=", text, re.MULTILINE))
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


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_daemon_works_with_the_units_capabilities(unit: Path, store: Path, mounts: Mounts) -> None:
    policy = CHECKOUT / "policies" / "family-photos.yaml"
    mount = mounts.prepare(policy, store, *(("--app", "camera") if "app" in unit.name else ()))
    allowed = ",".join(f"+{name}" for name in _bounding_set(unit))
    mount.wrapper = ("setpriv", "--bounding-set", f"-all,{allowed}", "--no-new-privs", "--")
    mount.start()
    effective = re.search(r"CapEff:\s*(\w+)", Path(f"/proc/{mount.pid}/status").read_text())
    assert effective is not None
    assert int(effective[1], 16).bit_count() <= len(_bounding_set(unit))
    assert mount.status()["contained"]["missing"] == []

    call_as(CAMERA, _work, str(mount.mountpoint))
    assert mount.status()["passthrough"]["enabled"]
    events = [event for event in mount.events() if event.get("uid") == CAMERA]
    assert events
    assert [event for event in events if event.get("exe")], "no executable could be read"
    if "app" not in unit.name:
        seen = tool_as(GALLERY, "exiftool", "-s3", "-GPSPosition", mount / "DCIM/Camera/a.jpg", check=True)
        assert seen.stdout == b""

"""A running daemon has given up what it does not need, and does all its work without it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.cli.machine import machine_checks
from policyfs.cli.machine.findings import State
from policyfs.daemon import contain
from policyfs.linux.confinement.capabilities import ZYGOTE, rights_of
from tests.support.machine.processes import DeadlineExceeded, call_as, tool_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

pytestmark = pytest.mark.mount

CAMERA, GALLERY = 10010, 10011
POLICY = Path(__file__).resolve().parents[2] / "policies" / "family-photos.yaml"

OF_THE_LIBRARY = 3 << 31
"""Signals 32 and 33, as a mask. The C library handles them from a process's first thread on; what such a
process executes does not inherit that they are ignored. So it depends on what the tests did before."""


def status_fields(pid: int, thread: str = "") -> dict[str, str]:
    """/proc/PID/status, or of one thread, without the library's own signals."""
    text = Path(f"/proc/{pid}/{thread and f'task/{thread}/'}status").read_text()
    fields = dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))
    return fields | {"SigIgn": f"{int(fields['SigIgn'], 16) & ~OF_THE_LIBRARY:016x}"}


@pytest.mark.parametrize("options", [(), ("--posix",)], ids=["", "posix"])
def test_every_thread_of_a_daemon_is_contained(options, store: Path, mounts: Mounts) -> None:
    mount = mounts.start(POLICY, store, *options)
    kept = contain.WITH_DEVICES if options else contain.DAEMON
    mask = sum(1 << number for number in kept)
    threads = os.listdir(f"/proc/{mount.pid}/task")
    assert len(threads) > 1  # that of notifications
    for thread in threads:
        fields = status_fields(mount.pid, thread)
        for name in ("CapEff", "CapPrm", "CapBnd"):
            assert int(fields[name], 16) & ~mask == 0, f"{name} of {fields['Name']}"
        assert (int(fields["CapInh"], 16), int(fields["CapAmb"], 16)) == (0, 0)
        assert fields["NoNewPrivs"] == "1"
        assert (fields["Seccomp"], fields["Seccomp_filters"]) == ("2", "2")
    interfaces = Path(f"/proc/{mount.pid}/net/dev").read_text()
    assert re.findall(r"^\s*(\w+):", interfaces, re.MULTILINE) == ["lo"]


def test_the_processes_that_sniff_have_less(store: Path, mounts: Mounts) -> None:
    mount = mounts.prepare(POLICY, store)
    mount.executed = True  # so is its launcher, then
    mount.start()
    sniffer = mount.status()["sniffer"]
    zygote, launcher = sniffer["zygote_pid"], int(status_fields(sniffer["zygote_pid"])["PPid"])
    assert int(status_fields(launcher)["PPid"]) == mount.pid
    for pid in (zygote, launcher):
        assert rights_of(pid).effective <= ZYGOTE
        assert rights_of(pid).bounding <= ZYGOTE
    for pid in sniffer["worker_pids"]:
        assert rights_of(pid).effective == frozenset()
        assert rights_of(pid).seccomp == "filter"


def of_a_launcher(mount: Mount) -> dict[str, object]:
    launcher = status_fields(mount.status()["sniffer"]["zygote_pid"])["PPid"]
    fields, process = status_fields(int(launcher)), Path(f"/proc/{launcher}")
    networks = {os.readlink(f"/proc/{pid}/ns/net") for pid in (launcher, mount.pid, "self")}
    kept = ("Uid", "Gid", "NoNewPrivs", "Threads", "SigBlk", "SigIgn", "SigCgt", "Umask")
    return {name: fields[name] for name in kept} | {
        "rights": rights_of(int(launcher)), "networks": len(networks),
        "limits": (process / "limits").read_text(), "descriptors": open_files(process),
        "session": os.getsid(int(launcher)) == int(launcher), "directory": os.readlink(process / "cwd"),
    }  # fmt: skip


def of_a_daemon(mount: Mount) -> dict[str, object]:
    fields, process = status_fields(mount.pid), Path(f"/proc/{mount.pid}")
    kept = ("Uid", "Gid", "NoNewPrivs", "SigBlk", "SigIgn", "SigCgt", "Umask")
    return {name: fields[name] for name in kept} | {
        "rights": rights_of(mount.pid), "limits": (process / "limits").read_text(),
        "directory": os.readlink(process / "cwd"), "weight": os.getpriority(os.PRIO_PROCESS, mount.pid),
        "mounts": os.readlink(process / "ns/mnt"), "groups": (process / "cgroup").read_text(),
        "memory": (process / "oom_score_adj").read_text(), "descriptors": open_files(process),
    }  # fmt: skip


@pytest.mark.parametrize("look", [of_a_launcher, of_a_daemon])
def test_one_forked_for_the_tests_is_as_an_executed_one(
    look: Callable[[Mount], dict[str, object]], store: Path, mounts: Mounts
) -> None:
    """tests/support/machine/launchers.py, template.py: what other tests say of workers and of daemons holds
    for those of a person's mount, too."""
    for executed in (False, True):
        mount = mounts.prepare(POLICY, store)
        mount.executed = executed
        mount.start()
    seen: list[dict[str, object]] = []

    def alike() -> bool:
        seen[:] = map(look, mounts.all)
        return seen[0] == seen[1]

    with contextlib.suppress(DeadlineExceeded):  # they open files, and block signals, for moments
        wait_for(alike, "both are alike")
    assert seen[0] == seen[1]
    assert seen[0].get("networks", 2) == 2  # the daemon's and that of the tests


def open_files(process: Path) -> list[str]:
    found = []
    for fd in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(re.sub(r"[\da-f]{16}|\d+", "N", os.readlink(fd)))
    return sorted(found)


def test_what_holds_is_shown(store: Path, mounts: Mounts) -> None:
    mount = mounts.prepare(POLICY, store)
    mount.wrapper = ("prlimit", "--core=unlimited:unlimited", "--")
    mount.start()
    limits = Path(f"/proc/{mount.pid}/limits").read_text()
    assert re.search(r"^Max core file size\s+1\s+1\s", limits, re.MULTILINE)
    contained = mount.status()["contained"]
    assert contained["missing"] == []
    assert contained["seccomp"] == "filter"
    assert contained["no_new_privs"]
    assert set(contained["capabilities"]) <= {f"CAP_{one.name}" for one in contain.DAEMON}
    with mount.as_environment():
        found = {finding.name: finding for finding in machine_checks.check_daemons()}
    finding = found[f"daemon of {mount.mountpoint}"]
    assert finding.state is State.OK
    assert "no network" in finding.what


def test_a_zygote_that_is_killed_comes_back(store: Path, mounts: Mounts) -> None:
    """The daemon can execute nothing; what it needs executed another process does."""
    mount = mounts.start(POLICY, store)
    photo = mount / "DCIM/Camera/a.jpg"
    place = ("exiftool", "-s3", "-GPSPosition", photo)
    assert tool_as(GALLERY, *place, check=True).stdout == b""
    before = mount.status()["sniffer"]
    os.kill(before["zygote_pid"], signal.SIGKILL)

    def again() -> bool:
        os.utime(store / "DCIM/Camera/a.jpg", ns=(0, time.time_ns()))  # another version: it is looked at anew
        try:
            read = call_as(GALLERY, photo.read_bytes)[:2] == b"\xff\xd8"
        except PermissionError:
            return False
        # Its workers end a moment after it: one of them may still have answered.
        return read and mount.status()["sniffer"]["zygotes_started"] > before["zygotes_started"]

    wait_for(again, "photos are looked at again, by workers of a new zygote", 20)
    assert mount.status()["sniffer"]["zygotes_started"] == before["zygotes_started"] + 1
    assert tool_as(GALLERY, *place, check=True).stdout == b""


def test_what_a_daemon_does_later_works_too(store: Path, mounts: Mounts) -> None:
    """Reloads and a new segment of the trail."""
    mount = mounts.start(POLICY, store, "--trail-segment", "64K")
    assert mount.reload().returncode == 0
    mount.process.send_signal(signal.SIGHUP)
    wait_for(lambda: mount.status()["policy"]["generation"] == 3, "the second reload")

    def look() -> None:
        for number in range(400):
            with contextlib.suppress(PermissionError):
                os.mkdir(mount / f"DCIM/mine{number}")

    call_as(GALLERY, look)
    wait_for(lambda: len(list(mount.trail_dir.glob("*.jsonl"))) > 1, "a second segment of the trail")
    status = mount.status()
    assert (status["bugs"], status["trail"]["failing"]) == (0, False)
    assert json.dumps(status["contained"]["missing"]) == "[]"

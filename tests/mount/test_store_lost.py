"""`policyfs status --check` on a mount whose store was lost while it runs, or is not whole any more."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.cli.running import health
from tests.support.machine.images import file_system
from tests.support.machine.namespace import detach
from tests.support.machine.processes import wait_for
from tests.support.mount import layers
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 10011}}
rules:
  - {id: read, allow: [see, read], who: {app: gallery}, paths: ["/**"]}
"""
SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
NO_LOG = 2


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def check(mount: Mount) -> str:
    """What `status --check` says of the mount; its exit code is 1 if this is not `well`."""
    with mount.as_environment():
        said = policyfs("status", "--check", mount.mountpoint)
    assert said.stderr == ""
    told = said.stdout.removeprefix(f"{mount.mountpoint}: ").strip()
    assert said.returncode == (told != "well"), said
    return told


def started(mounts: Mounts, store: Path) -> Mount:
    mount = mounts.start(POLICY, store, "--no-passthrough")
    mount.expected_log.append("")  # the store fails on purpose
    assert check(mount) == "well"
    return mount


def shut_down(root: Path) -> None:
    """Let a file system end as after an error."""
    fd = os.open(root, os.O_RDONLY)
    fcntl.ioctl(fd, SHUTDOWN, struct.pack("=I", NO_LOG))
    os.close(fd)


@contextmanager
def covered(store: Path) -> Iterator[None]:
    layers.mount("-t", "tmpfs", "other", store)
    try:
        yield
    finally:
        layers.unmount(store)


def test_another_file_system_over_the_store(mounts: Mounts, place: Path) -> None:
    store = place / "store"
    store.mkdir(mode=0o700)
    mount = started(mounts, store)
    with covered(store):
        assert f"another directory or file system is at {store} than this mount serves" in check(mount)
    assert check(mount) == "well"


def test_a_store_that_was_unmounted_and_mounted_anew(mounts: Mounts, place: Path) -> None:
    disk, store = place / "disk", place / "store"
    disk.mkdir(mode=0o700)
    store.mkdir(mode=0o700)
    layers.mount("--bind", disk, store)
    mount = started(mounts, store)
    detach(str(store))
    assert "another directory or file system is at" in check(mount)
    layers.mount("--bind", disk, store)  # file systems below it are not the ones that the daemon has
    assert "another directory or file system is at" in check(mount)
    layers.unmount(store)
    store.rmdir()
    assert f"the store {store} is not at its path any more (No such file or directory)" in check(mount)


@pytest.mark.parametrize(
    ("kind", "told"), [("ext4", "was shut down after an error"), ("xfs", "does not work: Input/output error")]
)
def test_a_file_system_that_failed(mounts: Mounts, place: Path, kind: str, told: str) -> None:
    with file_system(kind, place) as root:
        root.chmod(0o700)
        mount = started(mounts, root)
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        assert "is read-only now, and the mount is not: writes end in EROFS" in check(mount)
        subprocess.run(["mount", "-o", "remount,rw", root], check=True)
        assert check(mount) == "well"
        shut_down(root)
        assert f"the file system of the store {root} {told}" in check(mount)
        assert mounts.stop_all() == []


def test_a_network_store_that_hangs_or_died(
    mounts: Mounts, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_STORE_S", 1.0)
    source = place / "source"
    source.mkdir(mode=0o700)
    with layers.network(source, place) as (store, server):
        mount = mounts.start(POLICY, store)
        mount.expected_mediated = True
        mount.expected_log.append("")
        assert "does not" not in check(mount)
        os.kill(server, signal.SIGSTOP)
        assert f"the store {store} does not answer within 1 s" in check(mount)
        os.kill(server, signal.SIGKILL)
        wait_for(lambda: "does not work: Transport endpoint is not" in check(mount), "the store is dead", 20)
        assert mounts.stop_all() == []


def test_a_part_of_the_store_that_was_unmounted(
    mounts: Mounts, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICYFS_STATE_DIR", str(place / "state"))
    store = place / "store"
    usb = store / "usb"
    usb.mkdir(parents=True)
    store.chmod(0o700)
    with covered(usb):
        mount = started(mounts, store)
    assert check(mount) == f"the store {store} is not whole: nothing is mounted on {usb}"


def test_a_branch_of_a_pool_that_is_lost(
    mounts: Mounts, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory still answers from the kernel's memory."""
    monkeypatch.setenv("POLICYFS_STATE_DIR", str(place / "state"))
    (place / "layer").mkdir()
    with (
        file_system("ext4", place) as branch,
        layers.mergerfs(branch, place / "layer") as pool,
    ):
        second = place / "layer/second-branch"
        mount = mounts.start(POLICY, pool)
        mount.expected_mediated = True
        mount.expected_log.append("")
        assert "not whole" not in check(mount)
        with covered(second):
            assert f"the store {pool} is not whole: another file system is on {second}" in check(mount)
        (second / "left").touch()
        second.rename(place / "away")
        assert f"the store {pool} is not whole: nothing is mounted on {second}" in check(mount)
        (place / "away").rename(second)
        shut_down(branch)
        assert f"file system of {branch}, a part of the store was shut down after an error" in check(mount)
        assert mounts.stop_all() == []

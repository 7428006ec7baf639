"""A store in which other file systems are mounted, or btrfs subvolumes lie: no change goes unseen."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.machine.images import file_system
from tests.support.machine.namespace import detach
from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.daemons import MountFailed
from tests.support.mount.stores import Mounts

APP = 10011
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {player: {uid: 10011}}
rules:
  - {id: all, allow: [see, read], paths: "/***"}
"""
SEEN_S = 1.5
"""A change is seen 1 s late at most where no watch runs."""


def _stays_true(mounts: Mounts, store: Path, inner: Path) -> None:
    """Names and sizes in a directory of the store, changed behind the mount after they were kept."""
    (inner / "old").write_bytes(b"1")
    mount = mounts.start(POLICY, store, "--app", "player")
    place = mount / inner.relative_to(store)

    def listed() -> list[str]:
        return sorted(call_as(APP, os.listdir, str(place)))

    def found() -> bool:
        return call_as(APP, os.path.exists, str(place / "new"))

    def size() -> int:
        return call_as(APP, os.path.getsize, str(place / "old"))

    for _ in range(3):  # from the kernel's caches by now
        assert (listed(), found(), size()) == (["old"], False, 1)
    (inner / "new").write_bytes(b"2")
    with open(inner / "old", "ab") as file:
        file.write(b"11")
    wait_for(lambda: listed() == ["new", "old"], "the listing shows the new name", SEEN_S)
    wait_for(found, "the name is found", SEEN_S)
    wait_for(lambda: size() == 3, "the size is the new one", SEEN_S)
    (inner / "new").unlink()
    wait_for(lambda: not found(), "the name is gone", SEEN_S)
    os.utime(inner, (1, 1))
    wait_for(lambda: call_as(APP, os.stat, str(place)).st_mtime == 1, "the time is seen", SEEN_S)
    assert listed() == listed() == ["old"]
    (inner / "old").rename(inner / "other")
    os.utime(inner, (1, 1))  # as rsync -a and tar leave it
    wait_for(lambda: listed() == ["other"], "the listing shows the other name", SEEN_S)


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_another_file_system_mounted_in_the_store(
    mounts: Mounts, empty_store: Path, tmp_path: Path, kind: str
) -> None:
    inner = empty_store / "media/disk"
    inner.mkdir(parents=True)
    with file_system(kind, tmp_path) as disk:
        subprocess.run(["mount", "--bind", disk, inner], check=True, timeout=20)
        try:
            (inner / "films").mkdir()
            _stays_true(mounts, empty_store, inner / "films")
        finally:
            assert mounts.stop_all() == []
            subprocess.run(["umount", inner], check=True, timeout=20)


def test_a_mountpoint_in_a_bind_mount_of_the_store_is_refused(
    mounts: Mounts, arena: Path, empty_store: Path
) -> None:
    """Mounts propagate: the mount would be in its own store, and the daemon would wait for itself."""
    (empty_store / "view").mkdir()
    other = arena / "other"
    other.mkdir()
    for words in (("--bind", empty_store, empty_store), ("--make-shared", empty_store)):
        subprocess.run(["mount", *words], check=True, timeout=20)
    try:
        subprocess.run(["mount", "--bind", empty_store, other], check=True, timeout=20)
        mount = mounts.prepare(POLICY, empty_store)
        mount.mountpoint, mount.expected_exit = other / "view", 1
        with pytest.raises(MountFailed, match=f"this directory is also in the store, as {empty_store}/view"):
            mount.start()
        assert not os.path.ismount(other / "view")
        assert not os.path.ismount(empty_store / "view")
    finally:
        for place in (other, empty_store):
            detach(str(place))


def test_a_subvolume(mounts: Mounts, tmp_path: Path) -> None:
    with file_system("btrfs", tmp_path) as store:
        store.chmod(0o700)
        subprocess.run(["btrfs", "-q", "subvolume", "create", store / "sub"], check=True, timeout=20)
        try:
            _stays_true(mounts, store, store / "sub")
        finally:
            assert mounts.stop_all() == []

"""The state of policyfs itself: what its backup is good for, here and on another machine, and how a store is
left (docs/operations.md)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import MountFailed, policyfs
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {camera: {uid: 10010}, gallery: {uid: 10011}}
rules:
  - {id: adds, allow: [see, read, create], who: {app: camera}, paths: "/**"}
  - {id: own, allow: [all], who: {app: camera}, paths: "/**", when: {owner: self}}
  - {id: reads, allow: [see, read], who: {app: gallery}, paths: "/**"}
  - {id: no-places, require: {redact: [location]}, who: {app: gallery}}
"""
FIRST = jpegs.with_segments(jpegs.plain(7, 120), jpegs.exif_segment(jpegs.exif()))
SECOND = jpegs.with_segments(jpegs.plain(9, 150), jpegs.exif_segment(jpegs.exif()))


def test_an_older_snapshot_of_the_store_is_put_back(mounts: Mounts, arena: Path) -> None:
    with file_system("btrfs", arena) as disk:
        store = disk / "live"
        _btrfs("create", store)
        store.chmod(0o777)
        mount = mounts.prepare(POLICY, store)
        with mount.as_environment():
            mount.start()
            call_as(CAMERA, (mount / "a.jpg").write_bytes, FIRST)
            assert _as_gallery(mount.mountpoint, "a.jpg")
            assert mount.stop() == []
            _btrfs("snapshot", store, disk / "before")
            mount.start()
            assert call_as(CAMERA, code_of, os.unlink, mount / "a.jpg") == ""
            call_as(CAMERA, (mount / "b.jpg").write_bytes, SECOND)
            assert _as_gallery(mount.mountpoint, "b.jpg")
            assert mount.stop() == []

            store.rename(disk / "after")
            _btrfs("snapshot", disk / "before", store)
            with pytest.raises(MountFailed, match="accept"):
                mount.start()
            mount.log.write_text("")
            assert policyfs("accept", store).returncode == 0
            mount.start()
            assert call_as(GALLERY, os.listdir, mount.mountpoint) == ["a.jpg"]
            assert _as_gallery(mount.mountpoint, "a.jpg")
            assert call_as(CAMERA, code_of, os.unlink, mount / "a.jpg") == "", "its owner is the snapshot's"
            assert mount.stop() == []


def _as_gallery(mount: Path, name: str) -> bool:
    """Return True if the gallery reads a photo, without its place."""
    seen = call_as(GALLERY, (mount / name).read_bytes)
    return jpegs.leaks(seen) == [] and jpegs.pixels(seen) in {jpegs.pixels(FIRST), jpegs.pixels(SECOND)}


def _btrfs(action: str, *paths: Path) -> None:
    subprocess.run(["btrfs", "-q", "subvolume", action, *map(str, paths)], check=True)


def test_trail_and_keys_go_on_on_another_machine(mounts: Mounts, empty_store: Path, arena: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    call_as(CAMERA, (mount / "a.jpg").write_bytes, FIRST)
    assert mount.stop() == []
    for variable in ("POLICYFS_TRAIL_DIR", "POLICYFS_KEY_DIR"):  # what other machines get
        shutil.copytree(mount.environment[variable], arena / variable)
        mount.environment[variable] = str(arena / variable)
    mount.trail = arena / "POLICYFS_TRAIL_DIR"
    before = len(mount.events())
    mount.start()
    assert call_as(CAMERA, code_of, os.unlink, mount / "a.jpg") == "", "the owner is in the store"
    assert mount.stop() == []
    numbers = [event["seq"] for event in mount.events()]
    assert (numbers, len(numbers) > before) == (list(range(1, len(numbers) + 1)), True)
    with mount.as_environment():
        assert policyfs("audit", "verify").returncode == 0


def test_nothing_of_policyfs_stays_in_a_store_that_it_leaves(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    call_as(CAMERA, (mount / "a.jpg").write_bytes, FIRST)
    assert mount.stop() == []
    assert "trusted.policyfs.owner" in os.listxattr(empty_store / "a.jpg")
    with mount.as_environment():
        assert policyfs("owner", "set", "--recursive", empty_store, "none", "/").returncode == 0
    assert os.listxattr(empty_store / "a.jpg") == []
    assert [name for name in os.listdir(empty_store) if name != "a.jpg"] == []

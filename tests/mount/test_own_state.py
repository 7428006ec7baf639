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


def test_a_copied_store_gets_its_owners_from_the_list(mounts: Mounts, empty_store: Path, arena: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    with mount.as_environment(), file_system("tmpfs", arena) as disk:
        call_as(CAMERA, (mount / "a.jpg").write_bytes, FIRST)
        assert mount.stop() == []
        assert policyfs("owner", "export", empty_store, arena / "owners.jsonl").returncode == 0
        shutil.copytree(empty_store, disk, dirs_exist_ok=True)  # with its attributes
        subprocess.run(["mount", "--bind", disk, empty_store], check=True)
        try:
            with pytest.raises(MountFailed, match="accept"):
                mount.start()
            mount.log.write_text("")
            assert policyfs("accept", empty_store).returncode == 0
            assert policyfs("owner", "show", empty_store, "/a.jpg").stdout == "none\t/a.jpg\n"
            assert policyfs("owner", "import", empty_store, arena / "owners.jsonl").returncode == 0
            mount.start()
            assert call_as(CAMERA, code_of, os.unlink, mount / "a.jpg") == ""
            assert mount.stop() == []
        finally:
            subprocess.run(["umount", empty_store], check=True)


def test_what_is_lost_of_its_state_is_found_or_made_again(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "a.jpg").write_bytes(FIRST)
    mount = mounts.start(POLICY, empty_store)
    assert _as_gallery(mount.mountpoint, "a.jpg")
    assert mount.stop() == []
    [found] = mount.trail.parent.rglob("found.sqlite")
    found.unlink()
    shutil.rmtree(mount.environment["POLICYFS_KEY_DIR"])
    shutil.rmtree(os.environ["POLICYFS_STATE_DIR"])  # of this process of tests
    (empty_store / "a.jpg").unlink()
    mount.start()  # an empty store: nothing is known of what it had
    (empty_store / "a.jpg").write_bytes(SECOND)
    assert _as_gallery(mount.mountpoint, "a.jpg")
    assert mount.stop() == []
    with mount.as_environment():
        said = policyfs("audit", "verify")
    assert (said.returncode, said) == (0, said)


def test_nothing_of_policyfs_stays_in_a_store_that_it_leaves(mounts: Mounts, empty_store: Path) -> None:
    mount = mounts.start(POLICY, empty_store)
    call_as(CAMERA, (mount / "a.jpg").write_bytes, FIRST)
    assert mount.stop() == []
    assert "trusted.policyfs.owner" in os.listxattr(empty_store / "a.jpg")
    with mount.as_environment():
        assert policyfs("owner", "set", "--recursive", empty_store, "none", "/").returncode == 0
    assert os.listxattr(empty_store / "a.jpg") == []
    assert [name for name in os.listdir(empty_store) if name != "a.jpg"] == []

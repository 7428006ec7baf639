"""Trails of real mounts, replayed and learnt from: `policy replay`, `policy learn`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.processes import call_as
from tests.support.models.policies import FAMILY, HEAD
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts, populate

CAMERA, GALLERY, MAPS, BACKUP, STRANGER = 10010, 10011, 10012, 10020, 10099
POLICY = HEAD + FAMILY


def write(path: Path, data: bytes, flags: int = os.O_CREAT | os.O_EXCL) -> None:
    with fd_of(path, os.O_WRONLY | flags) as fd:
        os.write(fd, data)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def used(module_mounts: Mounts, module_arena: Path, media: dict[str, Path]) -> Mount:
    """A mount on which every app has done something, allowed and refused."""
    store = module_arena / "photos"
    store.mkdir(mode=0o700)
    populate(store, media)
    shutil.copy(store / "Pictures/drawing.png", store / "DCIM/x.png")
    (store / "Pictures/unknown.bin").write_bytes(bytes(range(256)) * 8)
    mount = module_mounts.start(POLICY, store)
    photo = media["photo_with_place.jpg"].read_bytes()
    drawing = (store / "Pictures/drawing.png").read_bytes()
    call_as(CAMERA, write, mount / "DCIM/Camera/taken.jpg", photo)
    call_as(CAMERA, write, mount / "DCIM/Camera/old.jpg", photo)
    call_as(CAMERA, os.rename, mount / "DCIM/Camera/taken.jpg", mount / "DCIM/Camera/kept.jpg")
    call_as(CAMERA, os.chmod, mount / "DCIM/Camera/kept.jpg", 0o640)
    call_as(CAMERA, os.unlink, mount / "DCIM/Camera/old.jpg")
    assert call_as(CAMERA, error, os.unlink, mount / "DCIM/x.png") == "EACCES"
    assert call_as(CAMERA, error, write, mount / "DCIM/Camera/no.jpg", b"text" * 100) == "EPERM"
    for uid in (GALLERY, MAPS, BACKUP):
        call_as(uid, os.listdir, mount / "DCIM")
        call_as(uid, content, mount / "DCIM/Camera/kept.jpg")
        assert call_as(uid, content, mount / "DCIM/x.png") == drawing
    assert call_as(GALLERY, error, content, mount / "Pictures/unknown.bin") == "EACCES"
    assert call_as(GALLERY, error, write, mount / "DCIM/x.png", b"x", 0) == "EACCES"
    assert call_as(GALLERY, error, os.stat, mount / "Android/data/camera") == "ENOENT"
    assert call_as(STRANGER, error, content, mount / "DCIM/x.png") == "ENOENT"
    mount.stop()
    return mount


def replayed(mount: Mount, policy: Path) -> dict[str, Any]:
    said = policyfs("policy", "replay", mount.trail_dir, "--policy", policy, "--json")
    assert said.returncode in (0, 1), said
    return json.loads(said.stdout)


def test_a_policy_replayed_over_its_own_trail_changes_nothing(used: Mount, tmp_path: Path) -> None:
    found = replayed(used, used.policy)
    assert found["changes"] == []
    assert found["undecidable"] == {}
    assert found["by_recorded_answer"] == 0
    assert found["unchanged"] == found["requests"]
    new = tmp_path / "new.yaml"
    new.write_text(POLICY + '  - {id: closed, deny: [read], who: {app: maps}, paths: "/DCIM/**"}\n')
    found = replayed(used, new)["changes"]
    [change] = [one for one in found if (one["app"], one["operation"]) == ("maps", "open")]
    assert (change["direction"], change["after"], change["rules_after"]) == ("narrower", "EACCES", ["closed"])
    assert {example["path"] for example in change["examples"]} <= {"/DCIM/x.png", "/DCIM/Camera/kept.jpg"}


def test_a_proposal_mounts_and_serves_what_was_read(used: Mount, mounts: Mounts, tmp_path: Path) -> None:
    said = policyfs("policy", "learn", used.trail_dir)
    assert said.returncode == 0, said
    policy = tmp_path / "learnt.yaml"
    policy.write_text(said.stdout)
    assert policyfs("policy", "lint", policy).returncode == 0
    assert "camera unlink, once" in said.stdout
    mount = mounts.start(said.stdout, used.store)
    for uid in (GALLERY, MAPS, BACKUP):
        assert call_as(uid, content, mount / "DCIM/x.png")
        assert call_as(uid, content, mount / "DCIM/Camera/kept.jpg")
    assert call_as(CAMERA, error, os.unlink, mount / "DCIM/Camera/kept.jpg") == "EACCES"
    assert call_as(STRANGER, error, os.stat, mount / "DCIM") == "ENOENT"


def test_monitor_mode_shows_what_enforcement_will_refuse(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--monitor")
    call_as(GALLERY, write, mount / "Pictures/new.txt", b"text")
    mount.stop()
    found = replayed(mount, mount.policy)
    assert {change["direction"] for change in found["changes"]} == {"narrower"}
    assert {(change["app"], change["operation"]) for change in found["changes"]} >= {("gallery", "create")}
    said = policyfs("policy", "learn", mount.trail_dir)
    assert said.returncode == 0, said
    assert 'paths: "/Pictures/new.txt"\n    when: {owner: self}' in said.stdout

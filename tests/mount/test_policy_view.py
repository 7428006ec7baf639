"""`policyfs policy view` says of a store what a mount of it does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.processes import call_as, code_of, tool_as
from tests.support.mount.daemons import Mount, policyfs

CAMERA, GALLERY, MAPS, NOBODY = 10010, 10011, 10012, 65533
_NEW = os.O_CREAT | os.O_WRONLY

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
  maps: {uid: 10012, grants: [media.location]}
sets:
  pictures: [image/jpeg, image/png]
rules:
  - {id: look, allow: [see, read], who: {app: [gallery, maps]}, paths: ["/DCIM/**", "/Download/**"]}
  - id: kinds
    allow: [see, read, delete]
    who: {app: gallery}
    paths: "/Pictures/**"
    when: {type: "@pictures"}
  - {id: own, allow: [all], who: {app: camera}, paths: "/DCIM/***", when: {owner: self}}
  - {id: in, allow: [see, create, write], who: {app: gallery}, paths: "/Android/data/{app}/***"}
  - {id: films, allow: [see, read, write, create], who: {app: maps}, paths: "/Movies/***"}
  - {id: films-only, require: {content: ["video/*"]}, paths: "/Movies/**"}
  - id: no-place
    require: {redact: [location]}
    who: {not: {grant: media.location}}
    unless: {owner: self}
  - {id: secret, deny: [all], who: {app: gallery}, paths: "/DCIM/Camera/secret.*"}
"""


def view(mount: Mount, *options: str) -> dict[str, Any]:
    said = policyfs(
        "policy", "view", mount.store, "--policy", mount.policy, "--trail", mount.trail, "--json", "--alike",
        "0", "--samples", "0", *options,
    )  # fmt: skip
    assert said.returncode == 0, said
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def seen_in(mountpoint: str) -> dict[str, dict[str, Any]]:
    """What a caller finds by trying; runs under its uid."""
    found: dict[str, dict[str, Any]] = {}
    todo = ["/"]
    while todo:
        path = todo.pop()
        at = mountpoint + path
        sort = "symlink" if os.path.islink(at) else "directory" if os.path.isdir(at) else "regular"
        found[path] = {"type": sort}
        if sort == "directory":
            todo += [f"{path.rstrip('/')}/{name}" for name in os.listdir(at)]
        elif sort == "regular":
            found[path]["write"] = os.access(at, os.W_OK)
            try:
                found[path]["bytes"] = Path(at).read_bytes()
            except PermissionError:
                found[path]["bytes"] = None
    return found


def compare(mount: Mount, uid: int, said: dict[str, Any]) -> None:
    """Fail unless a caller on the mount finds exactly the tree that the command printed."""
    found = call_as(uid, seen_in, str(mount.mountpoint))
    told = {entry["path"]: entry for entry in said["entries"]}
    types = {path: entry["type"] for path, entry in found.items()}
    assert {path: entry["type"] for path, entry in told.items()} == types
    outcomes = {sample["path"]: sample["outcome"] for sample in said["redaction"]["samples"]}
    for path, entry in told.items():
        if entry["type"] != "regular":
            continue
        assert ("write" in entry["may"]) == found[path]["write"], path
        stored = (mount.store / path.lstrip("/")).read_bytes()
        got = found[path]["bytes"]
        if "read" not in entry["may"] or outcomes.get(path) == "refused":
            assert got is None, path
        elif outcomes.get(path) == "redacted":
            assert got is not None, path
            assert got != stored, path
        else:
            assert got == stored, path


@pytest.fixture
def fuller(store: Path, media: dict[str, Path]) -> Path:
    (store / "DCIM/Camera/secret.jpg").write_bytes(media["photo_with_place.jpg"].read_bytes())
    (store / "DCIM/Camera/unknown.bin").write_bytes(bytes(range(7, 200)) * 9)
    (store / "DCIM/empty").touch()
    (store / "DCIM/link").symlink_to("Camera/a.jpg")
    os.mkfifo(store / "DCIM/fifo")
    (store / "Pictures/photo.jpg").write_bytes(media["photo_with_place.jpg"].read_bytes())
    return store


def test_a_shared_mount_shows_every_caller_the_tree_of_its_view(shared_mount, fuller: Path) -> None:
    mount = shared_mount(POLICY, store=fuller)
    own = f"{mount.mountpoint}/DCIM/own.jpg"
    tool_as(CAMERA, "cp", "/dev/null", own, check=True)
    said = {uid: view(mount, "--uid", str(uid)) for uid in (CAMERA, GALLERY, MAPS, NOBODY)}
    for uid, found in said.items():
        compare(mount, uid, found)
    paths = {entry["path"]: entry for entry in said[CAMERA]["entries"]}
    assert paths["/DCIM/own.jpg"]["owner"] == "camera"
    assert "delete" in paths["/DCIM/own.jpg"]["may"]
    hidden = {one["path"]: one["why"] for one in said[GALLERY]["hidden"]}
    assert hidden["/DCIM/Camera/secret.jpg"] == "denied by secret"
    assert hidden["/DCIM/fifo"] == "a fifo, socket or device: policyfs hides them"
    outcomes = {sample["path"]: sample for sample in said[GALLERY]["redaction"]["samples"]}
    assert outcomes["/DCIM/Camera/a.jpg"]["outcome"] == "redacted"
    assert outcomes["/DCIM/Camera/b.jpg"]["outcome"] == "unchanged"
    assert outcomes["/DCIM/Camera/unknown.bin"]["outcome"] == "refused"


def test_an_app_mount_shows_the_tree_of_its_view(app_mount, fuller: Path) -> None:
    mount = app_mount("gallery", POLICY, store=fuller)
    said = view(mount, "--app", "gallery")
    compare(mount, GALLERY, said)
    made = {entry["path"] for entry in said["entries"] if "create" in entry["may"]}
    directories = [entry["path"] for entry in said["entries"] if entry["type"] == "directory"]
    assert made == {"/Android/data/gallery"}
    assert set(call_as(GALLERY, filled, str(mount.mountpoint), directories)) == made


def filled(mountpoint: str, directories: list[str]) -> list[str]:
    """The directories in which a caller can make a file. Runs under its uid."""
    return [path for path in directories if not code_of(os.open, f"{mountpoint}{path}/x", _NEW)]

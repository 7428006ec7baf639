"""`policyfs owner`: owners of a library that exists, and a backup that takes them along."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from policyfs.errors import EXIT_REFUSED
from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.daemons import Said, policyfs
from tests.support.mount.stores import Mounts, wait_until_closed

CAMERA = 10010
PHOTO = "DCIM/Camera/a.jpg"
ALL = """\
apiVersion: policyfs/v1
kind: Policy
apps: {camera: {uid: 10010}}
rules:
  - {id: all, allow: [all], who: {app: camera}, paths: "/**"}
"""
ODD = b"DCIM/odd \xff\n\x1b[2J.jpg"


@pytest.fixture(autouse=True)
def trail(arena: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trail root of the commands."""
    (arena / "trail").mkdir()
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", str(arena / "trail"))
    return arena / "trail"


def _owner(*words: str | Path) -> Said:
    said = policyfs("owner", *map(str, words))
    assert said.returncode == 0, said
    return said


def test_an_existing_file_gets_an_owner_who_may_then_delete_it(
    mounts: Mounts, store: Path, trail: Path
) -> None:
    policy = Path(__file__).parents[2] / "policies/family-photos.yaml"
    mount = mounts.start(policy, store, "--app", "camera")
    assert call_as(CAMERA, code_of, os.unlink, mount / PHOTO) == "EACCES"
    assert _owner("show", store, f"/{PHOTO}").stdout == f"none\t/{PHOTO}\n"
    said = _owner("set", "--dry-run", store, "camera", f"/{PHOTO}")
    assert said.stdout == f"/{PHOTO}: none -> camera\n"
    assert "1 owner would change" in said.stderr
    assert call_as(CAMERA, code_of, os.unlink, mount / PHOTO) == "EACCES"
    assert not list(trail.glob("*/*.jsonl"))
    assert _owner("set", store, "camera", f"/{PHOTO}").stdout == f"/{PHOTO}: none -> camera\n"
    assert "0 owners changed" in _owner("set", store, "camera", f"/{PHOTO}").stderr
    assert call_as(CAMERA, code_of, os.unlink, mount / PHOTO) == ""
    lines = [json.loads(line) for path in trail.glob("*/*.jsonl") for line in path.read_text().splitlines()]
    changes = [line for line in lines if line["type"] == "owners"]
    assert [(one["done"], one["store"]) for one in changes] == [("set", str(store))] * 2


@pytest.mark.parametrize("options", [(), ("--no-passthrough",)], ids=["passthrough", "mediated"])
def test_a_file_that_an_app_has_open_for_writing_gets_no_owner(
    mounts: Mounts, empty_store: Path, options: tuple[str, ...]
) -> None:
    (empty_store / "a.jpg").write_bytes(b"words")
    (empty_store / "a.jpg").chmod(0o666)
    mount = mounts.start(ALL, empty_store, *options)

    def hold(channel) -> None:
        with (mount / "a.jpg").open("r+b"):
            channel.send("held")
            channel.recv()

    child = start_as(CAMERA, hold)
    child.receive()
    said = policyfs("owner", "set", empty_store, "camera", "/a.jpg")
    assert said.returncode == EXIT_REFUSED
    assert "/a.jpg: a program has this file open for writing" in said.stderr
    assert _owner("show", empty_store, "/a.jpg").stdout == "none\t/a.jpg\n"
    child.send("go")
    child.result()
    wait_until_closed(mount)
    assert _owner("set", empty_store, "camera", "/a.jpg").stdout == "/a.jpg: none -> camera\n"


def test_a_backup_takes_owners_along(store: Path, arena: Path) -> None:
    (store / os.fsdecode(ODD)).write_text("odd")
    (store / "DCIM/link").symlink_to("Camera/b.jpg")
    _owner("set", "--recursive", store, "camera", "/DCIM")
    _owner("set", store, "none", "/DCIM/Camera/b.jpg")
    owners = arena / "owners"
    _owner("export", store, owners)
    assert owners.stat().st_mode & 0o777 == 0o600
    restored = arena / "restored"
    shutil.copytree(store, restored, symlinks=True)
    assert _owner("export", restored).stdout.count("\n") == 1  # a copy has no owners
    said = _owner("import", "--dry-run", restored, owners)
    assert said.stdout.count("none -> camera") == len(owners.read_text().splitlines()) - 1
    assert "\x1b" not in said.stdout
    assert _owner("import", restored, owners).stdout == said.stdout
    assert _owner("export", restored).stdout == owners.read_text()
    assert _owner("show", restored, "/DCIM/Camera/b.jpg", "/DCIM/link").stdout.split()[::2] == [
        "none",
        "camera",
    ]
    assert _owner("import", restored, owners).stdout == ""  # once more changes nothing


def test_no_symlink_is_followed_and_what_is_missing_is_told(store: Path, arena: Path) -> None:
    """Attack A5.4: Have `policyfs owner import` set owners on files outside the store, by a symlink in the
    path
    Guard: policyfs/store/tree.py::Tree.open_below, policyfs/store/tree.py::Tree.open_path
    Without:
    tests/attack/test_links_swapped.py::test_the_daemon_reads_what_only_root_may_where_it_follows
    """
    _owner("set", "-r", store, "camera", "/DCIM/Camera")
    _owner("export", store, arena / "owners")
    outside = arena / "outside"
    shutil.move(store / "DCIM/Camera", outside)
    (store / "DCIM/Camera").symlink_to(outside)
    for path in (outside, *outside.iterdir()):
        os.removexattr(path, "trusted.policyfs.owner")
    said = policyfs("owner", "import", str(store), str(arena / "owners"))
    assert said.returncode == 1
    assert "/DCIM/Camera: its type in the list is directory, but in the store it is symlink" in said.stderr
    assert "/DCIM/Camera/a.jpg: a part of the path is a symlink, or not a directory" in said.stderr
    assert "0 owners changed" in said.stderr
    assert not [name for path in outside.iterdir() for name in os.listxattr(path)]
    (store / "DCIM/Camera").unlink()
    said = policyfs("owner", "import", str(store), str(arena / "owners"))
    assert "/DCIM/Camera/a.jpg: No such file or directory" in said.stderr

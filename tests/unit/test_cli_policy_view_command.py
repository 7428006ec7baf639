"""`policyfs policy view` as a command: golden outputs, bounds, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.machine.documents import CHECKOUT
from tests.support.machine.golden import assert_golden
from tests.support.mount.daemons import Said, policyfs

pytestmark = pytest.mark.usefixtures("forked_launchers")

GOLDEN = CHECKOUT / "tests/unit/policy_views"
POLICY = GOLDEN / "home.yaml"


@pytest.fixture
def store(tmp_path: Path, media: dict[str, Path]) -> Path:
    store = tmp_path / "store"
    for name in ("Photos/2024", "Photos/private", "Albums", "Other"):
        (store / name).mkdir(parents=True)
    shutil.copyfile(media["photo_with_place.jpg"], store / "Photos/2024/beach.jpg")
    shutil.copyfile(media["photo_without_place.jpg"], store / "Photos/2024/room.JPG")
    shutil.copyfile(media["drawing.png"], store / "Albums/cover.png")
    for number in range(5):
        (store / f"Photos/notes-{number}.bin").write_bytes(b"\x01\x02\xff" * 99)
    (store / "Photos/\x1b[31m.bin").write_bytes(b"\x01\x02\xff" * 99)
    (store / "Photos/last").symlink_to("2024/beach.jpg")
    return store


def view(store: Path, *options: str) -> Said:
    return policyfs("policy", "view", store, "--policy", POLICY, *options)


@pytest.mark.parametrize(
    ("golden", "options"),
    [
        ("gallery", ("--app", "gallery")),
        ("few", ("--app", "gallery", "--alike", "2", "--samples", "1", "--most", "9")),
        ("stranger", ("--uid", "65533")),
    ],
)
def test_the_tree_for_people(store: Path, golden: str, options: tuple[str, ...]) -> None:
    said = view(store, *options)
    assert said.returncode == 0, said
    text = said.stdout.replace(str(store), "STORE").replace(str(POLICY), "home.yaml")
    assert_golden(GOLDEN / f"{golden}.txt", text)


def test_as_json(store: Path) -> None:
    said = view(store, "--app", "gallery", "--alike", "2", "--json")
    found = json.loads(said.stdout)
    entries = {entry["path"]: entry for entry in found["entries"]}
    assert entries["/Albums"]["may"] == ["create", "delete"]
    assert entries["/Albums/cover.png"]["view"] == "checked"
    assert entries["/Albums/cover.png"]["rules"] == ["in"]
    assert entries["/"]["bare"]
    assert found["not_looked_at"] == [{"directory": "/Photos", "suffix": ".bin", "files": 4}]
    assert found["redaction"]["files"] == 4, "those that were looked at"
    assert len(found["redaction"]["samples"]) == 4


def test_files_that_were_not_looked_at_are_not_counted_as_seen(store: Path, tmp_path: Path) -> None:
    """The app sees none of these files, because of their kind."""
    for number in range(30):
        shutil.copyfile(store / "Photos/2024/beach.jpg", store / f"Other/{number}.jpg")
    policy = tmp_path / "films.yaml"
    head, _ = POLICY.read_text().split("rules:\n")
    rule = '  - {id: films, allow: [see, read], paths: "/Other/**", when: {type: "video/*"}}\n'
    policy.write_text(f"{head}rules:\n{rule}")
    said = policyfs("policy", "view", store, "--policy", policy, "--app", "gallery")
    assert said.returncode == 0, said
    assert "2 directories, 0 files, 0 symlinks; 20 files not looked at; r read" in said.stdout
    assert "and 20 more *.jpg, not looked at (--alike)" in said.stdout
    said = policyfs("policy", "view", store, "--policy", policy, "--app", "gallery", "--json")
    found = json.loads(said.stdout)
    assert [entry["path"] for entry in found["entries"]] == ["/", "/Other"]
    assert found["not_looked_at"] == [{"directory": "/Other", "suffix": ".jpg", "files": 20}]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "name the caller"),
        (("--app", "nobody"), 2, "the policy has no app 'nobody'; its apps are camera, gallery"),
        (("--app", "gallery", "--most", "-1"), 2, "is not a whole number of at least 0"),
    ],
)
def test_what_goes_wrong(store: Path, options: tuple[str, ...], code: int, message: str) -> None:
    said = view(store, *options)
    assert said.returncode == code
    assert message in said.stderr


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    said = policyfs("policy", "view", tmp_path / "absent", "--policy", POLICY, "--app", "gallery")
    assert said.returncode == 1
    assert "cannot open the store" in said.stderr


def test_without_root_it_says_why_it_needs_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = view(store, "--app", "gallery")
    assert said.returncode == 1
    assert "a view needs root" in said.stderr


def test_names_that_a_rule_nearly_has(store: Path) -> None:
    (store / "albums").mkdir()
    (store / "Albums/cover.png").unlink()
    (store / "Albums").rmdir()
    said = view(store, "--app", "gallery")
    assert 'does not match "/albums" in the store' in said.stdout, said
    assert json.loads(view(store, "--app", "gallery", "--json").stdout)["near_misses"]

"""mv by apps that read files redacted: it changes nothing where a copy would lose the hidden data."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of, tool_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

CURATOR, TIDY, OWN, VIEWER = 10010, 10011, 10012, 10013
UIDS: Final = {"curator": CURATOR, "tidy": TIDY, "own": OWN}
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  curator: {{uid: {CURATOR}, gid: {CURATOR}, grants: [media.location]}}
  tidy: {{uid: {TIDY}, gid: {TIDY}}}
  own: {{uid: {OWN}, gid: {OWN}}}
  viewer: {{uid: {VIEWER}, gid: {VIEWER}}}
rules:
  - {{id: all, allow: [all], who: {{app: [curator, tidy]}}, paths: "/***"}}
  - {{id: look, allow: [see, read], who: {{app: own}}, paths: "/***"}}
  - {{id: mine, allow: [all], who: {{app: own}}, paths: "/***", when: {{owner: self}}}}
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: "/Pictures/***"}}
  - id: places
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    unless: {{owner: self}}
  - {{id: share, require: {{clean: location}}, paths: "/Share/**"}}
  - {{id: nameless, require: {{clean: people}}, paths: "/Nameless/**"}}
  - {{id: no-place, require: {{no: location}}, paths: "/No/**"}}
"""
PHOTO: Final = jpegs.photo_with(jpegs.exif())
PLAIN: Final = jpegs.plain(3, 64)
DIRECTORIES: Final = ("DCIM/trip/day", "DCIM/trip/night", "Pictures", "Share", "Nameless", "No")
PHOTOS: Final = ("DCIM/a.jpg", "DCIM/trip/b.jpg", "DCIM/trip/day/c.jpg")


@pytest.fixture
def store(empty_store: Path) -> Path:
    assert jpegs.leaks(PHOTO)
    for name in DIRECTORIES:
        (empty_store / name).mkdir(parents=True)
    for name in PHOTOS:
        (empty_store / name).write_bytes(PHOTO)
    for path in (empty_store, *empty_store.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    return empty_store


@pytest.fixture(params=first(1, [("shared",), ("app",)]))
def start(request: pytest.FixtureRequest, mounts: Mounts, store: Path) -> Callable[..., Mount]:
    """Starts a mount in which the app of that name can work: the shared one, or one of its own."""

    def started(app: str, policy: str = POLICY) -> Mount:
        return mounts.start(policy, store, *(("--app", app) if request.param == "app" else ()))

    return started


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def moved(mount: Mount, app: str, old: str, new: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    return tool_as(UIDS[app], "mv", *options, mount / old, mount / new)


def refusals(mount: Mount) -> list[dict[str, Any]]:
    return mount.events(operation="rename", decision="deny")


@pytest.mark.parametrize("options", first(2, [((),), (("-n",),), (("-f",),), (("-b",),)]))
@pytest.mark.parametrize("old", ["DCIM/a.jpg", "DCIM/trip"])
def test_mv_by_a_redacted_app_changes_nothing(
    start: Callable[..., Mount], store: Path, old: str, options: tuple[str, ...]
) -> None:
    mount, before = start("tidy"), contents(store)
    said = moved(mount, "tidy", old, "Pictures/moved", *options)
    assert contents(store) == before
    assert said.returncode != 0
    assert b"Permission denied" in said.stderr
    (event,) = refusals(mount)
    assert (event["errno"], event["path"], event["new_path"]) == ("EACCES", f"/{old}", "/Pictures/moved")
    assert event["rules"] == ["places"]
    assert "Exempt the app from places, or let the app delete only its own files" in event["note"]
    # without new rights for anybody, the app moves what it sees redacted
    assert moved(mount, "tidy", old, "DCIM/moved").returncode == 0
    assert sorted(contents(store).values()) == sorted(before.values())


@pytest.mark.parametrize("old", ["DCIM/a.jpg", "DCIM/trip"])
def test_mv_onto_a_file_or_into_a_directory_loses_nothing_either(
    start: Callable[..., Mount], store: Path, old: str
) -> None:
    (store / "Pictures/a.jpg").write_bytes(PLAIN)
    (store / "Pictures/a.jpg").chmod(0o666)
    mount, before = start("tidy"), contents(store)
    assert moved(mount, "tidy", old, "Pictures").returncode != 0
    assert contents(store) == before


@pytest.mark.parametrize("old", ["DCIM/a.jpg", "DCIM/trip"])
def test_mv_by_an_app_that_sees_the_place_moves_every_byte(
    start: Callable[..., Mount], store: Path, old: str
) -> None:
    mount, before = start("curator"), contents(store)
    assert moved(mount, "curator", old, "Pictures/moved").returncode == 0
    assert sorted(contents(store).values()) == sorted(before.values())
    assert not (store / old).exists()


def _make(top: Path) -> Iterator[None]:
    os.mkdir(top / "DCIM/mine")
    for name in ("DCIM/mine.jpg", "DCIM/mine/d.jpg"):
        with open(top / name, "xb") as file:
            file.write(PHOTO)


@pytest.mark.parametrize("old", ["DCIM/mine.jpg", "DCIM/mine"])
def test_mv_of_the_apps_own_files_moves_every_byte(
    start: Callable[..., Mount], store: Path, old: str
) -> None:
    """Of a directory: EXDEV, since a deletion below depends on the owner. Then mv copies its own files."""
    mount = start("own")
    call_as(OWN, _make, mount.mountpoint)
    before = contents(store)
    if old == "DCIM/mine":
        assert call_as(OWN, code_of, os.rename, mount / old, mount / "Pictures/moved") == "EXDEV"
    assert moved(mount, "own", old, "Pictures/moved").returncode == 0
    assert sorted(contents(store).values()) == sorted(before.values())
    assert not (store / old).exists()
    # others' files stay, by the rules alone
    assert moved(mount, "own", "DCIM/a.jpg", "Pictures/a.jpg").returncode != 0
    assert (store / "DCIM/a.jpg").read_bytes() == PHOTO


def test_a_directory_with_files_of_others_keeps_them(start: Callable[..., Mount], store: Path) -> None:
    """mv copies the others' files redacted, and cannot delete the originals."""
    mount = start("own")
    call_as(OWN, _make, mount.mountpoint)
    (store / "DCIM/mine/theirs.jpg").write_bytes(PHOTO)
    (store / "DCIM/mine/theirs.jpg").chmod(0o666)
    moved(mount, "own", "DCIM/mine", "Pictures/moved")
    assert (store / "DCIM/mine/theirs.jpg").read_bytes() == PHOTO
    own = [path for path in (store / "DCIM/mine/d.jpg", store / "Pictures/moved/d.jpg") if path.exists()]
    assert {path.read_bytes() for path in own} == {PHOTO}


@pytest.mark.parametrize("app", ["curator", "tidy"])
def test_where_the_policy_cleans_what_is_hidden_mv_works_for_all(
    start: Callable[..., Mount], store: Path, app: str
) -> None:
    mount = start(app)
    assert call_as(UIDS[app], code_of, os.rename, mount / "DCIM/a.jpg", mount / "Share/a.jpg") == "EXDEV"
    assert moved(mount, app, "DCIM/a.jpg", "Share/a.jpg").returncode == 0
    shared = (store / "Share/a.jpg").read_bytes()
    assert not jpegs.leaks(shared)
    assert moved(mount, app, "DCIM/trip/b.jpg", "Share/b.jpg").returncode == 0
    assert (store / "Share/b.jpg").read_bytes() == shared, "the same bytes, whoever moves them"


def test_where_the_policy_cleans_other_words_mv_loses_no_place(
    start: Callable[..., Mount], store: Path
) -> None:
    mount, before = start("tidy"), contents(store)
    assert moved(mount, "tidy", "DCIM/a.jpg", "Nameless/a.jpg").returncode != 0
    assert contents(store) == before


@pytest.mark.parametrize("app", ["curator", "tidy"])
@pytest.mark.parametrize("cause", ["attributes", "another name"])
def test_a_file_that_cannot_be_moved_as_it_is(
    start: Callable[..., Mount], store: Path, app: str, cause: str
) -> None:
    """mv copies it for an app that sees all of it, and refuses for one that does not."""
    (store / "DCIM/plain.jpg").write_bytes(PLAIN)
    (store / "DCIM/plain.jpg").chmod(0o666)
    if cause == "attributes":
        os.setxattr(store / "DCIM/plain.jpg", "user.note", b"home")
    else:
        os.link(store / "DCIM/plain.jpg", store / "DCIM/other.jpg")
    mount, before = start(app), contents(store)
    said = moved(mount, app, "DCIM/plain.jpg", "No/plain.jpg")
    if app == "curator":
        assert said.returncode == 0, said.stderr
        assert (store / "No/plain.jpg").read_bytes() == PLAIN
        return
    assert b"Permission denied" in said.stderr
    assert contents(store) == before
    (event,) = refusals(mount)
    assert event["rules"] == ["places"], "the file has the content that the new path requires"
    assert "that places hides" in event["note"]


def test_a_link_still_answers_as_a_copy_would_do(start: Callable[..., Mount], store: Path) -> None:
    """Nothing is deleted for a link."""
    mount = start("tidy")
    assert call_as(TIDY, code_of, os.link, mount / "DCIM/a.jpg", mount / "Pictures/a.jpg") == "EXDEV"
    assert (store / "DCIM/a.jpg").read_bytes() == PHOTO


def test_a_dry_run_loses_nothing(mounts: Mounts, store: Path) -> None:
    """--monitor lets an app read and delete without an allow, and hides the place all the same."""
    policy = POLICY.replace("allow: [all], who: {app: own}", "allow: [see, create, write], who: {app: own}")
    mount = mounts.start(policy, store, "--monitor")
    before = contents(store)
    for old in ("DCIM/a.jpg", "DCIM/trip"):
        assert moved(mount, "own", old, "Pictures/moved").returncode != 0
    assert contents(store) == before


@pytest.mark.parametrize("program", ["mv out of the mount", "shutil.move", "cp and rm"])
def test_a_program_that_copies_and_deletes_loses_the_place_on_record(
    start: Callable[..., Mount], store: Path, arena: Path, program: str
) -> None:
    """policyfs refuses a rename; it does not refuse a copy and a deletion that are allowed."""
    mount, outside = start("tidy"), arena / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    old, new = mount / "DCIM/a.jpg", mount / "Pictures/a.jpg"
    if program == "mv out of the mount":
        tool_as(TIDY, "mv", old, outside, check=True)
    elif program == "shutil.move":
        call_as(TIDY, shutil.move, str(old), str(new))
    else:
        tool_as(TIDY, "sh", "-c", 'cp "$0" "$1" && rm "$0"', old, new, check=True)
    assert not (store / "DCIM/a.jpg").exists()
    copy = outside / "a.jpg" if program == "mv out of the mount" else store / "Pictures/a.jpg"
    assert not jpegs.leaks(copy.read_bytes())
    (event,) = wait_for(
        lambda: mount.events(operation="unlink", decision="allow"), "the deletion is on record"
    )
    assert (event["path"], event["size_before"]) == ("/DCIM/a.jpg", len(PHOTO))
    assert len(refusals(mount)) == (program == "shutil.move")


def test_a_store_that_cannot_rename_makes_nobody_lose_anything(
    mounts: Mounts, arena: Path, store: Path
) -> None:
    """An overlay answers EXDEV to the rename of a directory of its lower layer."""
    for name in ("upper", "work", "merged"):
        (arena / name).mkdir()
        (arena / name).chmod(0o777)
    layers = f"lowerdir={store},upperdir={arena}/upper,workdir={arena}/work,redirect_dir=off"
    tool_as(0, "mount", "-t", "overlay", "overlay", "-o", layers, arena / "merged", check=True)
    try:
        assert code_of(os.rename, arena / "merged/DCIM/trip", arena / "merged/DCIM/moved") == "EXDEV"
        mount = mounts.start(POLICY, arena / "merged")
        mount.expected_mediated = True
        said = moved(mount, "tidy", "DCIM/trip", "DCIM/moved")
        assert (arena / "merged/DCIM/trip/day/c.jpg").read_bytes() == PHOTO
        assert b"Permission denied" in said.stderr
        assert [event["rules"] for event in refusals(mount)] == [["places"]]
        assert moved(mount, "curator", "DCIM/trip", "DCIM/moved").returncode == 0
        assert (arena / "merged/DCIM/moved/day/c.jpg").read_bytes() == PHOTO
    finally:
        assert mounts.stop_all() == []
        tool_as(0, "umount", arena / "merged", check=True)

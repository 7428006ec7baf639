"""Share folders: photos without a place get in, photos with one do not, and the trail says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import cameras, jpegs
from tests.support.cameras import Photo
from tests.support.mounts import Mount
from tests.support.processes import call_as, code_of, wait_for

CAMERA = 10010
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: share}}
apps:
  camera: {{uid: {CAMERA}}}
rules:
  - {{id: all, allow: [all], who: {{app: camera}}, paths: "/**"}}
  - {{id: no, require: {{no: [location]}}, paths: "/No/**"}}
  - {{id: strict, require: {{no: [location]}}, paths: "/Strict/**", on_unknown: deny}}
  - {{id: zips, require: {{no: [location]}}, paths: "/Zips/**", raw_types: [application/zip, text/plain]}}
"""
FOLDERS = ("Outside", "No", "Strict", "Zips")
ODD = jpegs.with_segments(jpegs.plain(), jpegs.segment(0xEB, b"what nobody understands"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return cameras.photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def share(mounts, empty_store: Path) -> Mount:
    for name in FOLDERS:
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    return mounts.start(POLICY, empty_store)


def saved(directory: Path, files: dict[str, bytes]) -> dict[str, str]:
    """What came of writing each file, by name."""
    return {name: code_of((directory / name).write_bytes, data) for name, data in files.items()}


def moved(source: Path, target: Path, names: list[str]) -> dict[str, str]:
    return {name: code_of(os.rename, source / name, target / name) for name in names}


def refused(mount: Mount) -> dict[str, str]:
    """What the trail says of each file that was refused, by path."""
    return {event["path"]: event["note"] for event in mount.events(decision="deny")}


def test_twenty_photos_of_five_makers(share: Mount, photos: list[Photo]) -> None:
    without = {photo.name: photo.without for photo in photos}
    placed = {f"placed-{photo.name}": photo.placed for photo in photos}
    said = call_as(CAMERA, saved, share / "No", without)
    assert said == dict.fromkeys(without, "")
    assert call_as(CAMERA, saved, share / "No", placed) == dict.fromkeys(placed, "EPERM")
    wait_for(lambda: sorted(os.listdir(share.store / "No")) == sorted(without), "what was refused to go")
    assert {name: (share.store / "No" / name).read_bytes() for name in without} == without
    wait_for(lambda: set(refused(share)) == {f"/No/{name}" for name in placed}, "the refusals on the trail")
    notes = refused(share).values()
    assert [note for note in notes if not note.startswith("found to tell location: ")] == []
    # moved in, they are told apart likewise
    call_as(CAMERA, saved, share / "Outside", without | placed)
    there = {f"moved-{name}" for name in without}
    for name in there:
        os.rename(share.store / "Outside" / name.removeprefix("moved-"), share.store / "Outside" / name)
    said = call_as(CAMERA, moved, share / "Outside", share / "No", sorted(there | set(placed)))
    assert said == dict.fromkeys(there, "") | dict.fromkeys(placed, "EPERM")
    assert share.events(decision="deny")[-1]["note"].startswith("found to tell location: ")


def test_the_trail_says_what_was_found_and_what_was_not_understood(share: Mount) -> None:
    found = {"a.jpg": jpegs.with_segments(jpegs.plain(), jpegs.segment(0xEB, b"City: Zirbelstadt"))}
    odd, words = {"b.jpg": ODD}, {"c.txt": b"words\n"}
    assert call_as(CAMERA, saved, share / "No", found | odd | words) == {
        "a.jpg": "EPERM", "b.jpg": "", "c.txt": "EPERM"
    }  # fmt: skip
    assert call_as(CAMERA, saved, share / "Strict", odd | {"d.jpg": jpegs.plain()}) == {
        "b.jpg": "EPERM",
        "d.jpg": "",
    }
    wait_for(lambda: len(refused(share)) == 3, "the refusals on the trail")
    assert refused(share) == {
        "/No/a.jpg": "found to tell location, in what is not understood: JPEG APP11 at 6",
        "/No/c.txt": "not understood: text/plain: may say anything; a track or a log of places, too",
        "/Strict/b.jpg": "not understood: JPEG APP11 at 6; the rule denies that",
    }


def test_kinds_that_are_let_through_unread(share: Mount) -> None:
    words = {"a.txt": b"by the lake at 47.804531 north\n" * 3}
    placed = {"b.jpg": jpegs.photo_with(jpegs.exif())}
    assert call_as(CAMERA, saved, share / "Zips", words | placed) == {"a.txt": "", "b.jpg": "EPERM"}
    # where they are not let through, they do not get by way of there
    assert call_as(CAMERA, code_of, os.rename, share / "Zips/a.txt", share / "No/a.txt") == "EPERM"
    assert call_as(CAMERA, saved, share / "Outside", words) == {"a.txt": ""}
    assert call_as(CAMERA, code_of, os.rename, share / "Outside/a.txt", share / "Zips/b.txt") == ""

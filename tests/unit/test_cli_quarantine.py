"""`policyfs quarantine`: a refused file that leaves is on record first, and overwrites no other."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from policyfs.cli import quarantine as command
from policyfs.cli.main import build_parser
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.store.quarantine import NAME, About, Entry, Limits, Quarantine
from policyfs.store.tree import Tree
from tests.support.mount.trail import MOUNT_ID, read_all

WIDE = Limits(1 << 20, 10)


class Place:
    """A store, the quarantine of its mount, and the command line."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.store = root / "trail", root / "store"
        (self.store / "Share").mkdir(parents=True)
        self.directory = self.root / MOUNT_ID
        self.directory.mkdir(parents=True)
        self.kept = Quarantine(self.directory / NAME)
        self._capsys = capsys

    def keep(
        self, data: bytes, path: bytes = b"/Share/a.jpg", app: str = "camera", root: str | None = None
    ) -> Entry:
        """root: None for the identity of the store."""
        if root is None:
            with Tree.open(str(self.store)) as tree:
                root = tree.identity()
        about = About(
            time_ns=1, mount="/mnt", store=str(self.store), app=app, uid=10010, gid=10010, pid=7, path=path,
            mode=0o640, kind="image/jpeg", reason="not understood", rules=("share",),
            root=root,
        )  # fmt: skip
        fd = os.memfd_create("refused")
        try:
            os.write(fd, data)
            return self.kept.keep(fd, about, WIDE)
        finally:
            os.close(fd)

    def run(self, *words: str, code: int = EXIT_OK) -> str:
        parser = build_parser("quarantine")
        action, *rest = words
        args = parser.parse_args(["quarantine", action, "--trail", str(self.root), *rest])
        assert args.run(args) == code
        out, self.err = self._capsys.readouterr()
        return out

    def records(self) -> list[tuple[object, object]]:
        if not any(self.directory.glob("0*")):
            return []
        found = [one.fields for one in read_all(self.directory) if one.kind == "quarantine"]
        return [(fields["done"], fields["id"]) for fields in found]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    return Place(tmp_path, capsys)


def test_files_are_listed_by_app_and_no_text_of_theirs_reaches_the_terminal(place: Place) -> None:
    assert "no refused file" in place.run("list")
    one = place.keep(b"one", b"/Share/\x1b[2J.jpg")
    other = place.keep(b"other", app="gallery")
    out = place.run("list")
    assert one.id in out
    assert other.id in out
    assert "\x1b" not in out + place.run("show", one.id)
    [line] = place.run("list", "--json", "--app", "gallery").splitlines()
    assert json.loads(line)["id"] == other.id
    assert json.loads(place.run("show", "--json", one.id))["reason"] == "not understood"


def test_a_released_file_is_in_the_store_under_its_name_and_on_record(place: Place) -> None:
    entry = place.keep(b"bytes")
    assert str(place.store / "Share/a.jpg") in place.run("release", entry.id)
    assert (place.store / "Share/a.jpg").read_bytes() == b"bytes"
    assert place.kept.entries() == []
    assert place.records() == [("release", entry.id)]


def test_a_file_that_is_there_is_never_overwritten(place: Place, tmp_path: Path) -> None:
    entry = place.keep(b"bytes")
    out = tmp_path / "out"
    for there, words in ((place.store / "Share/a.jpg", []), (out, ["--to", str(out)])):
        there.write_bytes(b"there before")
        with pytest.raises(PolicyfsError, match="exists already"):
            place.run("release", *words, entry.id)
        assert there.read_bytes() == b"there before"
    assert place.kept.entries() == [entry]


@pytest.mark.mount
@pytest.mark.parametrize("there", ["nothing", "another store", "the mountpoint of an old entry"])
def test_a_store_that_is_not_mounted_gets_no_file(place: Place, there: str) -> None:
    """The kept copy is the only one."""
    subprocess.run(["mount", "-t", "tmpfs", "none", place.store], check=True)
    entry = place.keep(b"bytes", b"/a.jpg", root="" if "old" in there else None)
    subprocess.run(["umount", place.store], check=True)
    if "old" in there:
        (place.store / "Share").rmdir()
    if there == "another store":
        subprocess.run(["mount", "-t", "tmpfs", "none", place.store], check=True)
    try:
        with pytest.raises(PolicyfsError, match="not mounted, or it is another store"):
            place.run("release", entry.id)
        assert not (place.store / "a.jpg").exists()
    finally:
        if place.store.is_mount():
            subprocess.run(["umount", place.store], check=True)
    assert place.kept.entries() == [entry]


def test_an_old_entry_is_released_into_a_store_with_files(place: Place) -> None:
    place.run("release", place.keep(b"bytes", root="").id)
    assert (place.store / "Share/a.jpg").read_bytes() == b"bytes"


@pytest.mark.parametrize("swapped", [False, True])
def test_a_directory_that_is_gone_or_a_link_is_told(place: Place, tmp_path: Path, swapped: bool) -> None:
    entry = place.keep(b"bytes")
    (place.store / "Share").rmdir()
    if swapped:
        (tmp_path / "elsewhere").mkdir()
        (place.store / "Share").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PolicyfsError, match="does not exist any more"):
        place.run("release", entry.id)
    assert place.kept.entries() == [entry]
    assert not (tmp_path / "elsewhere/a.jpg").exists()


def test_a_file_for_root_only_is_written_elsewhere(place: Place, tmp_path: Path) -> None:
    entry = place.keep(b"bytes")
    place.run("release", "--to", str(tmp_path / "out"), entry.id)
    assert (tmp_path / "out").read_bytes() == b"bytes"
    assert not (tmp_path / "out").stat().st_mode & 0o077
    assert not (place.store / "Share/a.jpg").exists()


def test_files_are_dropped_and_what_is_not_there_is_told(place: Place) -> None:
    one, other = place.keep(b"one"), place.keep(b"other")
    out = place.run("drop", one.id, one.id, "unknown", code=EXIT_REFUSED)
    assert out == f"{one.id} is dropped\n"
    assert "unknown" in place.err
    assert place.kept.entries() == [other]
    assert place.records() == [("drop", one.id)]


def test_what_another_command_drops_meanwhile_keeps_no_other_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = place.keep(b"one"), place.keep(b"other")
    drop = Quarantine.drop

    def twice(kept: Quarantine, entry: Entry) -> None:
        drop(kept, entry)
        if entry == one:
            drop(kept, entry)

    monkeypatch.setattr(Quarantine, "drop", twice)
    assert place.run("drop", one.id, other.id, code=EXIT_REFUSED) == f"{other.id} is dropped\n"
    assert place.err == f"policyfs: {one.id} was removed meanwhile\n"
    assert place.kept.entries() == []


def test_without_a_record_nothing_leaves(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_record(*_: object, **__: object) -> None:
        raise PolicyfsError("no room")

    entry = place.keep(b"bytes")
    monkeypatch.setattr(command, "record", no_record)
    with pytest.raises(PolicyfsError, match="no room"):
        place.run("release", entry.id)
    place.run("drop", entry.id, code=EXIT_REFUSED)
    assert place.kept.entries() == [entry]
    assert not (place.store / "Share/a.jpg").exists()


def test_a_file_that_two_mounts_keep_is_not_guessed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = place.keep(b"bytes")
    twin = Quarantine(place.root / "fedcba9876543210" / NAME)
    monkeypatch.setattr(command, "_places", lambda root: [place.kept, place.kept, twin])
    with pytest.raises(PolicyfsError, match="several mounts keep"):
        place.run("release", entry.id)


def test_an_incomplete_file_can_only_be_dropped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(place.keep(b"bytes"), about=None, why="cut off")
    monkeypatch.setattr(Quarantine, "entries", lambda self: [entry] if self.directory.exists() else [])
    assert "incomplete: cut off" in place.run("list")
    assert json.loads(place.run("list", "--json"))["incomplete"] == "cut off"
    for action in ("show", "release"):
        with pytest.raises(PolicyfsError, match="you can only drop this file"):
            place.run(action, entry.id)
    assert "is dropped" in place.run("drop", entry.id)


def test_no_trail_is_told(tmp_path: Path, place: Place) -> None:
    place.root = tmp_path / "nowhere"
    with pytest.raises(PolicyfsError, match="there is no trail"):
        place.run("list")

"""policyfs inspect, as a command: what is found, and what an app reads instead."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from policyfs.cli import inspect as command
from policyfs.domain import Patch
from policyfs.errors import PolicyfsError
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.core.values import Outcome, Plan, RemovedPart
from policyfs.redact.plan import locate
from tests.support.mount.daemons import policyfs
from tests.support.samples import jpegs

pytestmark = pytest.mark.usefixtures("forked_launchers")

LOCATION = frozenset({"location"})
BROKEN = jpegs.exif_segment(b"II*\0\xff\xff\xff\xff" + b"47.80453 N" * 4)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpegs.photo_with(jpegs.exif()))
    return path


def inspect(*arguments: str | Path):
    return policyfs("inspect", *arguments)


def test_what_is_found_is_shown_with_its_place(photo: Path) -> None:
    said = inspect(photo, "--redact", "location")
    assert said.returncode == 1, said
    first, second, head, *rows, total = said.stdout.splitlines()
    assert first == f"{photo}: image/jpeg, {photo.stat().st_size:,} bytes; hidden: location"
    assert "the size stays" in second
    assert head.split() == ["offset", "bytes", "tells", "where", "holds", "reads", "as"]
    assert any("EXIF IFD:GPSInfo" in row for row in rows)
    assert total == f"in all: location {len(rows)}"


def test_as_json(photo: Path) -> None:
    said = inspect(photo, "--redact", "location", "--json")
    found = json.loads(said.stdout)
    assert (found["kind"], found["outcome"], found["redact"]) == ("image/jpeg", "patch", ["location"])
    (finding,) = found["findings"]
    assert (finding["container"], finding["tells"], finding["understood"]) == ("EXIF", ["location"], True)
    data = photo.read_bytes()
    plan = locate("image/jpeg", LOCATION, MemorySource(data))
    assert found["ranges"] == [[patch.offset, patch.size] for patch in plan.patches]


def test_the_view_is_saved_and_clean(photo: Path) -> None:
    out = photo.with_name("out.jpg")
    assert inspect(photo, "--redact", "location", "--write", out).returncode == 0
    data = photo.read_bytes()
    assert out.read_bytes() == apply(data, locate("image/jpeg", LOCATION, MemorySource(data)).patches)
    said = inspect(out, "--redact", "location")
    assert (said.returncode, "reads the unchanged file" in said.stdout) == (0, True)


def test_nothing_is_overwritten(photo: Path) -> None:
    before = photo.read_bytes()
    said = inspect(photo, "--redact", "location", "--write", photo)
    assert said.returncode == 1
    assert said.stderr == f"policyfs: cannot write {photo}: File exists\n"
    assert photo.read_bytes() == before


def _write_in_this_process(photo: Path, out: Path) -> int:
    words = {"redact": "location", "on_unknown": "zero", "json": False}
    return command.run_inspect(argparse.Namespace(path=str(photo), write=str(out), **words))


@pytest.mark.parametrize("shorter", [False, True])
def test_a_file_that_changes_after_the_plan_is_not_saved(
    photo: Path, monkeypatch: pytest.MonkeyPatch, shorter: bool
) -> None:
    plan_for = command.plan_for

    def changed_after(fd: int, words: frozenset[str]):
        found = plan_for(fd, words)
        data = photo.read_bytes()
        with photo.open("r+b") as file:  # in place: the same inode and, if not shorter, the same size
            file.write(b"another " + data[8:])
            file.truncate(len(data) - shorter)
        return found

    monkeypatch.setattr(command, "plan_for", changed_after)
    with pytest.raises(PolicyfsError, match="another program changed the file: try again"):
        _write_in_this_process(photo, photo.with_name("out.jpg"))
    assert os.listdir(photo.parent) == ["a.jpg"]


def test_a_file_that_no_app_can_open(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("some words\n")
    said = inspect(path, "--redact", "location", "--write", tmp_path / "out")
    assert said.returncode == 1
    assert "an app cannot open this file (EACCES): text/plain" in said.stdout
    assert "wrote nothing" in said.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_understood(photo: Path) -> None:
    photo.write_bytes(jpegs.with_segments(jpegs.plain(), BROKEN))
    (finding,) = json.loads(inspect(photo, "--redact", "location", "--json").stdout)["findings"]
    assert finding["understood"] is False
    said = inspect(photo, "--redact", "location", "--on-unknown", "deny")
    assert " is not understood; the rule denies such files (on_unknown: deny)" in said.stdout


@pytest.mark.parametrize("refused", [False, True])
def test_no_text_of_the_file_reaches_the_terminal(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: bool
) -> None:
    evil = "\x1b]0;title\x07\n\u202e"
    finding = RemovedPart(2, 5, f"box {evil}", f"tag {evil}", f"location {evil}")
    outcome = Outcome.REFUSE if refused else Outcome.PATCH
    plan = Plan(outcome, (Patch(2, zeros=5),), (finding,), f"reason {evil}")
    monkeypatch.setattr(command, "plan_for", lambda *_: (f"kind {evil}", plan))
    named = photo.rename(photo.with_name(evil))
    said = ""
    if refused:
        with pytest.raises(PolicyfsError, match="cannot open this file") as raised:
            _write_in_this_process(named, named.with_name("out.jpg"))
        said = str(raised.value)
    else:
        _write_in_this_process(named, named.with_name("out.jpg"))
    said += capsys.readouterr().out
    assert {char for char in said if not char.isprintable()} == {"\n"}
    assert len(said.splitlines()) == (2 if refused else 5)
    assert "\\x1b]0;title\\x07" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--redact", "faces"], "--redact takes some of"),
        (["--redact", ""], "--redact takes some of"),
    ],
)
def test_words_that_hide_nothing_known(photo: Path, arguments: list[str], words: str) -> None:
    said = inspect(photo, *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert words in said.stderr


@pytest.mark.parametrize(("name", "why"), [("missing.jpg", "No such file"), (".", "is not a regular file")])
def test_what_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    said = inspect(tmp_path / name)
    assert said.returncode == 1
    assert why in said.stderr

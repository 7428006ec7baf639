"""The commit of a layer, into a plain directory in place of a mount."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from pathlib import Path

import pytest

from policyfs.cli.layers import replay
from policyfs.cli.layers.changes import read_states, record_states
from policyfs.cli.layers.replay import Replay


class Layer:
    """A layer above a directory: upper and view are their paths."""

    def __init__(self, place: Path) -> None:
        self.upper, self.view, self.journal = place / "upper", place / "view", place / "journal"
        self.upper.mkdir()
        self.view.mkdir()
        self.journal.touch()
        self.begun_ns = time.time_ns() + 10**9
        self.states: dict = {}

    def gone(self, name: str) -> None:
        os.mknod(self.upper / name, stat.S_IFCHR, os.makedev(0, 0))

    def record(self) -> None:
        with (self.journal.parent / "states").open("w+") as text:
            upper, view = (os.open(path, os.O_RDONLY) for path in (self.upper, self.view))
            record_states(upper, view, {}, self.begun_ns, lambda _path: (), text)
            text.seek(0)
            self.states = read_states(text)
            os.close(upper)
            os.close(view)

    def commit(self, wanted=lambda path: True) -> dict[str, str]:
        fds = [os.open(path, os.O_RDONLY) for path in (self.upper, self.view, self.view)]
        journal = os.open(self.journal, os.O_RDWR)
        try:
            done = Replay(*fds, journal, self.states, self.begun_ns, lambda _path: ()).run(wanted)
            return {os.fsdecode(path): kept for path, kept in done}
        finally:
            for fd in (*fds, journal):
                os.close(fd)


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return Layer(tmp_path)


def test_a_file_is_changed_in_place_if_it_was_copied_and_replaced_if_it_is_new(layer: Layer) -> None:
    for name in ("copied", "new"):
        (layer.view / name).write_text("old")
        os.link(layer.view / name, layer.view / f"{name}2")
        (layer.upper / name).write_text("changed")
    os.setxattr(layer.upper / "copied", "user.overlay.origin", b"")
    layer.record()
    assert layer.commit() == {"copied": "", "new": ""}
    texts = [(layer.view / name).read_text() for name in ("copied2", "new2", "new")]
    assert texts == ["changed", "old", "changed"]
    assert os.listdir(layer.upper) == []
    assert sorted(os.listdir(layer.view)) == ["copied", "copied2", "new", "new2"]


def test_what_is_so_already_is_no_change(layer: Layer) -> None:
    for top in (layer.upper, layer.view):
        (top / "d").mkdir()
        (top / "d/same").write_text("x")
        os.utime(top / "d/same", (5, 5))
        (top / "l").symlink_to("x")
    layer.gone("never")
    layer.record()
    assert layer.commit() == {}
    assert os.listdir(layer.upper) == []


def test_types_change_and_opaque_directories_hide_what_was_there(layer: Layer) -> None:
    (layer.view / "file").write_text("x")
    (layer.view / "directory/in").mkdir(parents=True)
    (layer.view / "opaque/old").mkdir(parents=True)
    (layer.view / "opaque/kept").write_text("x")
    (layer.upper / "file").mkdir()
    (layer.upper / "file/in").write_text("y")
    (layer.upper / "directory").symlink_to("x")
    (layer.upper / "opaque").mkdir()
    (layer.upper / "opaque/kept").write_text("y")
    os.setxattr(layer.upper / "opaque", "user.overlay.opaque", b"y")
    layer.record()
    assert set(layer.commit().values()) == {""}
    assert (layer.view / "file/in").read_text() == "y"
    assert os.readlink(layer.view / "directory") == "x"
    assert os.listdir(layer.view / "opaque") == ["kept"]
    assert os.listdir(layer.upper) == []


def test_what_cannot_be_done_stays_with_its_reason(layer: Layer) -> None:
    os.mknod(layer.upper / "device", stat.S_IFCHR, os.makedev(1, 3))
    (layer.upper / "none").mkdir()
    (layer.upper / "fine").write_text("x")
    layer.record()
    (layer.view / "none").write_text("others")
    told = layer.commit()
    assert told == {
        "device": "fifos, sockets and devices are not committed", "fine": "",
        "none": "others have changed it since the command began",
    }  # fmt: skip
    assert sorted(os.listdir(layer.upper)) == ["device", "none"]


def test_a_change_before_the_states_were_recorded_is_seen_too(layer: Layer) -> None:
    layer.begun_ns = time.time_ns() - 10**9
    (layer.view / "file").write_text("others")
    (layer.view / "directory").mkdir()
    (layer.view / "directory/file").write_text("others")
    (layer.upper / "file").write_text("mine")
    layer.gone("directory")
    layer.record()
    assert layer.commit() == {
        "directory": "others have changed directory/file since the command began",
        "file": "others have changed it since the command began",
    }
    assert (layer.view / "directory/file").read_text() == "others"


def test_a_full_disk_empties_no_file(layer: Layer, monkeypatch) -> None:
    (layer.view / "file").write_text("old")
    (layer.upper / "file").write_text("new and longer")
    layer.record()
    monkeypatch.setattr(replay, "_free_bytes", lambda _: 0)
    assert layer.commit() == {"file": os.strerror(errno.ENOSPC)}
    assert (layer.view / "file").read_text() == "old"


def test_paths_of_an_interrupted_batch_are_made_again(layer: Layer) -> None:
    for name in ("half", "other"):
        (layer.view / name).write_text("old")
        (layer.upper / name).write_text("new")
    layer.record()
    for name in ("half", "other"):
        (layer.view / name).write_text("ne")
    layer.journal.write_text(json.dumps(["half"]))
    assert layer.commit() == {"half": "", "other": "others have changed it since the command began"}
    assert (layer.view / "half").read_text() == "new"
    assert layer.journal.read_text() == "[]"


def test_a_cut_journal_was_not_acted_on(layer: Layer) -> None:
    layer.journal.write_text('["half", "oth')
    with layer.journal.open("rb") as journal:
        assert replay.read_journal(journal.fileno()) == []


def test_holes_stay_holes_and_directories_keep_their_times(layer: Layer) -> None:
    (layer.upper / "d").mkdir()
    with (layer.upper / "d/holes").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x")
        file.truncate(1 << 30)
    os.utime(layer.upper / "d", (5, 5))
    layer.record()
    assert layer.commit() == {"d": "", "d/holes": ""}
    status = (layer.view / "d/holes").stat()
    assert status.st_size == 1 << 30
    assert status.st_blocks < 100
    assert (layer.view / "d").stat().st_mtime == 5

"""The files of `policyfs init`: all or none are written, over none."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from policyfs.cli.owners.owner import set_owner
from policyfs.cli.setup.compose_override import Edit, Place
from policyfs.cli.setup.made_files import Override, undo, write_all
from policyfs.errors import EXIT_OK, PolicyfsError
from policyfs.trail.lines.table import shown


def test_all_or_none(tmp_path: Path) -> None:
    files = {str(tmp_path / f"to/{name}"): f"the text of {name}" for name in "ab"}
    listed = str(tmp_path / "to/x.init")
    too_long = {**files, str(tmp_path / f"to/{'x' * 300}"): ""}
    with pytest.raises(PolicyfsError, match="File name too long"):
        write_all(too_long, listed)
    assert os.listdir(tmp_path / "to") == []
    (tmp_path / "to/b").write_text("mine")
    with pytest.raises(PolicyfsError, match="b is there already"):
        write_all(files, listed)
    assert os.listdir(tmp_path / "to") == ["b"]
    (tmp_path / "to/b").unlink()
    write_all(files, listed)
    (tmp_path / "to/a").unlink()
    assert undo(listed) == EXIT_OK
    assert os.listdir(tmp_path / "to") == []
    with pytest.raises(PolicyfsError, match="it is a file NAME"):
        undo(listed)


def own(store: Path, listed: str, *paths: str) -> None:
    """Set owners, and note them in a list, as older versions did."""
    set_owner(argparse.Namespace(
        store=str(store), app="gallery", paths=paths, recursive=False, dry_run=False, trail=None
    ))  # fmt: skip
    made = json.loads(Path(listed).read_text())
    del made["edited"]  # younger than owners
    Path(listed).write_text(json.dumps({**made, "owned": [[str(store), *paths]]}))


def test_owners_go_again(tmp_path: Path) -> None:
    """Also beside a file that is gone."""
    store, listed = tmp_path / "the store", str(tmp_path / "to/x.init")
    store.mkdir(mode=0o700)
    marks = [store / name for name in ("one's", "two")]
    for mark in marks:
        mark.touch()
    write_all({str(tmp_path / "to/a"): "text"}, listed)
    own(store, listed, "/one's", "/two")
    assert [os.listxattr(mark) for mark in marks] == [["trusted.policyfs.owner"]] * 2
    marks[1].unlink()
    assert undo(listed) == EXIT_OK
    assert os.listxattr(marks[0]) == os.listdir(tmp_path / "to") == []


@pytest.mark.parametrize("is_old", [False, True])
def test_names_with_newlines_are_undone(
    tmp_path: Path, is_old: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """is_old: from a list of lines, as older versions wrote it."""
    store, to = tmp_path / "the\nstore", tmp_path / f"to\n{'0' * 64}\x1b[2J"
    store.mkdir(mode=0o700)
    (store / "a\u2028\nmark").touch()
    made, listed = to / "a", to / "x.init"
    write_all({str(made): "text"}, str(listed))
    own(store, str(listed), "/a\u2028\nmark")
    if is_old:
        command = shlex.join(["policyfs", "owner", "set", str(store), "none", "/a\u2028\nmark"])
        listed.write_text(f"{sha256(b'text').hexdigest()}  {made}\n# {command}\n")
    assert os.listxattr(store / "a\u2028\nmark") == ["trusted.policyfs.owner"]
    assert undo(str(listed)) == EXIT_OK
    assert os.listxattr(store / "a\u2028\nmark") == os.listdir(to) == []
    assert f"removed {shown(str(made))}\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["/srv/media none '/one", "/srv/media none"])
def test_a_command_that_was_edited_badly_removes_nothing(tmp_path: Path, words: str) -> None:
    """A quote without its end, and a command without files."""
    made, listed = tmp_path / "a", tmp_path / "x.init"
    made.write_text("text")
    listed.write_text(f"{sha256(b'text').hexdigest()}  {made}\n# policyfs owner set {words}\n")
    with pytest.raises(PolicyfsError, match="is no list of `policyfs init`"):
        undo(str(listed))
    assert made.exists()
    assert listed.exists()


@pytest.mark.parametrize("text", ["kind: Policy\n", "", "{}", '{"files": {"/a": 1}, "owned": []}', '{"a"'])
@pytest.mark.parametrize("name", ["media.yaml", "other.init"])
def test_another_file_than_a_list_is_not_removed(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PolicyfsError, match="is no list of `policyfs init`"):
        undo(str(tmp_path / name))
    assert (tmp_path / name).exists()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A compose project of a user, whom root works for."""
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "compose.yaml").touch()
    os.chown(directory, 1000, 1000)
    for above in (tmp_path, *tmp_path.parents):
        if os.stat(above).st_uid == 0 and not os.stat(above).st_mode & 0o001:
            above.chmod(os.stat(above).st_mode | 0o011)
    return directory


def _override(app: Path, edit: Edit | None = None) -> Override:
    return Override(str(app / "compose.yaml"), Place(str(app / "o.yml"), edit, is_read=True))


def test_what_is_written_for_a_user_is_the_users(app: Path, tmp_path: Path) -> None:
    own, listed, env = app / "o.yml", str(tmp_path / "a.init"), app / ".env"
    edit = Edit(str(env), "", "COMPOSE_FILE=compose.yaml:o.yml", "file")
    write_all({str(own): "text"}, listed, _override(app, edit))
    assert (own.stat().st_uid, own.stat().st_mode & 0o777, env.stat().st_uid) == (1000, 0o644, 1000)
    assert undo(listed) == 0
    assert sorted(os.listdir(app)) == ["compose.yaml"]


def test_a_directory_that_its_user_exchanges_leads_root_nowhere(app: Path, tmp_path: Path) -> None:
    other, listed = tmp_path / "root", str(tmp_path / "a.init")
    other.mkdir()
    app.rename(tmp_path / "moved")
    app.symlink_to(other)
    with pytest.raises(PolicyfsError, match="a symlink on the way is not followed"):
        write_all({str(app / "o.yml"): "text"}, listed, _override(app))
    assert os.listdir(other) == []


@pytest.mark.parametrize("kind", [os.symlink, os.link])
def test_a_file_that_its_user_exchanges_gives_no_right_of_root(
    app: Path, tmp_path: Path, kind: Callable[[Path, Path], None]
) -> None:
    """By a link to a file of root with set-id bits, beside which the new bytes come."""
    tool = tmp_path / "tool"
    tool.write_text("COMPOSE_FILE=compose.yaml\n")
    tool.chmod(0o4755)
    kind(tool, app / ".env")
    edit = Edit(str(app / ".env"), "COMPOSE_FILE=compose.yaml", "COMPOSE_FILE=compose.yaml:o.yml")
    with contextlib.suppress(PolicyfsError):
        write_all({str(app / "o.yml"): "text"}, str(tmp_path / "a.init"), _override(app, edit))
    assert (tool.read_text(), stat.S_IMODE(tool.stat().st_mode)) == ("COMPOSE_FILE=compose.yaml\n", 0o4755)
    if not (app / ".env").is_symlink() and (app / ".env").stat().st_ino != tool.stat().st_ino:
        assert ((app / ".env").stat().st_uid, (app / ".env").stat().st_mode & 0o7000) == (1000, 0)

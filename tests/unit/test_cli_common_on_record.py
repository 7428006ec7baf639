"""Records of commands that work without a daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.cli.common.on_record import existing, record, starter, trail_root
from policyfs.errors import PolicyfsError
from policyfs.journal.files.directories import KEYS, TRAIL, key_directory
from policyfs.journal.writing import recorders
from tests.support.mount.trail import MOUNT_ID, kinds, read_all, verified


def test_a_directory_is_the_given_one_else_the_environments_else_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("POLICYFS_TRAIL_DIR", "POLICYFS_KEY_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert (trail_root(), key_directory()) == (TRAIL, Path(KEYS))
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", "/trail")
    monkeypatch.setenv("POLICYFS_KEY_DIR", "/keys")
    assert (trail_root(), key_directory()) == ("/trail", Path("/keys"))
    assert trail_root("/given") == "/given"


def test_the_nearest_directory_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert existing(str(tmp_path)) == tmp_path
    assert existing(str(tmp_path / "a/b/c")) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert existing("a/b") == Path(".")


def test_who_gave_the_command_is_the_parent_process() -> None:
    found = starter("policyfs owner set")
    assert (found["cause"], found["how"]) == ("command", "policyfs owner set")
    assert (found["pid"], found["uid"]) == (os.getppid(), os.getuid())
    assert found.get("login") != 0xFFFFFFFF, "nobody"


def test_a_record_and_its_end_are_on_a_whole_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(tmp_path / "keys"))
    trail = tmp_path / "trail"
    trail.mkdir()
    end = starter("policyfs owner set")
    record(trail, MOUNT_ID, "owners", {"done": "set", "store": "/srv"}, end=end)
    record(trail, MOUNT_ID, "owners", {"done": "import", "store": "/srv"}, end=end)
    found = read_all(trail / MOUNT_ID)
    assert [one.fields["done"] for one in found if one.kind == "owners"] == ["set", "import"]
    assert kinds(trail / MOUNT_ID).count("close") == 2
    assert verified(trail / MOUNT_ID).whole


def test_what_is_not_on_record_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        failing, last_error = True, "no room"

        def tell(self, kind: str, fields: dict[str, object]) -> None: ...
        def close(self, end: dict[str, object]) -> None: ...
        def stats(self) -> Failing:
            return self

    monkeypatch.setattr(recorders, "open_journal", lambda *_, **__: (Failing(), None))
    with pytest.raises(PolicyfsError, match="no room"):
        record(tmp_path, MOUNT_ID, "owners", {}, end={})

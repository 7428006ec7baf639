"""Parts of live explanations; tests/mount/test_policy_explain_live.py has whole ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.cli.explain_live import Layer, LiveFile, is_mount, notes, process, told, user_of
from policyfs.domain import Facts, FileType
from policyfs.errors import PolicyfsError, UsageError


def test_the_user_of_a_process() -> None:
    assert process(os.getpid()).uid == os.geteuid()
    with pytest.raises(PolicyfsError, match="there is no process 999999999"):
        process(999999999)


def test_the_user_of_a_mount() -> None:
    app = {"admits": {"any": False, "uid": 10010, "gids": [10020]}}
    assert user_of(None, None, app) == (10010, 10020, (10020,))
    assert user_of(7, None, app) == (7, 7, (7,))
    with pytest.raises(UsageError, match="name the caller"):
        user_of(None, None, {"admits": {"any": True, "uid": None, "gids": []}})


def test_what_is_said_of_a_file(tmp_path: Path) -> None:
    absent = LiveFile(b"/a", None, Facts())
    status = {"store": str(tmp_path), "passthrough": {"why_not": "switched off (--no-passthrough)"}}
    assert list(notes(status, absent)) == [f"  live: {tmp_path} has no /a"]
    assert absent.ftype is FileType.REGULAR
    assert told(None) == "  refused by: nothing"
    assert told(Layer("mode bits", 13, "why")) == "  refused by: mode bits (EACCES): why"


def test_a_directory_is_no_mount(tmp_path: Path) -> None:
    assert not is_mount(str(tmp_path))
    assert not is_mount(str(tmp_path / "absent"))



"""Directories of kept files: as the environment says, root's, or the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.journal.files.directories import cache_directory, key_directory


@pytest.mark.parametrize(
    ("function", "variable", "of_root", "home_variable", "home"),
    [
        (
            key_directory,
            "POLICYFS_KEY_DIR",
            "/var/lib/policyfs/audit-keys",
            "XDG_STATE_HOME",
            ".local/state",
        ),
        (cache_directory, "POLICYFS_CACHE_DIR", "/var/cache/policyfs", "XDG_CACHE_HOME", ".cache"),
    ],
)
def test_places(
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[[], Path],
    variable: str,
    of_root: str,
    home_variable: str,
    home: str,
) -> None:
    monkeypatch.setenv(variable, "/x")
    assert function() == Path("/x")
    monkeypatch.delenv(variable)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert function() == Path(of_root)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv(home_variable, "/home/a/own")
    assert function() == Path("/home/a/own/policyfs")
    monkeypatch.delenv(home_variable)
    monkeypatch.setenv("HOME", "/home/a")
    assert function() == Path("/home/a") / home / "policyfs"

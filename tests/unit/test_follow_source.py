"""Access to a trail by its paths, also without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.follow.source import DirectAccess


def test_no_trail_is_an_empty_one(tmp_path: Path) -> None:
    assert DirectAccess(tmp_path / "none").chains() == {}
    (tmp_path / "empty").mkdir()
    assert DirectAccess(tmp_path).chains() == {}
    with pytest.raises(FileNotFoundError):
        DirectAccess(tmp_path).open("x", "00000001-20260301T080000Z.jsonl")

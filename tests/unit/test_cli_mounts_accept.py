"""`policyfs accept`."""

from __future__ import annotations

from pathlib import Path

from tests.support.mount.daemons import policyfs


def test_what_is_accepted_is_told(tmp_path: Path) -> None:
    (tmp_path / "photo").touch()
    told = policyfs("accept", tmp_path).stdout
    assert told == f"{tmp_path}: no readable record of an earlier mount: accepted\n"
    assert policyfs("accept", tmp_path).stdout == f"{tmp_path}: no difference: accepted\n"
    (tmp_path / "photo").unlink()
    assert policyfs("accept", tmp_path).stdout == f"{tmp_path}: it is empty, and it had files: accepted\n"
    assert policyfs("accept", tmp_path / "none").returncode == 1

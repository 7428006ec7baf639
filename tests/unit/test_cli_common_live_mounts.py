"""Mounts that are in use: names of mountpoints, and parts of a status."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.common.live_mounts import known, part
from policyfs.errors import PolicyfsError


def test_a_mountpoint_is_known_by_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to("one")
    assert known(str(tmp_path / "link")) == str(tmp_path / "one")
    with pytest.raises(PolicyfsError):
        known("/nowhere/below")


def test_a_part_of_another_version_is_empty() -> None:
    assert part({"a": {"b": 1}, "c": [1]}, "a") == {"b": 1}
    assert part({"c": [1]}, "c") == part({}, "a") == {}

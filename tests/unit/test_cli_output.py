"""Files that commands write."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.output import write_private
from policyfs.errors import PolicyfsError


def test_a_file_is_replaced_as_a_whole_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")
    path.chmod(0o644)
    write_private(str(path), "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyfsError, match="cannot write"):
        write_private(str(tmp_path / "absent/a.html"), "text")


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.html.new").symlink_to(tmp_path / "other")
    with pytest.raises(PolicyfsError):
        write_private(str(tmp_path / "a.html"), "text")
    assert not (tmp_path / "other").exists()

"""Texts of policies from files and directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.policy_files import UnreadableError, read_sources
from policyfs.errors import EXIT_POLICY


def test_a_file_or_all_yaml_files_of_a_directory(tmp_path: Path):
    (tmp_path / "b.yaml").write_text("b")
    (tmp_path / "a.yaml").write_text("a")
    (tmp_path / "notes.txt").write_text("no policy")
    assert [text.text for text in read_sources(str(tmp_path))] == [b"a", b"b"]
    assert [text.text for text in read_sources(str(tmp_path / "b.yaml"))] == [b"b"]


@pytest.mark.parametrize("name", ["absent.yaml", "empty"])
def test_what_cannot_be_read(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError) as caught:
        read_sources(str(tmp_path / name))
    assert caught.value.exit_code == EXIT_POLICY

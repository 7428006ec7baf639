"""Texts of policies from files and directories."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from policyfs.cli.common.policy_files import Batch, read_sources, read_tests
from policyfs.errors import EXIT_POLICY, EXIT_REFUSED, UnreadableError


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


@pytest.mark.parametrize("regular", [True, False])
def test_a_file_is_read_within_a_limit(tmp_path: Path, *, regular: bool):
    """The policy of a mount may be a user's file: a sparse one took the daemon's memory at a reload."""
    (tmp_path / "sparse.yaml").write_bytes(b"")
    os.truncate(tmp_path / "sparse.yaml", 1 << 40)
    with pytest.raises(UnreadableError, match=r"sparse\.yaml: File too large"):
        read_sources(str(tmp_path), regular=regular)
    with pytest.raises(UnreadableError, match=r"sparse\.yaml: File too large"):
        read_tests([tmp_path / "sparse.yaml"])


def test_one_bad_policy_does_not_keep_the_others_from_being_read(capsys: pytest.CaptureFixture[str]) -> None:
    def load(path: str) -> str:
        if path == "gone":
            raise UnreadableError("cannot read the policy gone")
        return path.upper()

    batch = Batch(sys.stdout)
    batch.refuse()
    assert batch.code == EXIT_REFUSED
    assert list(batch.loaded(["a", "gone", "b"], load)) == [("a", "A"), ("b", "B")]
    batch.refuse()
    assert batch.code == EXIT_POLICY
    assert capsys.readouterr().err == "policyfs: cannot read the policy gone\n"

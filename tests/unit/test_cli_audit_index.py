"""`policyfs audit index`."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from policyfs.cli import audit
from policyfs.domain import Audit
from policyfs.errors import PolicyfsError
from policyfs.trail.index_build import IndexBuilder
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, segments


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    with a_journal(tmp_path / "trail", segment_bytes=4000) as journal:
        for number in range(20):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    return tmp_path / "trail"


def run(trail: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    audit.add_parser(parser.add_subparsers())
    args = parser.parse_args(["audit", *words, "--trail", str(trail)])
    return int(args.run(args))


def test_indexes_are_made_once(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = len(segments(trail / MOUNT_ID)) - 1
    assert run(trail, "index") == 0
    assert capsys.readouterr().out == f"found {closed} closed segments, and made {closed} indexes\n"
    assert run(trail, "index", "--check") == 0
    assert capsys.readouterr().out == f"found {closed} closed segments, and made 0 indexes\n"


def forged(trail: Path) -> str:
    """Have an index in place, with the right checksums, that lacks the segment's events. Its name."""
    assert run(trail, "index") == 0
    path = min((trail.parent / "cache").glob("*.index"))
    segment = IndexBuilder().finish("x", 0, path.stem)
    path.write_bytes(segment)
    return path.stem


def test_a_forged_index_is_found_by_a_check(trail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged(trail)
    assert run(trail, "index", "--check") == 1
    assert "did not match its segment; policyfs made the index again" in capsys.readouterr().out
    assert run(trail, "index", "--check") == 0
    capsys.readouterr()
    assert run(trail, "search", "--json") == 0
    assert capsys.readouterr().out.count('"type": "event"') == 20


def test_without_a_directory_nothing_is_kept_and_this_is_told(
    trail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (trail.parent / "open").mkdir()
    (trail.parent / "open").chmod(0o777)
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(trail.parent / "open"))
    with pytest.raises(PolicyfsError, match="users other than root and you may write"):
        run(trail, "index")
    assert run(trail, "search", "path:/7") == 0
    assert "no index is kept, so this query takes longer" in capsys.readouterr().err

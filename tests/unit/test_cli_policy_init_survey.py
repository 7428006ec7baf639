"""A look at a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.policy.init import survey as module
from policyfs.cli.policy.init.survey import survey

pytestmark = pytest.mark.usefixtures("forked_launchers")


@pytest.fixture
def store(tmp_path: Path, media: dict[str, Path]) -> Path:
    for name in ("DCIM/deep", "Docs", "a,b", "lost+found"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(4):
        (tmp_path / f"DCIM/deep/{number}.png").write_bytes(media["drawing.png"].read_bytes())
    (tmp_path / "DCIM/empty.png").touch()
    (tmp_path / "Docs/a.txt").write_text("plain words\n")
    (tmp_path / "Docs/link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "Docs/fifo")
    return tmp_path


def test_directories_with_their_kinds(store: Path) -> None:
    dcim, docs = survey(str(store))
    assert (dcim.name, dcim.files, docs.files) == ("DCIM", 5, 1)
    assert dcim.media == {"image"}
    assert docs.media == frozenset()
    assert docs.told() == "1 file: text/plain"
    assert docs.examples == {"text/plain": "/Docs/a.txt"}


def test_a_directory_that_cannot_be_listed_is_told(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("/deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    dcim, docs = survey(str(store))
    assert (dcim.files, dcim.more, docs.more) == (1, True, False)
    assert dcim.told().startswith("more than 1 file")


def test_a_large_directory_is_read_in_part(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NAMES", 3)
    dcim, _ = survey(str(store))
    assert dcim.more
    assert dcim.told().startswith("more than ")

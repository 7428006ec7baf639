"""A sync client that mirrors an emptied phone: its brake stops it, and `policyfs undo` puts all back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mount.test_undo import POLICY, SYNC, differing, library, tree, undo
from tests.support.machine.counts import count
from tests.support.machine.processes import DEADLINE_S, tool_as
from tests.support.mount.daemons import policyfs
from tests.support.mount.stores import Mounts

PHOTOS = count(400, 10_000)
CHANGES = 200
BRAKED = POLICY + f"  - {{id: brake, limit: {{changes: {CHANGES}, within: 10m}}, who: {{app: sync}}}}\n"


@pytest.mark.parametrize(
    "options", [("--app", "sync"), pytest.param(("--no-passthrough",), marks=pytest.mark.night)]
)
def test_a_sync_client_is_stopped_and_undone(
    mounts: Mounts, empty_store: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    top = library(empty_store, PHOTOS)
    before = tree(empty_store)
    inodes = {path.lstat().st_ino for path in top.rglob("*") if not path.is_dir()}
    mount = mounts.start(BRAKED, empty_store, *options)
    script = (
        f"cd '{os.fspath(mount)}/DCIM'; for f in 'roll 0'/*3.jpg; do echo encrypted > \"$f\"; done;"
        " mv 'roll 0' gone; find . -type f -delete; rm -rf gone"
    )
    said = tool_as(SYNC, "sh", "-c", script, deadline_s=DEADLINE_S * count(1, 20))
    assert b"Disk quota exceeded" in said.stderr
    after = tree(empty_store)
    left = {path.lstat().st_ino for path in top.rglob("*") if not path.is_dir()}
    assert len(inodes - left) < CHANGES < len(left), "it was stopped in the middle"
    assert "the brake of sync is on" in _said(mount, "status", str(mount.mountpoint))

    with mount.as_environment():
        told = undo(empty_store)
    assert differing(before, tree(empty_store)) == [], told
    assert after != before
    page = tmp_path / "report.html"
    _said(mount, "audit", "report", "--html", str(page))
    text = page.read_text("utf-8")
    assert f"the brake of sync is on: more than {CHANGES} files" in text
    assert "undid changes of sync" in text
    again = tool_as(SYNC, "rm", "-f", os.fspath(mount / "DCIM/roll 0/IMG_00001.jpg"))
    assert b"Disk quota exceeded" in again.stderr, "undo releases no brake"
    _said(mount, "brake", str(mount.mountpoint), "--release", "sync")
    assert tool_as(SYNC, "rm", os.fspath(mount / "DCIM/roll 0/IMG_00001.jpg")).returncode == 0


def _said(mount, *words: str) -> str:
    with mount.as_environment():
        return policyfs(*words).stdout

"""Landlock: what is not below the named directories cannot be opened, and nothing can be written."""

from __future__ import annotations

import os
from pathlib import Path

from policyfs.linux.confinement.capabilities import no_new_privs
from policyfs.linux.confinement.landlock import read_only_below
from tests.support.machine.processes import call_as


def _tried(allowed: str, other: str) -> tuple[bool, list[str]]:
    no_new_privs()
    held = read_only_below([allowed])
    failed = []
    for path, flags in (
        (f"{allowed}/file", os.O_RDONLY), (f"{allowed}/file", os.O_WRONLY),
        (f"{allowed}/new", os.O_CREAT | os.O_WRONLY),
        (f"{other}/file", os.O_RDONLY), (f"{other}/new", os.O_CREAT | os.O_WRONLY),
    ):  # fmt: skip
        try:
            os.close(os.open(path, flags))
        except PermissionError:
            failed.append(f"{path.rpartition('/')[2]} {flags}")
    os.listdir(allowed)
    return held, failed


def test_only_reading_below_is_left(tmp_path: Path) -> None:
    places = [tmp_path / "allowed", tmp_path / "other"]
    for place in places:
        place.mkdir()
        (place / "file").write_text("x")
    held, failed = call_as(0, _tried, *map(str, places))
    assert held
    assert failed == ["file 1", "new 65", "file 0", "new 65"]

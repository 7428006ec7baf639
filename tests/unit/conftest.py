"""A store for the tests of single modules, unless they have one of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mount.steps import PHOTO


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path

"""A store for the tests of single modules, unless they have one of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.machine.launchers import attach, prepared
from tests.support.mount.steps import PHOTO


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


@pytest.fixture
def forked_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sniffers of this test fork their launchers off a prepared interpreter (see launchers.py).

    An interpreter of its own imports for 0.2 s of processor time. Tests of these processes execute it.
    """
    from policyfs.content import spawner

    monkeypatch.setattr(spawner, "subprocess", spawner.subprocess)  # is set back at the end
    attach(prepared())

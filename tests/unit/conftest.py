"""A store for the tests of single modules, unless they have one of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.store.locking import leases
from policyfs.store.locking.leases import LeaseKeeper
from tests.support.machine import launchers
from tests.support.models.clock import Clock
from tests.support.mount.steps import PHOTO


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(PHOTO)
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaseKeeper]:
    """Tests break its leases themselves, or nobody does, so that threads of the test run do no harm."""
    monkeypatch.setattr(leases, "_demand_blocked", lambda signals: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    made = LeaseKeeper()
    yield made
    made.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture
def forked_launchers() -> Iterator[None]:
    """Sniffers of this test fork their launchers off a prepared interpreter (see launchers.py). An
    interpreter of its own imports for 0.2 s of processor time. Tests of these processes execute it."""
    with launchers.forked_launchers():
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def no_descriptor_leaks() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before

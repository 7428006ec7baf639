"""A thread that only waits: its descriptor reports its end, and no other thread's."""

from __future__ import annotations

import os
import select
import threading

import pytest

from policyfs.linux.parked_thread import ParkedThread


def _ended(pidfd: int, wait_s: float) -> bool:
    return bool(select.select([pidfd], [], [], wait_s)[0])


def test_the_descriptor_reports_the_end_of_the_thread() -> None:
    before = threading.active_count()
    parked = ParkedThread()
    kept = os.dup(parked.pidfd)
    assert threading.active_count() == before + 1
    assert not _ended(kept, 0.05)
    parked.end()
    assert _ended(kept, 10)
    os.close(kept)
    assert parked.pidfd == -1
    parked.end()


def test_an_older_kernel_has_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _flags: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    parked = ParkedThread()
    assert parked.pidfd == -1
    parked.end()

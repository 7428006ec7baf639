"""The ends of threads."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time

import pytest

from policyfs.linux.threads import ParkedThread, has_ended


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


def test_a_kernel_without_room_is_no_older_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many"):
        ParkedThread()


def test_a_thread_that_has_ended_is_known_by_its_number() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    number = thread.native_id
    assert number is not None
    assert not has_ended(number)
    assert not has_ended(os.getpid())
    go.set()
    thread.join()
    deadline_s = time.monotonic() + 10
    while not has_ended(number):  # join() returns some microseconds before
        assert time.monotonic() < deadline_s
    assert not has_ended(os.getppid())


def test_a_process_whose_parent_does_not_wait_for_it_has_ended() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(process.pid)


def test_an_older_kernel_has_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _flags: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    parked = ParkedThread()
    assert parked.pidfd == -1
    parked.end()

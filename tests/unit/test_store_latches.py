"""Latches between daemons: had once, and given up at the end of a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.store.latches import Latches
from tests.support.machine.processes import start_as, wait_for


@pytest.fixture
def lock(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture
def fd(tmp_path: Path):
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_one_daemon_has_it_at_a_time_of_each_file(lock: str, fd: int, tmp_path: Path) -> None:
    here, there = Latches(lock), Latches(lock)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    at = here.take(fd)
    assert at is not None
    assert there.take(fd) is None
    assert there.take(other) is not None
    here.give(at)
    assert there.take(fd) is not None
    assert os.stat(lock).st_mode & 0o777 == 0o600
    for latches in (here, there):
        latches.close()
        latches.close()
    os.close(other)


def test_a_dead_daemon_has_none(lock: str, fd: int) -> None:
    def hold(channel) -> None:
        channel.send(Latches(lock).take(fd) is not None)
        channel.recv()

    holder, latches = start_as(0, hold), Latches(lock)
    assert holder.receive()
    assert latches.take(fd) is None
    holder.kill()
    assert wait_for(lambda: latches.take(fd) is not None, "the latch is free")
    latches.close()


def test_who_finds_the_shared_file_removed_makes_a_new_one(lock: str, fd: int) -> None:
    here, there = Latches(lock), Latches(lock)
    at = here.take(fd)
    assert at is not None
    here.give(at)
    os.unlink(lock)
    assert there.take(fd) is not None
    assert here.take(fd) is None
    here.close()
    there.close()

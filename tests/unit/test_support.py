"""The test support itself: children with plain rights, deadlines, the private namespace."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from tests.support.machine.namespace import clear_away, mount_entries, mounts_below
from tests.support.machine.processes import DeadlineExceeded, call_as, start_as, tool_as, wait_for
from tests.support.machine.trend import trend
from tests.support.mount.daemons import is_suspicious
from tests.support.mount.stores import Mounts

UID = 10011


def _who() -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
    return os.getresuid(), os.getresgid(), os.getgroups()


@pytest.mark.mount
def test_a_call_runs_with_plain_rights_and_nothing_else() -> None:
    assert call_as(UID, _who) == ((UID,) * 3, (UID,) * 3, [])
    assert os.getuid() == 0


@pytest.mark.mount
def test_what_a_call_raises_arrives_with_its_errno(arena: Path) -> None:
    (arena / "secret").write_text("x")
    (arena / "secret").chmod(0o600)
    with pytest.raises(PermissionError):
        call_as(UID, os.open, str(arena / "secret"), os.O_RDONLY)


def _echo(channel) -> str:
    channel.send("ready")
    return channel.recv() + "!"


@pytest.mark.mount
def test_a_child_and_its_test_exchange_messages() -> None:
    child = start_as(UID, _echo)
    assert child.receive() == "ready"
    child.send("hello")
    assert child.result() == "hello!"


def _pause(_channel) -> None:
    signal.pause()


@pytest.mark.mount
def test_a_silent_child_is_killed_at_its_deadline() -> None:
    child = start_as(UID, _pause)
    with pytest.raises(DeadlineExceeded):
        child.result(deadline_s=0.2)
    assert not os.path.exists(f"/proc/{child.pid}")


@pytest.mark.mount
def test_a_tool_runs_with_plain_rights() -> None:
    assert tool_as(UID, "id", "-u", check=True).stdout.decode().strip() == str(UID)
    with pytest.raises(AssertionError, match="exit 1"):
        tool_as(UID, "false", check=True)


@pytest.mark.mount
def test_mounts_are_seen_without_touching_them_and_cleared_away(arena: Path) -> None:
    (arena / "a b").mkdir()
    tool_as(0, "mount", "-t", "tmpfs", "none", arena / "a b", check=True)
    assert [entry.mountpoint for entry in mounts_below(arena)] == [str(arena / "a b")]
    assert clear_away(arena) == [f"{arena}/a b (tmpfs)"]
    assert mounts_below(arena) == []


@pytest.mark.mount
def test_the_namespace_is_private() -> None:
    assert os.readlink("/proc/self/ns/mnt") != os.readlink(f"/proc/{os.getppid()}/ns/mnt")
    assert any(entry.fstype == "fusectl" for entry in mount_entries())


@pytest.mark.mount
def test_trails_lie_in_memory_and_stores_do_not(mounts: Mounts, empty_store: Path) -> None:
    held = {entry.mountpoint: entry.fstype for entry in mount_entries()}
    assert held[str(mounts.work.parent)] == "tmpfs"
    assert mounts.work.stat().st_dev == mounts.work.parent.stat().st_dev != empty_store.stat().st_dev
    assert stat.S_IMODE(mounts.work.stat().st_mode) == 0o700


def test_waiting_has_a_deadline() -> None:
    with pytest.raises(DeadlineExceeded, match="the moon"):
        wait_for(lambda: False, "the moon", deadline_s=0.05)


@pytest.mark.parametrize(
    ("line", "suspicious"),
    [
        ('{"event": "mounted", "level": "info"}', False),
        ('{"event": "bug", "level": "error"}', True),
        ('{"event": "error budget fine", "level": "info"}', False),
        ("Traceback (most recent call last):", True),
        ("mounted /mnt", False),
    ],
)
def test_suspicious_log_lines(line: str, suspicious: bool) -> None:
    assert is_suspicious(line) is suspicious


@pytest.mark.parametrize(
    ("values", "growth"),
    [
        ([7.0] * 9, 0.0),
        ([100.0, 50.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0], 0.0),  # the first quarter is not looked at
        ([float(n) for n in range(9)], 6.0),
        ([float(-n) for n in range(9)], -6.0),
    ],
)
def test_a_trend_is_what_the_line_through_the_later_samples_gains(values: list[float], growth: float) -> None:
    found = trend([10.0 * n for n in range(9)], values)
    assert found.growth == pytest.approx(growth)
    assert (found.lowest, found.highest) == (min(values[2:]), max(values[2:]))

"""The mark of ended exceptions: it survives the clock, restarts, other daemons and damage."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import threading
from pathlib import Path

import pytest

from policyfs.daemon import high_water
from policyfs.daemon.high_water import NAME, HighWaterMark
from policyfs.errors import PolicyfsError
from policyfs.policy.exceptions import in_force
from tests.unit.test_policy_exceptions import END_NS, party, policy

EARLY_NS = END_NS - 10


class _Clock:
    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns

    def __call__(self) -> int:
        return self.at_ns


def test_an_end_that_was_seen_stays(tmp_path: Path) -> None:
    clock = _Clock(END_NS)
    mark = HighWaterMark(tmp_path, clock)
    mark.pass_ends(in_force(policy(party()), mark.now_ns()))
    mark.save()
    clock.at_ns = EARLY_NS
    assert mark.now_ns() == END_NS
    mark.close()
    again = HighWaterMark(tmp_path, clock)
    assert again.now_ns() == END_NS
    clock.at_ns = END_NS + 5
    assert again.now_ns() == END_NS + 5
    again.close()


def test_time_that_no_exception_saw_pass_is_not_remembered(tmp_path: Path) -> None:
    clock = _Clock(END_NS)
    mark = HighWaterMark(tmp_path, clock)
    mark.pass_ends(in_force(policy(party()), EARLY_NS))
    mark.save()
    clock.at_ns = EARLY_NS
    assert mark.now_ns() == EARLY_NS
    mark.close()


def test_a_clock_that_nobody_has_set_is_known(tmp_path: Path) -> None:
    clock = _Clock(0)
    mark = HighWaterMark(tmp_path, clock)
    assert mark.clock_is_unset
    clock.at_ns = 1_793_491_200_000_000_000
    assert not mark.clock_is_unset
    mark.close()


def test_two_daemons_never_lower_it(tmp_path: Path) -> None:
    one, two = (HighWaterMark(tmp_path, _Clock(0)) for _ in range(2))
    two.pass_ends(in_force(policy(party("2031-01-01T00:00Z")), END_NS * 2))
    two.save()
    one.pass_ends(in_force(policy(party()), END_NS))
    one.save()
    assert one.now_ns() == two.now_ns() > END_NS
    for mark in (one, two):
        mark.close()


@pytest.mark.parametrize("damage", [b"\0" * 21, b"soon\n", b"-5\n"])
def test_damage_ends_all_exceptions(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / NAME).write_bytes(damage)
    mark = HighWaterMark(tmp_path, _Clock(EARLY_NS))
    assert mark.damaged
    assert in_force(policy(party()), mark.now_ns()).rules == policy().rules
    mark.close()


def test_no_symlink_is_followed(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PolicyfsError, match="the file of the ended exceptions"):
        HighWaterMark(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_mark_that_cannot_be_written_is_told_and_closed(tmp_path: Path) -> None:
    """On a full disk, say, before its first number is there."""
    before = os.listdir("/proc/self/fd")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(PolicyfsError, match=r"cannot write .*: File too large"):
            HighWaterMark(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir("/proc/self/fd") == before


def test_a_mark_that_could_not_be_written_is_written_by_a_later_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = HighWaterMark(tmp_path, _Clock(EARLY_NS))
    passed = in_force(policy(party()), END_NS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", _full)
        for _ in range(2):
            with pytest.raises(OSError, match="full"):
                mark.pass_ends(passed)
                mark.save()
    assert mark.now_ns() == END_NS, "the exception has ended for this daemon"
    mark.pass_ends(passed)
    mark.save()
    mark.close()
    again = HighWaterMark(tmp_path, _Clock(EARLY_NS))
    assert again.now_ns() == END_NS
    again.close()


def test_a_daemon_that_is_frozen_with_the_lock_holds_up_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault trail.7: Another daemon is frozen (SIGSTOP, `docker pause`) while it writes the file
    `exceptions-ended` in the trail root
    App: no error. Exceptions end at their time in other mounts, and the log says that the end could not
    be saved. A new mount with this trail root is refused after 2 s
    Store: unchanged
    Trail: as usual
    """
    monkeypatch.setattr(high_water, "_PATIENCE_S", 0.05)
    mark = HighWaterMark(tmp_path, _Clock(EARLY_NS))
    passed = in_force(policy(party()), END_NS)
    with (tmp_path / NAME).open("rb") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        stopped = r"if that daemon is stopped \(SIGSTOP, docker pause\), continue it"
        with pytest.raises(TimeoutError, match=stopped):
            mark.pass_ends(passed)
            mark.save()
        assert mark.now_ns() == END_NS, "the exception has ended for this daemon"
        before = os.listdir("/proc/self/fd")
        locked = r"cannot write .*: another policyfs daemon has locked the file"
        with pytest.raises(PolicyfsError, match=locked):
            HighWaterMark(tmp_path)
        assert os.listdir("/proc/self/fd") == before
    mark.pass_ends(passed)
    mark.save()
    mark.close()


def test_a_short_lock_of_another_daemon_is_waited_for(tmp_path: Path) -> None:
    HighWaterMark(tmp_path).close()
    with (tmp_path / NAME).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        timer = threading.Timer(0.1, fcntl.flock, (other, fcntl.LOCK_UN))
        timer.start()
        HighWaterMark(tmp_path).close()
        timer.join()


def _full(fd: int, data: bytes, at: int) -> int:
    raise OSError(errno.ENOSPC, "full")

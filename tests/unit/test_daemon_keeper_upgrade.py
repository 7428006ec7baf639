"""The spare's side of an upgrade: it serves if the candidate ends before it takes over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import trio

from policyfs.daemon.keeper import upgrade
from policyfs.daemon.keeper.upgrade import Before, check_candidate, follow, wait_for_candidate
from policyfs.errors import PolicyfsError
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.state_memory import Handover


def candidate(handover: Handover, live: Callable[[], object]) -> int:
    """Fork a candidate that waits for the state, and then does this. It is its own keeper."""
    pid = os.fork()
    if pid == 0:
        while not handover.is_given:
            time.sleep(0.001)
        live()
        os._exit(0)
    handover.offer(pid, pid)
    return pid


@pytest.mark.parametrize("is_taken", [True, False])
def test_the_spare_serves_if_the_candidate_has_not_taken_over(is_taken: bool) -> None:
    handover, told = SavedState(2).handover, []
    pid = candidate(handover, handover.take if is_taken else lambda: None)
    assert wait_for_candidate(handover, lambda text, **_: told.append(text)) is is_taken
    assert len(told) == (not is_taken)
    os.waitpid(pid, 0)
    assert is_taken or handover.candidate[0] == 0


def test_a_candidate_may_end_after_its_keeper() -> None:
    """Both have the device: this process serves only after the last of them."""
    handover, keeper = SavedState(2).handover, os.fork()
    if keeper == 0:
        os._exit(0)
    os.waitpid(keeper, 0)
    pid = candidate(handover, lambda: time.sleep(0.3))
    handover.offer(pid, keeper)
    assert not wait_for_candidate(handover, lambda *_, **__: None)
    assert os.waitpid(pid, os.WNOHANG)[0] == pid


def test_a_candidate_without_a_keeper_or_that_is_late_takes_nothing() -> None:
    state, before = SavedState(2), SavedState(2).handover
    state.before, own = before, state.keeper
    before.offer(1, 1)
    for keeper, withdraws in ((own, False), (os.getppid(), True)):
        state.keeper = keeper
        before.withdraw() if withdraws else None
        with pytest.raises(PolicyfsError):
            check_candidate(state)
    before.offer(1, 1)
    check_candidate(state)
    before.take()
    state.keeper = own
    check_candidate(state)


def test_a_candidate_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "_TAKEN_S", 0.05)
    handover = SavedState(2).handover
    pid = candidate(handover, lambda: time.sleep(60))
    assert not wait_for_candidate(handover, lambda *_, **__: None)
    assert os.waitpid(pid, 0)[1] == 9


def test_a_candidate_without_its_keeper_is_ended_first() -> None:
    """Otherwise it would take the mount over that the spare serves by then."""
    handover = SavedState(2).handover
    pid = candidate(handover, lambda: (time.sleep(0.3), handover.take(), time.sleep(60)))
    keeper = os.fork()
    if keeper == 0:
        while not handover.is_given:
            time.sleep(0.001)
        os._exit(0)
    handover.offer(pid, keeper)
    assert not wait_for_candidate(handover, lambda *_, **__: None)
    assert os.waitpid(pid, os.WNOHANG) == (pid, 9)
    assert not handover.is_taken
    os.waitpid(keeper, 0)


def test_a_daemon_without_a_keeper_or_with_unchecked_bytes_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "_OFFER_S", 0.05)
    journal, state = SimpleNamespace(is_busy=False, flush=lambda: None), SavedState(2)
    asked = (4, 5, journal, lambda: None)
    for one, reason in ((None, "no keeper"), (state, "no keeper")):
        with pytest.raises(PolicyfsError, match=reason):
            trio.run(follow, one, *asked)
    state.keeper = os.getppid()
    with pytest.raises(
        PolicyfsError, match="nobody can follow the daemon now: the daemon had not yet answered"
    ):
        trio.run(follow, state, *asked)
    assert state.handover.candidate[0] == 0
    with pytest.raises(PolicyfsError, match="no keeper"):
        Before({"takeover": None}, lambda _: None)

"""The keeper: which daemons have a successor, what it inherits, and how the keeper itself ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.content.workers.launcher import DYING
from policyfs.daemon.keeper.keeper import Keeper
from policyfs.daemon.log import configure
from policyfs.daemon.log_writer import LogWriter
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.saved_handle import Setup
from policyfs.linux.child import send_as
from policyfs.linux.threads import ParkedThread
from tests.support.machine.inchild import child, exit_code

LONG_NS = 2_000_000_000
WEIGHT = Path("/proc/self/autogroup")
Life = Callable[[SavedState], int]


def kept(path: Path, lives: list[Life]) -> object:
    """Run a keeper whose daemons live these lives. Return its exit code, and the lives that began."""

    def process() -> int:
        os.setsid()
        state = SavedState(4)
        state.set_up(Setup(os.open("/dev/null", os.O_RDONLY), 1, b"init", "digest"))

        def serve(*, is_first: bool) -> int:
            done = len(path.read_text()) if path.exists() else 0
            assert is_first is (done == 0)
            with path.open("a") as told:
                told.write("+")
            state.serves(time.monotonic_ns())
            code = lives[done](state)
            os._exit(code) if is_first else None
            return code

        return Keeper(state, serve, configure(LogWriter(2), as_json=True).warning).run()

    code = exit_code(child(process))  # it can write nothing
    return code if code >= 0 else f"killed by {-code}", len(path.read_text())


def killed(state: SavedState) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def killed_late(state: SavedState) -> int:
    state.serves(time.monotonic_ns() - LONG_NS)  # as if it had lived for long
    return killed(state)


def locked(state: SavedState) -> int:
    state.locked(1)
    return killed_late(state)


def ends(_state: SavedState) -> int:
    return 7


def reported(state: SavedState, pid: int = 0) -> int:
    """The launcher tells the keeper that this daemon is dead, and it lasts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    state.serves(time.monotonic_ns() - LONG_NS)
    send_as(os.getppid(), DYING, pid=pid or os.getpid(), uid=0)
    signal.sigtimedwait({signal.SIGTERM}, 0.2 if pid else 20)
    return 7


def parked(state: SavedState) -> int:
    """Its launcher is dead, too, and it lasts."""
    state.serves(time.monotonic_ns() - LONG_NS)
    thread = ParkedThread()
    state.park(os.dup(thread.pidfd))
    thread.end()
    time.sleep(20)
    return 7


def reported_late(state: SavedState) -> int:
    """It tells of the daemon before, which has ended since."""
    return reported(state, pid=os.getpid() - 1)


@pytest.mark.parametrize(
    ("lives", "code", "began"),
    [
        ([ends], 7, 1),
        ([killed_late, ends], 7, 2),
        ([killed_late, killed_late, killed_late, ends], 7, 4),
        ([killed, ends], 7, 2),
        ([killed, killed_late, killed, ends], 7, 4),
        ([killed] * 4 + [ends], 7, 5),
        ([killed] * 5, "killed by 9", 5),
        ([killed_late, *[killed] * 5], "killed by 9", 6),
        ([reported, ends], 7, 2),
        ([killed_late, reported_late], 7, 2),
        ([parked, ends], 7, 2),
        ([locked], "killed by 9", 1),
        ([killed_late, locked], "killed by 9", 2),
    ],
)
def test_who_has_a_successor(tmp_path: Path, lives: list[Life], code: object, began: int) -> None:
    assert kept(tmp_path / "lives", lives) == (code, began)


def test_a_successor_that_fails_ends_the_keeper(tmp_path: Path) -> None:
    def fails(_state: SavedState) -> int:
        raise OSError("the device is gone")

    assert kept(tmp_path / "lives", [killed_late, fails]) == (1, 2)


def test_a_signal_to_the_keeper_comes_to_the_daemon(tmp_path: Path) -> None:
    def waits(_state: SavedState) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getppid(), signal.SIGTERM)
        info = signal.sigwaitinfo({signal.SIGTERM})
        return 5 if info.si_pid == os.getpid() else 6

    assert kept(tmp_path / "lives", [killed_late, waits]) == (5, 2)


def test_the_daemons_weigh_as_much_as_one_that_leads_its_session(tmp_path: Path) -> None:
    def weighed(_state: SavedState) -> int:
        return int(WEIGHT.read_text().split()[-1]) + 20

    if WEIGHT.exists():
        assert kept(tmp_path / "lives", [weighed]) == (10, 1)

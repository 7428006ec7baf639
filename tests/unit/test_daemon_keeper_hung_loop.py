"""Which loops hang: those that neither beat nor wait in the kernel at several looks in a row."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from policyfs.daemon.keeper.hung_loop import LOOKS, HungLoop
from tests.support.machine.inchild import child, exit_code


def outcome(tmp_path: Path, states: str, beats: str = "", *, is_followed: bool = True) -> int:
    """The exit code of a process whose loop has these states at the looks, with "+" for a beat before one."""
    task = tmp_path / "self/task"

    def process() -> int:
        own = task / str(threading.get_native_id())
        own.mkdir(parents=True)
        watch = HungLoop(lambda: is_followed, lambda *_words, **_fields: None, tmp_path)
        watch.beat()
        for state, beat in zip(states, beats.ljust(len(states)), strict=True):
            watch.beat() if beat == "+" else None
            (own / "stat").write_text(f"1 (a) b) {state} 2 3")
            watch.look()
        return 0

    return exit_code(child(process))


@pytest.mark.parametrize("state", "RS")
def test_a_loop_without_a_beat_ends_the_process(tmp_path: Path, state: str) -> None:
    assert outcome(tmp_path, state * (LOOKS + 1)) == -signal.SIGKILL


def test_one_look_fewer_does_not(tmp_path: Path) -> None:
    assert outcome(tmp_path, "R" * LOOKS) == 0  # the first look sees the first beat


@pytest.mark.parametrize(
    ("states", "beats"), [("RRRDRR", ""), ("D" * 20, ""), ("R" * 20, "  +" * 6), ("R" * 20, "+" * 20)]
)
def test_a_loop_that_waits_for_the_store_or_beats_does_not(tmp_path: Path, states: str, beats: str) -> None:
    assert outcome(tmp_path, states, beats) == 0


def test_a_daemon_without_a_successor_is_left_alone(tmp_path: Path) -> None:
    assert outcome(tmp_path, "R" * 20, is_followed=False) == 0

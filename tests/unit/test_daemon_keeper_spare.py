"""The spare: who wakes it, what it leaves behind, and with whom it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from policyfs.daemon.keeper.spare import WAKE, Spare
from tests.support.machine.inchild import exit_code, in_child

LONG_S = 10.0


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def named(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def with_spare(work: Callable[[Spare], object]) -> object:
    """Run a keeper's work in a child. A spare that serves ends with the exit code 7."""

    def serve() -> NoReturn:
        os._exit(7)

    def process() -> object:
        signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE})
        spare = Spare()
        spare.fork(serve)
        until(lambda: named(children()[0]) == "policyfs-spare")
        return work(spare)

    return in_child(process)


def test_each_spare_that_serves_leaves_another_one() -> None:
    def work(spare: Spare) -> object:
        served = []
        for _ in range(3):
            pid = spare.wake()
            served.append((pid > 0, exit_code(pid)))
            until(spare.is_there)
        (last,) = children()
        spare.end()
        return served, last != pid, spare.is_there(), children()

    assert with_spare(work) == [[[True, 7]] * 3, True, False, []]


def test_another_process_cannot_wake_it() -> None:
    def work(spare: Spare) -> object:
        (pid,) = children()
        for _ in range(3):
            os.kill(pid, WAKE)
        until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "S")
        is_there = spare.is_there()
        return is_there, exit_code(spare.wake())

    assert with_spare(work) == [True, 7]


def test_a_dead_spare_is_not_there_and_wakes_nobody() -> None:
    def work(spare: Spare) -> object:
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not spare.is_there())
        spare.end()
        spare._set(0, 1)  # a daemon may write there: it is no child of the keeper
        return spare.is_there(), spare.wake()

    assert with_spare(work) == [False, 0]


def test_it_ends_with_the_keeper_but_a_daemon_does_not(tmp_path: Path) -> None:
    def serve() -> NoReturn:
        (tmp_path / "daemon").write_text(str(os.getpid()))
        time.sleep(LONG_S)
        os._exit(0)

    def process() -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE})
        spare = Spare()
        spare.fork(serve)
        daemon = spare.wake()
        until(lambda: (tmp_path / "daemon").exists() and spare.is_there() and children()[-1] != daemon)
        (tmp_path / "spare").write_text(str(children()[-1]))
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert in_child(process) == "killed by 9"
    daemon, spare = (int((tmp_path / name).read_text()) for name in ("daemon", "spare"))
    until(lambda: not Path(f"/proc/{spare}").exists())
    assert named(daemon) != "policyfs-spare"
    os.kill(daemon, signal.SIGKILL)

"""For which threads of a killed daemon the next one waits, and for how long."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from policyfs.daemon.keeper.dead_threads import wait_for_end
from tests.support.machine.inchild import in_child

SHORT_S, LONG_S = 0.05, 20.0


def while_in(call: Callable[[], object], limit_s: float) -> object:
    """Whether wait_for_end() sees the end of a process in *call*. It stands for one in a wait that no
    signal ends."""

    def process() -> object:
        pid = os.fork()
        if pid == 0:
            call()
            os._exit(0)
        try:
            return wait_for_end(pid, lambda _threads: None, limit_s)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    return in_child(process)


def test_a_thread_in_a_call_is_waited_for_until_the_limit() -> None:
    assert while_in(signal.pause, SHORT_S) is False


def test_a_process_that_ends_meanwhile_is_waited_for() -> None:
    assert while_in(lambda: signal.sigtimedwait([], SHORT_S), LONG_S) is True


def test_a_write_to_another_file_is_waited_for() -> None:
    def full() -> None:
        _, end = os.pipe()
        while True:
            os.write(end, bytes(4096))

    assert while_in(full, SHORT_S) is False


def test_a_process_that_is_gone_has_no_threads() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert wait_for_end(pid, lambda _threads: None, LONG_S)  # not reaped yet
    os.waitpid(pid, 0)
    assert wait_for_end(pid, lambda _threads: None, LONG_S)


def test_a_long_wait_is_told_once() -> None:
    def process() -> object:
        told: list[int] = []
        pid = os.fork()
        if pid == 0:
            signal.pause()
        wait_for_end(pid, told.append, 1.2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return told

    assert in_child(process) == [1]

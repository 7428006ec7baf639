"""The bound on an analysis: processor time, and only in its context."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import pytest

from policyfs.cli.time_bound import bounded
from policyfs.policy.classes import TooHardError


def test_endless_work_ends() -> None:
    before = signal.getsignal(signal.SIGPROF)
    with pytest.raises(TooHardError), bounded(0.05):
        for _ in itertools.count():
            pass
    assert signal.getsignal(signal.SIGPROF) == before
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0


def test_time_in_which_the_machine_is_busy_does_not_count() -> None:
    with bounded(0.05):
        time.sleep(0.1)


def test_another_thread_has_no_bound() -> None:
    done: list[bool] = []

    def work() -> None:
        with bounded(0.001):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]

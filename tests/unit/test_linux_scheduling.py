"""Turns at the processor, of a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.linux.scheduling import SERVING_NICE, go_first, set_turns, weigh_own_session
from tests.support.machine.inchild import in_child
from tests.support.machine.turns import SLICES, turns_of


def _turns(nicer: int, slice_ns: int) -> tuple[int, int, int]:
    set_turns(nicer=nicer, slice_ns=slice_ns)
    return os.sched_getscheduler(0), *turns_of(0)


@pytest.mark.parametrize("slice_ns", [100_000, 50_000_000])
def test_a_slice_and_a_nice_value(slice_ns):
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found = in_child(lambda: _turns(5, slice_ns))
    assert found == [os.SCHED_OTHER, min(19, before + 5), slice_ns if SLICES else 0]


def test_what_is_refused_changes_nothing():
    """A plain user may not go before others."""
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def child() -> tuple[int, int, int]:
        os.setuid(65534)
        return _turns(-5, 100_000)

    assert in_child(child)[1] == before


@pytest.mark.parametrize(("before", "nice"), [(3, SERVING_NICE), (SERVING_NICE - 5, SERVING_NICE - 5)])
def test_a_process_that_goes_first_can_go_back(before: int, nice: int) -> None:
    def child() -> list[int]:
        os.setpriority(os.PRIO_PROCESS, 0, before)
        was = go_first()
        found = os.getpriority(os.PRIO_PROCESS, 0)
        os.setuid(65534)
        os.setpriority(os.PRIO_PROCESS, 0, was)
        return [found, os.getpriority(os.PRIO_PROCESS, 0)]

    assert in_child(child) == [nice, before]


WEIGHT = Path("/proc/self/autogroup")
"""Kernels without CONFIG_SCHED_AUTOGROUP know no weights of sessions."""


def test_a_session_of_its_own_is_weighed():
    def child() -> list[str]:
        os.setsid()
        weigh_own_session(-10)
        return WEIGHT.read_text().split()[1:]

    if WEIGHT.exists():
        assert in_child(child) == ["nice", "-10"]


def test_the_session_of_a_shell_is_left_alone():
    def child() -> str:
        weigh_own_session(-10)
        return WEIGHT.read_text()

    if WEIGHT.exists():
        before = WEIGHT.read_text()
        assert in_child(child) == before

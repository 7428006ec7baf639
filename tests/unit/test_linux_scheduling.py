"""Turns at the processor, of a process of its own."""

from __future__ import annotations

import os

import pytest

from policyfs.linux.scheduling import set_turns
from tests.support.machine.inchild import in_child
from tests.support.machine.turns import SLICES, turns_of


def _turns(nicer: int, slice_ns: int, *, idle: bool = False) -> tuple[int, int, int]:
    set_turns(nicer=nicer, slice_ns=slice_ns, idle=idle)
    return os.sched_getscheduler(0), *turns_of(0)


@pytest.mark.parametrize("slice_ns", [100_000, 50_000_000])
def test_a_slice_and_a_nice_value(slice_ns):
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found = in_child(lambda: _turns(5, slice_ns))
    assert found == [os.SCHED_OTHER, min(19, before + 5), slice_ns if SLICES else 0]


def test_only_while_nothing_else_runs():
    assert in_child(lambda: _turns(0, 100_000, idle=True))[0] == os.SCHED_IDLE


def test_what_is_refused_changes_nothing():
    """A plain user may not go before others."""
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def child() -> tuple[int, int, int]:
        os.setuid(65534)
        return _turns(-5, 100_000)

    assert in_child(child)[1] == before

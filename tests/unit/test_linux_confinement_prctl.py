"""Settings of a process, made in a child if they stay."""

from __future__ import annotations

import ctypes
import errno
import signal
from pathlib import Path

import pytest

from policyfs.linux.confinement.prctl import name_process, prctl, request_parent_death_signal
from tests.support.machine.processes import call_as

PR_GET_PDEATHSIG = 2
PR_SET_TIMERSLACK, PR_CAPBSET_READ = 29, 23


def test_a_setting_is_made_in_full_width() -> None:
    with open("/proc/self/timerslack_ns", encoding="ascii") as file:
        before = int(file.read())
        try:
            prctl(PR_SET_TIMERSLACK, 1 << 33)
            file.seek(0)
            assert int(file.read()) == 1 << 33
        finally:
            prctl(PR_SET_TIMERSLACK, before)


def test_what_the_kernel_refuses_is_an_error_with_the_options_number() -> None:
    with pytest.raises(OSError, match="prctl 23") as caught:
        prctl(PR_CAPBSET_READ, 1 << 20)
    assert caught.value.errno == errno.EINVAL


def test_a_process_has_the_name_and_the_signal_that_it_asked_for() -> None:
    assert call_as(0, _named) == ("policyfs-sniff\n", signal.SIGUSR1)


def _named() -> tuple[str, int]:
    name_process("policyfs-sniff")
    request_parent_death_signal(signal.SIGUSR1)
    number = ctypes.c_int()
    prctl(PR_GET_PDEATHSIG, ctypes.addressof(number))
    return Path("/proc/self/comm").read_text(encoding="ascii"), number.value

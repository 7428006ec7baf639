"""Settings of a process that take one number."""

from __future__ import annotations

import errno

import pytest

from policyfs.linux.prctl import prctl

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

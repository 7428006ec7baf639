"""The collector is back after every pause."""

from __future__ import annotations

import gc

import pytest

from policyfs.policy.collector import paused


def test_a_pause_ends_also_by_an_error():
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), paused():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_pause_leaves_a_collector_that_is_off_alone():
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

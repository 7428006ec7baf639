"""The collector is back after every pause."""

from __future__ import annotations

import gc
import weakref

import pytest

from policyfs.policy.collector import left_to_the_kernel, paused


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


class Large:
    """What takes long to free."""


def test_what_is_left_to_the_kernel_is_not_freed():
    freed: list[str] = []
    kept, other = Large(), Large()
    ends = [weakref.finalize(kept, freed.append, "kept"), weakref.finalize(other, freed.append, "other")]
    try:
        left_to_the_kernel(kept)
        del kept, other
        gc.collect()
        assert freed == ["other"]
    finally:
        gc.unfreeze()
    gc.collect()
    assert freed == ["other", "kept"]
    assert not any(one.alive for one in ends)

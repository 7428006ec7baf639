"""A process that ends with another one: the signal comes once a pipe has no writer any more."""

from __future__ import annotations

import os
import signal

import pytest

from policyfs.linux.lifetime import end_with_writer
from tests.support.machine.inchild import in_child


def _signals(*, first: bool, spare: bool) -> list[bool]:
    """Whether the signal is there before, and after, the writer's end. first: which had ended before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    read, write = os.pipe()
    more = os.dup(write) if spare else -1
    if first:
        os.close(write)
    end_with_writer(read, signal.SIGUSR1)
    found = [signal.SIGUSR1 in signal.sigpending()]
    if not first:
        os.close(write)
    found.append(signal.sigtimedwait({signal.SIGUSR1}, 0 if spare else 5) is not None)
    if spare:
        os.close(more)
        found.append(signal.sigtimedwait({signal.SIGUSR1}, 5) is not None)
    return found


def test_the_signal_comes_with_the_end_of_the_last_writer() -> None:
    assert in_child(lambda: _signals(first=False, spare=False)) == [False, True]
    assert in_child(lambda: _signals(first=False, spare=True)) == [False, False, True]


def test_if_the_writer_has_ended_already_the_signal_comes_at_once() -> None:
    assert in_child(lambda: _signals(first=True, spare=False)) == [True, True]


def test_a_descriptor_that_is_no_pipe_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        end_with_writer(10_000, signal.SIGUSR1)

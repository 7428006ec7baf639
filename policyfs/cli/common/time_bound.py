"""A bound on the processor time of an analysis of a policy, which a few globs can make endless."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Final

from policyfs.policy.globs.classes import TooHardError

MOST_S: Final = 10.0
_AGAIN_S: Final = 0.5
"""Interval of further signals, in seconds: an exception in a callback of the interpreter is lost."""


class _LateError(Exception):
    """The error once the time is over. It is no TooHardError: analyses catch that one, and try less."""


@contextlib.contextmanager
def bounded(seconds: float = MOST_S) -> Iterator[None]:
    """Raise TooHardError in the context after so many seconds of this process's processor time. Outside of
    the main thread, which alone gets signals, there is no bound."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(_number: int, _frame: object) -> None:
        raise _LateError

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN_S)
    try:
        yield
    except _LateError as error:
        raise TooHardError from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)

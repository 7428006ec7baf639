"""Settings of a process or thread (prctl(2))."""

from __future__ import annotations

import ctypes
import signal
from typing import Final

from policyfs.linux.libc import PRCTL, fail

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


def prctl(option: int, value: int) -> None:
    """Call prctl(2) with one argument; the unused arguments are 0. Raises OSError."""
    if PRCTL(option, value, 0, 0, 0):
        raise fail(b"prctl %d" % option)


def name_process(name: str) -> None:
    """Set the name that ps and top show, at most 15 bytes. Raises OSError."""
    text = ctypes.create_string_buffer(name.encode())
    prctl(_PR_SET_NAME, ctypes.addressof(text))


def request_parent_death_signal(number: signal.Signals) -> None:
    """Let the kernel send a signal to this process when the thread that started it ends. Raises OSError."""
    prctl(_PR_SET_PDEATHSIG, number)


def forgo_parent_death_signal() -> None:
    """End the effect of request_parent_death_signal(). Raises OSError."""
    prctl(_PR_SET_PDEATHSIG, 0)

"""Settings of a process or thread (prctl(2)) that take one number."""

from __future__ import annotations

from policyfs.linux.libc import PRCTL, fail


def prctl(option: int, value: int) -> None:
    """Call prctl(2) with one argument; the unused arguments are 0. Raises OSError."""
    if PRCTL(option, value, 0, 0, 0):
        raise fail(b"prctl %d" % option)

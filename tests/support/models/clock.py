"""A clock that a test moves on."""

from __future__ import annotations


class Clock:
    """A function that returns seconds, in the place of time.monotonic()."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

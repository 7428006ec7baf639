"""Budgets: limits of the bytes that one app adds to the trail per second (pure)."""

from __future__ import annotations

_SECOND_NS = 1_000_000_000


class Budget:
    """The number of bytes that one app may add to the trail now. It grows at a fixed rate, up to a limit, and
    is negative after lines that had to be written. Times: ns of a clock that never goes back. Not
    thread-safe."""

    __slots__ = ("_at_ns", "_burst", "_left", "_rate")

    def __init__(self, rate: int, burst: int, now_ns: int) -> None:
        """rate: growth in bytes a second. burst: limit and first value, in bytes."""
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at_ns = now_ns

    def left(self, now_ns: int) -> float:
        """Return the bytes that the app may add to the trail now; negative if it has added too many."""
        if now_ns > self._at_ns:
            self._left = min(self._burst, self._left + (now_ns - self._at_ns) * self._rate / _SECOND_NS)
            self._at_ns = now_ns
        return self._left

    def spend(self, size: int, now_ns: int) -> float:
        """Subtract *size* bytes. Return the seconds until the budget is no longer negative, or 0."""
        self._left = self.left(now_ns) - size
        return max(0.0, -self._left / self._rate)

    def is_full(self, now_ns: int) -> bool:
        """Return True if the budget is at its limit, as a new Budget would be."""
        return self.left(now_ns) >= self._burst

"""Budgets: limits of the trail bytes that one app causes per second (pure)."""

from __future__ import annotations

_SECOND_NS = 1_000_000_000


class Budget:
    """One app's budget: a bucket that fills at a fixed rate of bytes a second, up to a limit.

    An event that must be written may take more bytes than are left. The bucket then has a debt, and stays
    empty until the debt is paid back. Times are ns of a clock that never goes back. Not thread-safe.
    """

    __slots__ = ("_at_ns", "_burst", "_left", "_rate")

    def __init__(self, rate: int, burst: int, now_ns: int) -> None:
        """rate: bytes a second. burst: the limit of the bucket, for a time without events before."""
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at_ns = now_ns

    def left(self, now_ns: int) -> float:
        """Return the bytes that are left now; a debt is negative."""
        if now_ns > self._at_ns:
            self._left = min(self._burst, self._left + (now_ns - self._at_ns) * self._rate / _SECOND_NS)
            self._at_ns = now_ns
        return self._left

    def spend(self, size: int, now_ns: int) -> float:
        """Spend *size* bytes. Return the seconds until the debt is paid back, or 0 without a debt."""
        self._left = self.left(now_ns) - size
        return max(0.0, -self._left / self._rate)

    def is_full(self, now_ns: int) -> bool:
        """Return True if the bucket is full, so that a new budget would be the same."""
        return self.left(now_ns) >= self._burst

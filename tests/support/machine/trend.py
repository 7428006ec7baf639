"""Whether a figure that is sampled over time stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

SETTLED: Final = 0.25
"""The first part of a run, in which caches fill, is not looked at."""


@dataclass(frozen=True, slots=True)
class Trend:
    """What a series did in the rest of its run.

    growth: what the fitted straight line gains from the first sample looked at to the last one.
    """

    mean: float
    lowest: float
    highest: float
    growth: float


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a straight line (least squares) through all but the first quarter of the time."""
    begin = times_s[0] + SETTLED * (times_s[-1] - times_s[0])
    points = [(t, v) for t, v in zip(times_s, values, strict=True) if t >= begin]
    later = [value for _, value in points]
    middle_t, middle_v = fmean(t for t, _ in points), fmean(later)
    spread = sum((t - middle_t) ** 2 for t, _ in points)
    slope = sum((t - middle_t) * (v - middle_v) for t, v in points) / spread if spread else 0.0
    return Trend(middle_v, min(later), max(later), slope * (points[-1][0] - points[0][0]))

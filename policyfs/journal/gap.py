"""Gaps: records of the trail with the number of events that have no record, and the reason."""

from __future__ import annotations

from typing import Final

from policyfs.trail.bounds import cut_text
from policyfs.trail.line import iso_time

_REASON_CHARS: Final = 400


class Gap:
    """The number of events that have no record in the trail, with the first and last time and the reason.

    dropped: the number of best-effort events that happened without a record. refused: the number of requests
    that got an error because they could not be recorded. These requests accessed nothing.
    """

    __slots__ = ("dropped", "first_ns", "last_ns", "reason", "refused")

    def __init__(self, reason: str, time_ns: int) -> None:
        self.dropped = 0
        self.refused = 0
        self.first_ns = time_ns
        self.last_ns = time_ns
        self.reason = cut_text(reason, _REASON_CHARS)

    def include(self, time_ns: int) -> None:
        """Note the time of an event of this gap. Events may come in another order than their times."""
        self.first_ns = min(self.first_ns, time_ns)
        self.last_ns = max(self.last_ns, time_ns)

    def fields(self) -> dict[str, object]:
        """Return the fields of this gap's record, without type, seq (number of the line) and time."""
        return {
            "dropped": self.dropped,
            "refused": self.refused,
            "first": iso_time(self.first_ns),
            "last": iso_time(self.last_ns),
            "reason": self.reason,
        }

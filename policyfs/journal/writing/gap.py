"""Gaps: records of the trail with the number of events that have no record, and the reason."""

from __future__ import annotations

from typing import Final

from policyfs.trail.lines.bounds import cut_text
from policyfs.trail.lines.event import Event
from policyfs.trail.lines.line import iso_time

_REASON_CHARS: Final = 400
_NAMED: Final = 16
"""The refused requests that a gap names. With the longest names, they take less than half of a line."""
_PATH_CHARS: Final = 256


class Gap:
    """Events that have no record in the trail. dropped: the best-effort events among them, which happened.
    refused: requests that got an error because they could not be recorded, and accessed nothing."""

    __slots__ = ("_requests", "dropped", "first_ns", "last_ns", "reason", "refused")

    def __init__(self, reason: str, time_ns: int) -> None:
        self.dropped = 0
        self.refused = 0
        self._requests: dict[tuple[str, str, str], int] = {}
        self.first_ns = time_ns
        self.last_ns = time_ns
        self.reason = cut_text(reason, _REASON_CHARS)

    def include(self, time_ns: int) -> None:
        """Note the time of an event of this gap. Events may come in another order than their times."""
        self.first_ns = min(self.first_ns, time_ns)
        self.last_ns = max(self.last_ns, time_ns)

    def refuse(self, event: Event) -> None:
        """Count a refused request. The first _NAMED apps, operations and paths are kept, with counts."""
        self.refused += 1
        self.include(event.time_ns)
        path = cut_text(event.path.decode("utf-8", "backslashreplace"), _PATH_CHARS)
        key = cut_text(event.app, _PATH_CHARS), event.operation, path
        if key in self._requests or len(self._requests) < _NAMED:
            self._requests[key] = self._requests.get(key, 0) + 1

    def fields(self) -> dict[str, object]:
        """Return the fields of this gap's record, without type, seq (number of the line) and time."""
        fields: dict[str, object] = {
            "dropped": self.dropped,
            "refused": self.refused,
            "first": iso_time(self.first_ns),
            "last": iso_time(self.last_ns),
            "reason": self.reason,
        }
        if self._requests:
            fields["requests"] = [
                {"app": app, "operation": operation, "path": path, "count": count}
                for (app, operation, path), count in self._requests.items()
            ]
        return fields

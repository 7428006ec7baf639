"""Records of lost workers (they died, took too long, or gave a wrong answer): at most one record a second,
with exact counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from policyfs.journal.writing.journal import Journal

_EVERY_S: Final = 1.0
RECENT_NS: Final = 600 * 1_000_000_000
"""The time for which a lost worker is a problem of the mount."""


class WorkerLosses:
    """Puts lost workers on record: the difference between their counts now and those on record."""

    def __init__(
        self, journal: Journal, warn: Callable[[str], None], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal: Final = journal
        self._warn: Final = warn
        self._warned: set[str] = set()
        self._now_s: Final = now_s
        self._told: dict[str, int] = {}
        self._told_s = now_s() - _EVERY_S

    def is_due(self, counts: Mapping[str, int]) -> bool:
        """Return True if some losses are not on record yet. counts: the losses since the start, by cause."""
        return any(count != self._told.get(why, 0) for why, count in counts.items())

    def flush(self, counts: Mapping[str, int], last_error: str) -> None:
        """Record the workers lost since the last record, and flush the journal. May wait for the disk. Log
        defects of the trail, each once. counts: the losses since the start, by cause."""
        more = {why: count - self._told.get(why, 0) for why, count in counts.items()}
        lost = {why: count for why, count in more.items() if count}
        if lost and self._now_s() >= self._told_s + _EVERY_S and not self._journal.stats().failing:
            self._told, self._told_s = dict(counts), self._now_s()
            self._journal.tell("worker", {"lost": lost, "reason": last_error})
        self._journal.flush()
        stats = self._journal.stats()
        for text in (stats.last_end, stats.kept_back):
            if text and text not in self._warned:
                self._warned.add(text)
                self._warn(text)

"""Folding of repeated denials: the first is recorded in full, repeats are counted (pure).

An app that hammers at one forbidden file would otherwise fill the trail with one sentence.
A denial is a repeat if everything but its time and handle equals that of one recorded less
than a window ago. Only denials fold: nothing that gave access is ever counted instead of told.
"""

from __future__ import annotations

from dataclasses import dataclass

from policyfs.trail.event import DENY, Event

_Key = tuple[object, ...]


@dataclass(slots=True)
class _Run:
    first: Event
    last_ns: int
    repeats: int = 0


def _key(event: Event) -> _Key:
    return (
        event.path,
        event.pid,
        event.operation,
        event.uid,
        event.syscall,
        event.errno,
        event.app,
        event.gid,
        event.rules,
        event.new_path,
        event.policy_digest,
    )


class DenialFold:
    """Which denials are on record right now, and how often each was repeated since.

    window_ns: how long a recorded denial stands for its repeats; 0 turns folding off.
    limit: how many are remembered; beyond it denials are recorded in full.
    Not thread-safe: the journal calls it under its own lock.
    """

    def __init__(self, window_ns: int, limit: int = 1024) -> None:
        self._window_ns = window_ns
        self._limit = limit
        self._runs: dict[_Key, _Run] = {}
        self._done: list[Event] = []

    def absorb(self, event: Event) -> bool:
        """True if the event is a repeat and now counted; False if it must be recorded."""
        if event.decision != DENY:
            return False
        run = self._runs.get(_key(event))
        if run is None:
            return False
        if not 0 <= event.time_ns - run.first.time_ns < self._window_ns:
            del self._runs[_key(event)]
            self._finish(run)
            return False
        run.repeats += 1
        run.last_ns = event.time_ns
        return True

    def recorded(self, event: Event) -> None:
        """A denial went on record: from now on it stands for its repeats."""
        if event.decision == DENY and self._window_ns and len(self._runs) < self._limit:
            self._runs[_key(event)] = _Run(event, event.time_ns)

    def collect(self, now_ns: int, *, all_of_them: bool = False) -> list[Event]:
        """The counts whose window is over, each as one event with ``repeats``; forgets them."""
        over = [
            key
            for key, run in self._runs.items()
            if all_of_them or not 0 <= now_ns - run.first.time_ns < self._window_ns
        ]
        for key in over:
            self._finish(self._runs.pop(key))
        done, self._done = self._done, []
        return done

    def _finish(self, run: _Run) -> None:
        if run.repeats:
            first = run.first
            self._done.append(
                first._replace(time_ns=run.last_ns, since_ns=first.time_ns, repeats=run.repeats)
            )

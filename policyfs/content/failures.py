"""Counts of the requests to workers that got no answer, by cause; and a snapshot of all sniffer counts."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

_OF_THE_FILE: Final = frozenset({"deadline", "died"})
"""The causes of failures that may be the file's fault."""
_LOSSES: Final = frozenset({"died", "lied"})
"""The causes of failures that set last_loss_ns. (A worker that is killed at the deadline does not set this
time.)"""


@dataclass(frozen=True, slots=True)
class SnifferStats:
    """Counters of the sniffer since the daemon's start; pids, queued and in_flight are present values.

    repeated: how often a request was sent again because its worker was lost. failed: number of failed
    requests for each cause. ``died``: the worker ended. ``deadline``: no answer in time. ``missed``: not
    tried, because shortly before, another request for the file had failed (missed.py). ``busy``: no
    worker was free. ``refused``: the worker answered with an error. ``lied``: the answer was one that no
    correct worker gives. confinement: the measures that confine a worker, e.g. ``chroot, uid 2100000000,
    no_new_privs, limits, landlock 7, seccomp``. last_error: the last failure in words, "" if there was none.
    last_loss_ns: time of the last loss of a worker (it died, lied, or could not be started), in ns since
    1970; 0: never.
    """

    zygote_pid: int
    worker_pids: tuple[int, ...]
    requests: int
    repeated: int
    failed: dict[str, int]
    queued: int
    in_flight: int
    workers_started: int
    zygotes_started: int
    confinement: str
    last_error: str
    last_loss_ns: int


class FailedError(Exception):
    """The error for a request without an answer. why: a key of SnifferStats.failed. The message is for
    people.

    outside: True if another process ended or stopped the worker or the zygote. gave_up: True if the worker
    answered that it does not go on: its memory was not enough, or a parser has a bug. started: False if no
    worker had started, so that no worker read the file.
    """

    def __init__(
        self, why: str, text: str, *, outside: bool = False, gave_up: bool = False, started: bool = True
    ) -> None:
        super().__init__(text)
        self.why = why
        self.outside = outside
        self.gave_up = gave_up
        self._started = started

    @property
    def is_temporary(self) -> bool:
        """True if the file perhaps gets an answer later: a disk or the machine may have been too slow."""
        return self.outside or not self._started or self.why in {"deadline", "busy"}

    @property
    def of_the_file(self) -> bool:
        """True if the file may be the cause, so that it would probably cause the same at the next request."""
        return self.gave_up or (self.why in _OF_THE_FILE and self._started and not self.outside)


class NoAnswerError(Exception):
    """The error for a request that no worker has answered in time. A later request may get an answer."""


class Failures:
    """A counter of failed requests for each cause, with the text of the last failure."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last_error = ""
        self.last_loss_ns = 0

    def count(self, why: str, text: str) -> None:
        """Count a failure. why: its cause, a key of SnifferStats.failed. text: the cause for people."""
        self.counts[why] += 1
        self.last_error = text
        if why in _LOSSES:
            self.last_loss_ns = time.time_ns()
